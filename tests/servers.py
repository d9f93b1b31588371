"""A real server process for tests, and a small client that shows exactly what went over the wire."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgpro.cli import office
from imgpro.sources import load
from tests.transcripts import Transcript

ROOT = Path(__file__).resolve().parent.parent
UNLIMITED = {
    "IMGPRO_ANONYMOUS_UPLOADS_PER_HOUR": "unlimited",
    "IMGPRO_ANONYMOUS_UPLOADS_PER_DAY": "unlimited",
    "IMGPRO_ANONYMOUS_ATTEMPTS_PER_MINUTE": "unlimited",
    "IMGPRO_IMPORTS_PER_HOUR": "unlimited",
    "IMGPRO_ACCOUNTS_KEYS_PER_ADDRESS_PER_HOUR": "unlimited",
    "IMGPRO_ACCOUNTS_KEYS_PER_NETWORK_PER_HOUR": "unlimited",
    "IMGPRO_ACCOUNTS_REQUESTS_PER_MINUTE": "unlimited",
}
START_S = 60.0  # every start syncs the disk, which others may keep busy


class Answer:
    """One HTTP answer."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<{self.status} {self.headers.get('Content-Type')} {self.body[:200]!r}>"


class Server:
    """`imgpro run` as a child process on a free loopback port."""

    def __init__(
        self,
        data: Path,
        env: Mapping[str, str] | None = None,
        *args: str,
        prefix: Sequence[str] = (),
        preexec: Callable[[], None] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "imgpro"),
    ) -> None:
        """`prefix` stands before the command (a tracer, say); `preexec` runs in the child before it."""
        self.data = data
        self._program = program
        self._prefix = prefix
        self._preexec = preexec
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("IMGPRO_")}
        self.env = {**inherited, **(env or {})}
        self._args = args
        self._log = Transcript()
        self.process: subprocess.Popen[bytes] | None = None
        self.host = "127.0.0.1"
        self.port = 0

    def start(self) -> "Server":
        command = [*self._program, "run", "--data", str(self.data), "--listen", "127.0.0.1:0"]
        read_from = len(self._log.text())
        self.process = subprocess.Popen(
            [*self._prefix, *command, *self._args],
            env=self.env,
            cwd=ROOT,
            stderr=self._log,
            stdout=self._log,
            preexec_fn=self._preexec,
        )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            match = re.search(r"https?://127\.0\.0\.1:(\d+)", self._log.text()[read_from:])
            if match:
                self.port = int(match[1])
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"the server did not start:\n{self.log()}")

    def log(self) -> str:
        """What it has written; a thread of its own writes, so that the last line may be a moment late."""
        time.sleep(0.1)
        return self._log.text()

    @property
    def base(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self, number: int = signal.SIGTERM, timeout: float = 40.0) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()

    def close(self) -> None:
        if self.process is not None:
            self.stop(signal.SIGKILL)
        self._log.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        path = path.removeprefix(self.base)
        return self.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def upload(
        self,
        body: bytes,
        filename: str = "picture",
        /,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **fields: str,
    ) -> Answer:
        content, kind = multipart([("file", filename, body), *((k, None, v.encode()) for k, v in fields.items())])
        return self.request("POST", "/v1/upload", content, {"Content-Type": kind, **bearer(key), **(headers or {})})

    def must_upload(
        self, body: bytes, filename: str = "picture", /, *, key: str | None = None, **fields: str
    ) -> dict[str, Any]:
        answer = self.upload(body, filename, key=key, **fields)
        assert answer.status == 201, answer
        found: dict[str, Any] = answer.json()
        return found

    def api(self, method: str, path: str, body: Any = None, *, key: str | None = None, **headers: str) -> Answer:
        """Ask for something with a JSON body."""
        content = None if body is None else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        kind = {} if body is None else {"Content-Type": "application/json"}
        return self.request(method, path.removeprefix(self.base), content, {**kind, **bearer(key), **named})

    def new_key(self, email: str, *, verified: bool = True, **fields: Any) -> str:
        """Create an account and return its key; `verified` by the operator's word."""
        answer = self.api("POST", "/v1/keys", {"email": email, **fields})
        assert answer.status == 201, answer
        made = answer.json()
        if verified:
            self.operate("verify", email=email, keep=[made["key_id"]])
        secret: str = made["key"]
        return secret

    def operate(self, command: str, **values: Any) -> dict[str, Any]:
        """Carry out an operator's command on the running server."""
        return office.perform(load({}, None, {}), self.data, command, values)


def send_as_given(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    body: bytes | None = None,
) -> Answer:
    """Send one request with these headers in this order, a name twice if it is there twice; a Host if there is none."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    connection.putrequest(method, path, skip_host=True)
    if "host" not in {name.lower() for name, _ in pairs}:
        connection.putheader("Host", "img.test")
    for name, value in pairs:
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


def bearer(key: str | None) -> dict[str, str]:
    """Return the header that carries a key."""
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def multipart(parts: list[tuple[str, str | None, bytes]]) -> tuple[bytes, str]:
    """Return a form's body and content type; parts are (field, file name or None, content)."""
    boundary = uuid.uuid4().hex
    out = bytearray()
    for field, filename, content in parts:
        disposition = f'form-data; name="{field}"'
        if filename is not None:
            escaped = filename.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
            disposition += f'; filename="{escaped}"'
        out += f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"
    out += f"--{boundary}--\r\n".encode()
    return bytes(out), f"multipart/form-data; boundary={boundary}"


@contextlib.contextmanager
def held_open(
    server: Server, method: str, path: str, content: bytes, headers: Mapping[str, str]
) -> Iterator[Callable[[], Answer]]:
    """Send a request but for the end of its body; yield a function that sends the rest and returns the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest(method, path)
    for name, value in {**headers, "Content-Length": str(len(content))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    begun = min(50, len(content) // 2)
    connection.send(content[:begun])
    time.sleep(0.3)  # until the server waits for the rest

    def rest() -> Answer:
        connection.send(content[begun:])
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())

    try:
        yield rest
    finally:
        connection.close()


@contextlib.contextmanager
def running(data: Path, env: Mapping[str, str] | None = None, *args: str) -> Iterator[Server]:
    """Start a server and end it, whatever happens between."""
    server = Server(data, env, *args)
    try:
        yield server.start()
    finally:
        server.close()


def leftovers(data: Path) -> list[str]:
    """Return what lies in `tmp/`, which is empty whenever no request is under way."""
    return sorted(path.name for path in (data / "tmp").iterdir())


def blobs(data: Path) -> list[Path]:
    """Return the stored originals."""
    return [path for path in (data / "blobs").rglob("*") if path.is_file()]
