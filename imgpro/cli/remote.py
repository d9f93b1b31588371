"""One imgpro server as the commands see it from afar: its address, one request to it, and what the answer means.

Nothing here raises for what a network or a server does: every request has an `Outcome`, because the caller decides
whether to try again, to wait, or to give up. Plain `http.client`: a screenshot tool waits for this to be imported.
"""

import contextlib
import http.client
import ipaddress
import json
import os
import re
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from imgpro.cli.pictures import Picture, PictureChanged
from imgpro.cli.words import plain
from imgpro.errors import Action, ConfigError, OperatorError, ServerUnreachable

CONNECT_S: Final = 10.0
ANSWER_S: Final = 120.0  # a large picture is decoded before it is acknowledged
CHUNK_BYTES: Final = 65_536
MAX_ANSWER_BYTES: Final = 1_048_576
MAX_WAIT_S: Final = 86_400
LINKS: Final = {"src": "src", "page": "url", "markdown": "markdown", "html": "html", "bbcode": "bbcode"}

_LOCAL_NAMES: Final = (".local", ".lan", ".home", ".internal", ".localhost", ".home.arpa", ".localdomain", ".test")
# No character that means anything to a shell, to JSON or to curl: keys are written into files of other programs.
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)
_HOST: Final = re.compile(r"[^\s/?#@\\\"'<>]+")
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~%\-]+)*")

Verdict = Literal["sent", "known", "refused", "later", "useless"]


class Outcome(msgspec.Struct, frozen=True):
    """What came of a request.

    `sent`: done. `known`: this Idempotency-Key has stored a picture before. `refused`: not this picture. `later`: the
    same request may work in `wait_s` seconds. `useless`: no request will work until somebody changes something.
    """

    verdict: Verdict
    answer: dict[str, Any]
    error: OperatorError | None = None
    wait_s: float = 0.0
    status: int = 0  # of the answer; 0 where there was none
    never_connected: bool = False

    @property
    def problem(self) -> OperatorError:
        """The error of an outcome that is not `sent`."""
        return self.error or OperatorError("The upload failed.")


class Server(msgspec.Struct, frozen=True):
    """Where to send and with which key. `base` has no slash at its end."""

    base: str
    key: str | None = None

    def upload(
        self, picture: Picture, fields: Mapping[str, str], key: str, on_bytes: Callable[[int], None] | None = None
    ) -> Outcome:
        """Send a picture under an Idempotency-Key. `on_bytes` hears how many went out, less what was in vain."""
        sent = 0

        def count(more: int) -> None:
            nonlocal sent
            sent += more
            if on_bytes is not None:
                on_bytes(more)

        outcome = self._upload(picture, fields, key, count)
        if outcome.verdict == "later" and on_bytes is not None:
            on_bytes(-sent)
        return outcome

    def probe(self) -> Outcome:
        """Ask whether this server would take a picture with this key, without sending one."""
        outcome = self._request(lambda connection: _send_empty(connection, self._path("/v1/upload"), self._headers()))
        if outcome.status == 422 and outcome.error is not None and "file" in outcome.error.details:
            return Outcome("sent", {})
        if outcome.verdict == "sent":  # nothing that takes pictures says yes to none
            return _foreign(self.base, outcome.status)
        return outcome

    def usage(self) -> Outcome:
        """Ask what the key's account has used."""
        path, headers = self._path("/v1/usage"), self._headers()
        return self._request(lambda connection: connection.request("GET", path, headers=headers))

    def new_key(self, name: str, abilities: tuple[str, ...]) -> Outcome:
        """Ask for another key of the account."""
        body = json.dumps({"name": name, "abilities": abilities}).encode()
        headers = {**self._headers(), "Content-Type": "application/json"}
        return self._request(lambda connection: connection.request("POST", self._path("/v1/keys"), body, headers))

    def _upload(self, picture: Picture, fields: Mapping[str, str], key: str, count: Callable[[int], None]) -> Outcome:
        head, tail, kind = _form(fields, picture)
        headers = {
            **self._headers(),
            "Content-Type": kind,
            "Content-Length": str(len(head) + picture.size + len(tail)),
            "Idempotency-Key": key,
        }

        def send(connection: http.client.HTTPConnection) -> None:
            connection.putrequest("POST", self._path("/v1/upload"), skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(head)
            for chunk in picture.chunks(CHUNK_BYTES):
                if _answered_early(connection):
                    return
                connection.send(chunk)
                count(len(chunk))
            connection.send(tail)

        try:
            outcome = self._request(send)
        except PictureChanged as problem:
            return Outcome("refused", {}, problem)
        if outcome.verdict == "sent" and not _is_link(outcome.answer.get("src")):
            return _foreign(self.base, outcome.status)
        return outcome

    def _request(self, send: Callable[[http.client.HTTPConnection], None]) -> Outcome:
        connection = self._connection()
        try:
            connection.connect()
        except (OSError, UnicodeError) as error:
            connection.close()
            return _unreachable(self.base, error)
        try:
            assert connection.sock is not None
            connection.sock.settimeout(ANSWER_S)
            # A server that refuses a file may close before it has all of it: the answer may still be there to read.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                send(connection)
            response = connection.getresponse()
            body = response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            return _lost(self.base, error)
        finally:
            connection.close()
        return _judge(self.base, response, body)

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.base)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port, timeout=CONNECT_S)
        return http.client.HTTPSConnection(host, parts.port, timeout=CONNECT_S)  # trusts what the system trusts

    def _path(self, path: str) -> str:
        return urlsplit(self.base).path + path

    def _headers(self) -> dict[str, str]:
        own = {"Accept": "application/json", "User-Agent": "imgpro"}
        return own if self.key is None else {**own, "Authorization": f"Bearer {self.key}"}


