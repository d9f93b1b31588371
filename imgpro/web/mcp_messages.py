"""JSON-RPC messages of the Model Context Protocol: read, checked against their headers, assigned to a revision.

Two eras share one address. Revisions up to 2025-11-25 begin with `initialize`, though nothing is remembered of it here;
from 2026-07-28 on each request says in `params._meta` which revision it speaks, and headers repeat what it asks for, so
that machines in between can route it. Knows nothing of tools.
"""

import base64
import binascii
import re
from typing import Any, Final

import msgspec
from multidict import CIMultiDictProxy

MODERN: Final = ("2026-07-28",)
LEGACY: Final = ("2025-11-25", "2025-06-18", "2025-03-26")
SUPPORTED: Final = (*MODERN, *LEGACY)
# The one revision with batches, and the one that knew no version header yet.
BATCHING: Final = "2025-03-26"

VERSION_HEADER: Final = "MCP-Protocol-Version"
METHOD_HEADER: Final = "Mcp-Method"
NAME_HEADER: Final = "Mcp-Name"
VERSION_META: Final = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_META: Final = "io.modelcontextprotocol/clientCapabilities"
SERVER_META: Final = "io.modelcontextprotocol/serverInfo"

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
HEADER_MISMATCH: Final = -32020
UNSUPPORTED_VERSION: Final = -32022

# HTTP statuses of errors. Before 2026 an error in answer to a well-formed request was an answer like any other.
_ALWAYS_400: Final = frozenset({PARSE_ERROR, INVALID_REQUEST, HEADER_MISMATCH, UNSUPPORTED_VERSION})
_MODERN_STATUS: Final = {METHOD_NOT_FOUND: 404, INVALID_PARAMS: 400}

_SENTINEL: Final = re.compile(r"=\?base64\?(.*)\?=")

Headers = CIMultiDictProxy[str]


class Fault(Exception):
    """A message that cannot be answered with a result; `code` is JSON-RPC's."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def body(self, message_id: int | str | None = None) -> dict[str, Any]:
        """Return the JSON-RPC answer."""
        error = {"code": self.code, "message": self.message}
        return {
            "jsonrpc": "2.0",
            "id": message_id,
            "error": error if self.data is None else {**error, "data": self.data},
        }

    def status(self, *, modern: bool) -> int:
        """Return the HTTP status that goes with it."""
        if self.code in _ALWAYS_400:
            return 400
        return _MODERN_STATUS.get(self.code, 200) if modern else 200


class Message(msgspec.Struct, frozen=True):
    """One request, or with `id` None a notification."""

    id: int | str | None
    method: str
    params: dict[str, Any]

    @property
    def meta(self) -> dict[str, Any]:
        """`params._meta`, empty where it is not an object."""
        meta = self.params.get("_meta")
        return meta if isinstance(meta, dict) else {}


def decode(body: bytes) -> Any:
    """Return what a body holds. Raises Fault."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Fault(PARSE_ERROR, "The body is not valid JSON.") from None


def read(decoded: Any) -> Message:
    """Return a request or notification. Raises Fault for anything else."""
    if not isinstance(decoded, dict) or decoded.get("jsonrpc") != "2.0":
        raise Fault(INVALID_REQUEST, "The body must be one JSON-RPC 2.0 request or notification.")
    method, params, message_id = decoded.get("method"), decoded.get("params", {}), decoded.get("id")
    if not isinstance(method, str):
        raise Fault(INVALID_REQUEST, "A message needs a method; answers are not expected here.")
    if "id" in decoded and (isinstance(message_id, bool) or not isinstance(message_id, int | str)):
        raise Fault(INVALID_REQUEST, "The id of a request must be text or a whole number.")
    if not isinstance(params, dict):
        raise Fault(INVALID_REQUEST, "params must be an object.")
    return Message(message_id, method, params)


def revision(message: Message, headers: Headers) -> str:
    """Return the revision that a message speaks. Raises Fault where it contradicts its headers or itself."""
    header = only(headers, VERSION_HEADER)
    named = message.meta.get(VERSION_META)
    if header not in (None, *SUPPORTED) and named in (None, header):
        raise unsupported(header)
    if message.id is None:
        return header or BATCHING  # notifications carry no `_meta` that counts
    if named in (None, header) and header not in MODERN:
        return header or BATCHING
    _check_envelope(message)
    if header is None or header != named:
        raise Fault(HEADER_MISMATCH, f"The header {VERSION_HEADER} does not match the version in params._meta.")
    if only(headers, METHOD_HEADER) != message.method:
        raise Fault(HEADER_MISMATCH, f"The header {METHOD_HEADER} does not match the method in the body.")
    if message.method == "tools/call" and plain(only(headers, NAME_HEADER)) != message.params.get("name"):
        raise Fault(HEADER_MISMATCH, f"The header {NAME_HEADER} does not match the name in the body.")
    return header


def _check_envelope(message: Message) -> None:
    meta = message.meta
    missing = [key for key in (VERSION_META, CAPABILITIES_META) if key not in meta]
    if missing:
        raise Fault(INVALID_PARAMS, f"params._meta needs {' and '.join(missing)}.")
    if not isinstance(meta[VERSION_META], str) or not isinstance(meta[CAPABILITIES_META], dict):
        raise Fault(INVALID_PARAMS, f"In params._meta, {VERSION_META} is text and {CAPABILITIES_META} an object.")


def unsupported(requested: Any) -> Fault:
    """Return the error that tells a client which revisions there are."""
    data = {"supported": list(SUPPORTED), "requested": requested}
    return Fault(UNSUPPORTED_VERSION, "This protocol revision is not supported.", data)


def only(headers: Headers, name: str) -> str | None:
    """Return a header that may come once: two readers could believe two different ones. Raises Fault."""
    found = headers.getall(name, [])
    if len(found) > 1:
        raise Fault(HEADER_MISMATCH, f"The header {name} came more than once.")
    # A header's bytes may be no text at all, and some of them are repeated in the answer.
    return found[0].encode("utf-8", "replace").decode() if found else None


def plain(value: str | None) -> str | None:
    """Return a header's value out of its `=?base64?...?=` form; None where that is malformed."""
    match = _SENTINEL.fullmatch(value or "")
    if match is None:
        return value
    try:
        return base64.b64decode(match[1], validate=True).decode()
    except (binascii.Error, ValueError):
        return None
