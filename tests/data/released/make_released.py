"""Make a data directory as a released version of imgpro made it: run that version, and use it.

    git archive COMMIT | tar -x -C CHECKOUT
    python tests/data/released/make_released.py CHECKOUT

writes `schema-N.tar.gz` and `schema-N.json` (what must still hold later) beside this file. Only the real server of that
version writes the data; this script speaks HTTP.
"""

import fcntl
import hashlib
import http.client
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from PIL import Image

HERE = Path(__file__).resolve().parent
# Nothing in it may end by itself before the test that opens it.
FOREVER = {
    "IMGPRO_ANONYMOUS_RETENTION": "unlimited",
    "IMGPRO_ANONYMOUS_RETENTION_S": "unlimited",
    "IMGPRO_ACCOUNTS_SESSION_S": "36500d",
    "IMGPRO_ACCOUNTS_VERIFY_LINK_S": "36500d",
    "IMGPRO_PLANS_UNVERIFIED_RETENTION_S": "unlimited",
}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Old:
    """The server of a checkout, on a free port."""

    def __init__(self, checkout: Path, data: Path) -> None:
        self.checkout, self.data = checkout, data
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("IMGPRO_")} | FOREVER
        command = [sys.executable, "-m", "imgpro", "run", "--data", str(data), "--listen", "127.0.0.1:0"]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        fcntl.fcntl(self.log, fcntl.F_SETFL, os.O_APPEND)
        self.process = subprocess.Popen(command, cwd=checkout, env=self.env, stderr=self.log, stdout=self.log)
        while not (found := re.search(r"open +http://127\.0\.0\.1:(\d+)", self.words())):
            assert self.process.poll() is None, self.words()
            time.sleep(0.05)
        self.port = int(found[1])

    def words(self) -> str:
        return os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0).decode()

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {**named, "Origin": f"http://127.0.0.1:{self.port}"})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def upload(self, body: bytes, name: str, key: str | None = None, **fields: str) -> dict[str, Any]:
        edge = uuid.uuid4().hex
        parts = [f'--{edge}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
        parts.append(f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n')
        content = "".join(parts).encode() + body + f"\r\n--{edge}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        status, _, answer = self.ask("POST", "/v1/upload", content, **headers)
        assert status == 201, answer
        found: dict[str, Any] = json.loads(answer)
        return found

    def kept(self, found: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        """Return what must hold later of a picture: its bytes at its link."""
        path = _path(found["src"])
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        status, _, body = self.ask("GET", path, **headers)
        assert status == 200, (path, status)
        page = _path(found["url"])
        return {"id": found["id"], "src": path, "page": page, "sha256": hashlib.sha256(body).hexdigest(), "key": key}

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(40) == 0, self.words()


def _path(link: str) -> str:
    parts = urlsplit(link)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def picture(number: int, kind: str) -> bytes:
    """Return a tiny picture, another one for each number."""
    image = Image.new("RGB", (24, 16), (number * 37 % 256, number * 91 % 256, 80))
    image.putpixel((number % 24, number % 16), (255, 255, 255))
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def fill(old: Old, schema: int) -> dict[str, Any]:
    """Use the server as people did, and return what must still hold."""
    pictures = [old.kept(old.upload(picture(n, kind), f"päng {n}.{kind}")) for n, kind in enumerate(("PNG", "JPEG"))]
    private = old.upload(picture(2, "PNG"), "hidden.png", public="false")
    pictures.append(old.kept(private))  # its link is signed with the data directory's own secret
    bare = private["src"].partition("?")[0]
    found: dict[str, Any] = {"pictures": pictures, "hidden": [_path(bare)], "accounts": [], "sessions": []}
    found["delete"] = _path(old.upload(picture(3, "WEBP"), "to delete.webp")["delete_url"])
    if schema == 1:
        return found
    for email, verified in (("ann@example.org", True), ("bob@example.org", False)):
        status, _, answer = old.ask("POST", "/v1/keys", json.dumps({"email": email}).encode())
        assert status == 201, answer
        made = json.loads(answer)
        if verified:
            command = [sys.executable, "-m", "imgpro", "accounts", "verify", email, "--data", str(old.data)]
            subprocess.run(command, cwd=old.checkout, env=old.env, check=True, stdout=subprocess.DEVNULL)
        key, base = made["key"], 10 * len(found["accounts"]) + 10
        mine = [
            old.upload(picture(base, "PNG"), "mine.png", key, tags="holiday,café", description="Sëa"),
            old.upload(picture(base + 1, "JPEG"), "secret.jpg", key, public="false", namespace="family"),
        ]
        found["pictures"] += [old.kept(one, key) for one in mine]
        found["hidden"].append(_path(mine[1]["src"].partition("?")[0]))
        found["accounts"].append({"email": email, "key": key, "verified": verified, "ids": [one["id"] for one in mine]})
    link = re.search(r"/setup\?t=(\w+)", old.words())
    assert link is not None
    status, headers, body = old.ask(
        "POST", "/setup", urlencode({"t": link[1], "email": "op@example.org"}).encode(), **FORM
    )
    assert status == 200, body
    found["sessions"].append({"email": "op@example.org", "cookie": headers["Set-Cookie"].partition(";")[0]})
    return found


def main(checkout: Path) -> None:
    """Make both files for the version in `checkout`."""
    schema = len(list((checkout / "imgpro/store/migrations").glob("0*.sql")))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        old = Old(checkout, data)
        try:
            found = fill(old, schema)
        finally:
            old.stop()
        with sqlite3.connect(data / "imgpro.db") as conn:
            assert conn.execute("PRAGMA user_version").fetchone() == (schema,)
            found["schema"] = schema
            found["images"] = conn.execute("SELECT count(*) FROM images").fetchone()[0]
        conn.close()
        with tarfile.open(HERE / f"schema-{schema}.tar.gz", "w:gz", compresslevel=9) as tar:
            tar.add(data, "data", filter=_anonymous)
    text = json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True)
    (HERE / f"schema-{schema}.json").write_text(text + "\n", encoding="utf-8")


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what a start makes again, and who made the rest."""
    if entry.name in ("data/.ballast", "data/admin.sock", "data/imgpro.lock") or entry.name.startswith("data/cache/"):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