def parse_server(text: str) -> tuple[str, str | None]:
    """Return the address that requests start with, and what to tell about it, if anything. Raises ConfigError."""
    address, told = text.strip().rstrip("/"), None
    if "://" not in address:
        scheme = "http" if is_local(address) else "https"
        address = f"{scheme}://{address}"
        told = f"Taking {scheme}:// for {text.strip()}."
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:  # of a port that is none, and of a name that is none
        raise _bad_address(text) from None
    netloc = f"[{host}]" if ":" in host else host
    if (
        parts.scheme not in ("http", "https")
        or not _HOST.fullmatch(host)
        or parts.netloc.lower() not in (netloc, f"{netloc}:{port}")
        or not _PATH.fullmatch(parts.path)
        or parts.query
        or parts.fragment
    ):
        raise _bad_address(text)
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path}", told


def check_key(text: str) -> str:
    """Return a key as it goes into a header. Raises ConfigError."""
    key = text.strip()
    if not _KEY.fullmatch(key):
        label = "Copy the whole key from the server's page Connect, without spaces"
        raise ConfigError("That is not an API key.", Action("fix", label=label))
    return key


def goes_in_the_clear(base: str) -> bool:
    """Tell whether a key sent there crosses networks that are not one's own unencrypted."""
    parts = urlsplit(base)
    return parts.scheme == "http" and not is_local(parts.netloc)


def is_local(address: str) -> bool:
    """Tell whether an address without scheme is of this machine or of a network at home."""
    host = urlsplit(f"//{address}").hostname or ""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_LOCAL_NAMES)
    return found.is_private or found.is_loopback or found.is_link_local


def _bad_address(text: str) -> ConfigError:
    label = "An address such as http://img.lan:8080 or https://img.example.org"
    return ConfigError(f"{text!r} is not the address of a server.", Action("fix", label=label))


def _form(fields: Mapping[str, str], picture: Picture) -> tuple[bytes, bytes, str]:
    """Return what stands before and after the file in a multipart form, and the form's content type.

    The name travels as a field of its own, where every character may stand.
    """
    boundary = f"imgpro{os.urandom(16).hex()}"
    head = bytearray()
    named = {"name": picture.name} if picture.name else {}
    for name, value in {**named, **fields}.items():
        head += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
        head += value.encode("utf-8", "replace") + b"\r\n"
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename=""\r\n'.encode()
    head += f"Content-Type: {picture.content_type}\r\n\r\n".encode()
    return bytes(head), f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _send_empty(connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str]) -> None:
    connection.request("POST", path, b"", {**headers, "Content-Length": "0"})


def _answered_early(connection: http.client.HTTPConnection) -> bool:
    """Tell whether the server has something to say before it has the whole file. Over TLS that cannot be seen."""
    sock = connection.sock
    return type(sock) is socket.socket and bool(select.select([sock], [], [], 0)[0])


