"""An object store for tests: moto's S3 as a process of its own on loopback. It checks signatures and permissions.

Run as a program it is the server: it prints its port and the keys as a line of JSON.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.certificates import Pair

ROOT = Path(__file__).resolve().parent.parent
BUCKET = "pictures-backup"


class ObjectStore:
    """A store that runs. `key` may do everything, `stranger` is known and may do nothing."""

    def __init__(self, process: subprocess.Popen[str], scheme: str) -> None:
        assert process.stdout is not None
        self._process = process
        told = json.loads(process.stdout.readline())
        self.port: int = told["port"]
        self.endpoint = f"{scheme}://127.0.0.1:{self.port}"
        self.key: tuple[str, str] = tuple(told["key"])
        self.stranger: tuple[str, str] = tuple(told["stranger"])

    def settings(self, folder: str = "", **other: str) -> dict[str, str]:
        """Return the variables that send imgpro's backups here."""
        values = {
            "to": f"s3://{BUCKET}/{folder}".rstrip("/"),
            "s3_endpoint": self.endpoint,
            "s3_key_id": self.key[0],
            "s3_secret": self.key[1],
            **other,
        }
        return {f"IMGPRO_BACKUP_{name.upper()}": value for name, value in values.items()}

    def client(self) -> Any:
        """Return another program's way to the same objects."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key[0],
            aws_secret_access_key=self.key[1],
            region_name="us-east-1",
        )

    def names(self, prefix: str = "") -> list[str]:
        """Return the names of what lies there."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def content(self, name: str) -> bytes:
        """Return the bytes of an object."""
        found: bytes = self.client().get_object(Bucket=BUCKET, Key=name)["Body"].read()
        return found

    def replace(self, name: str, content: bytes) -> None:
        """Put other bytes where an object is."""
        self.client().put_object(Bucket=BUCKET, Key=name, Body=content)

    def remove(self, name: str) -> None:
        """Take an object away."""
        self.client().delete_object(Bucket=BUCKET, Key=name)

    def freeze(self) -> None:
        """Let it accept connections and answer nothing any more."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; what it held is gone with it."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def object_store(pair: Pair | None = None) -> Iterator[ObjectStore]:
    """Run a store with an empty bucket; with a certificate it speaks TLS."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.objects", *([str(pair.cert), str(pair.key)] if pair else [])],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield ObjectStore(process, "https" if pair else "http")
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def main() -> None:
    """Serve until killed."""
    from moto import settings
    from moto.iam.models import iam_backends
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from moto.s3.models import s3_backends
    from werkzeug.serving import make_server

    account = "123456789012"
    iam = iam_backends[account]["aws"]
    may_all = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}
    iam.create_user("us-east-1", "operator")
    iam.put_user_policy("operator", "all", json.dumps(may_all))
    iam.create_user("us-east-1", "stranger")
    keys = [iam.create_access_key(name) for name in ("operator", "stranger")]
    s3_backends[account]["aws"].create_bucket(BUCKET, "us-east-1")
    os.environ["MOTO_S3_DEFAULT_MAX_KEYS"] = "100"  # a list has many pages soon
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0  # from now on whoever asks has to sign

    class Quiet(MotoRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: object) -> None:
            """Write nothing."""

    app, tls = DomainDispatcherApplication(create_backend_app), tuple(sys.argv[1:3]) or None
    server = make_server("127.0.0.1", 0, app, True, request_handler=Quiet, ssl_context=tls)
    told: Mapping[str, object] = {
        "port": server.server_address[1],
        "key": (keys[0].access_key_id, keys[0].secret_access_key),
        "stranger": (keys[1].access_key_id, keys[1].secret_access_key),
    }
    print(json.dumps(told), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