def _is_link(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://")) and value.isprintable()


def _unreachable(base: str, error: Exception) -> Outcome:
    """Judge that no connection came about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        label = "A certificate that this machine trusts; SSL_CERT_FILE names a file with one that it does not know"
        said = f"The certificate of {base} is not trusted: {error.verify_message}."
        return Outcome("useless", {}, ServerUnreachable(said, Action("fix", label=label)))
    if isinstance(error, ssl.SSLError):
        label = f"http://{base.partition('://')[2]} if it is a plain server"
        return Outcome("useless", {}, ServerUnreachable(f"{base} does not speak TLS.", Action("fix", label=label)))
    reason = "it takes too long" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or str(error)
    label = "Check the address, and that the server runs"
    problem = ServerUnreachable(f"{base} cannot be reached: {reason}.", Action("fix", label=label))
    return Outcome("later", {}, problem, never_connected=True)


def _lost(base: str, error: Exception) -> Outcome:
    """Judge that a connection broke before the answer was here."""
    reason = "no answer came in time" if isinstance(error, TimeoutError) else "the connection was lost"
    label = "Try again when the network is better"
    return Outcome("later", {}, ServerUnreachable(f"{base}: {reason}.", Action("fix", label=label)))


def _judge(base: str, response: http.client.HTTPResponse, body: bytes) -> Outcome:
    status = response.status
    if 300 <= status < 400:
        return _moved(base, response)
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    not_ours = not isinstance(answer, dict) or (status >= 400 and not isinstance(answer.get("error"), str))
    if not_ours or status in (404, 405):
        return _foreign(base, status)
    if status < 300:
        return Outcome("sent", answer, status=status)
    return Outcome(
        _verdict(status, answer["error"]), answer, _as_error(base, answer), _wait_s(response, answer), status
    )


def _verdict(status: int, code: str) -> Verdict:
    if code == "idempotency_key_conflict":
        return "known"
    if status in (408, 409, 429) or status >= 500:
        return "later"
    if status in (401, 403):
        return "useless"
    return "refused"


def _as_error(base: str, answer: Mapping[str, Any]) -> OperatorError:
    """Return the server's error in its own words, with what helps at a terminal."""
    action = answer.get("action") if isinstance(answer.get("action"), dict) else None
    steps = [str(action[part]) for part in ("label", "url") if action.get(part)] if action else []
    details = answer.get("details") if isinstance(answer.get("details"), dict) else None
    if answer["error"] == "unauthorized":
        steps = [f"imgpro login {base}, with a key from {base}/dashboard/connect"]
    elif details:
        steps = []  # the sentences about the fields say what to do
    return OperatorError(
        plain(str(answer.get("message") or "The server refused.")),
        Action("fix", label=plain(": ".join(steps))),
        {str(name): plain(f"{name}: {sentence}") for name, sentence in (details or {}).items()},
    )


def _wait_s(response: http.client.HTTPResponse, answer: Mapping[str, Any]) -> float:
    said = response.headers.get("Retry-After", "")
    action = answer.get("action")
    seconds = action.get("seconds") if isinstance(action, dict) else None
    if said.isascii() and said.isdecimal() and len(said) < 8:
        return float(said)
    return float(min(max(seconds, 0), MAX_WAIT_S)) if isinstance(seconds, int) else 0.0


def _moved(base: str, response: http.client.HTTPResponse) -> Outcome:
    """Say where a redirect leads: a key follows no server's word to another address."""
    target = response.headers.get("Location", "").partition("?")[0]
    there = target.removesuffix("/v1/upload").removesuffix("/v1/usage").rstrip("/")
    label = f"imgpro login {there}" if _is_link(there) else "Ask whoever runs it for the address"
    said = f"{base} sends on to {there or 'another address'}, and no picture or key is sent after it."
    return Outcome("useless", {}, ServerUnreachable(said, Action("fix", label=label)), status=response.status)


def _foreign(base: str, status: int) -> Outcome:
    """Judge an answer that no imgpro server gives: another program's, or a proxy's whose server is away."""
    label = "Give the address of the server's start page; if it is that, see whether the server runs"
    said = f"{base} answers ({status}), but not as an imgpro server."
    verdict: Verdict = "later" if status >= 500 or status == 429 else "useless"
    return Outcome(verdict, {}, ServerUnreachable(said, Action("fix", label=label)), status=status)
