"""`/mcp`: the Model Context Protocol over Streamable HTTP, for programs that act for a person by way of a model.

One POST, one JSON answer, nothing remembered in between: no sessions, no streams. Failures of HTTP itself (a bad key,
another site's page, a body too large) keep their status and headers, and their body is a JSON-RPC error whose `data` is
the one shape of all errors, because clients show no other.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from imgpro import __version__
from imgpro.appliance import Appliance
from imgpro.errors import Action, BadRequest, FileTooLarge, Forbidden, ImgproError, Unauthorized, UnsupportedFormat
from imgpro.flows.addresses import parse_address
from imgpro.flows.places import Places
from imgpro.model import Caller
from imgpro.settings import Settings
from imgpro.web import mcp_messages as messages
from imgpro.web import respond
from imgpro.web.bodies import Pace, invite, raw_chunks
from imgpro.web.clients import Clients
from imgpro.web.identity import Identity
from imgpro.web.mcp_catalog import BY_NAME, INSTRUCTIONS, listed_tools
from imgpro.web.mcp_messages import Fault, Message
from imgpro.web.mcp_tools import KEY_WANTED, Asker, Tools, told_error

SMALL_BYTES: Final = 65_536
MAX_BYTES: Final = 1_572_864  # a file of 1 MiB in base64, and what is said about it
MAX_LARGE: Final = 8  # bodies above SMALL_BYTES at once, held in memory with what is decoded from them
MAX_LARGE_PER_NETWORK: Final = 4
MAX_BATCH: Final = 20
FRESH_MS: Final = 300_000  # how long a client need not ask again which tools there are


class McpHandlers:
    """`POST /mcp`."""

    def __init__(self, appliance: Appliance, clients: Clients, identity: Identity) -> None:
        self._appliance = appliance
        self._clients = clients
        self._identity = identity
        self._tools = Tools(appliance)
        self._places = Places(MAX_LARGE, MAX_LARGE_PER_NETWORK, appliance.settings.uploads.patience_s)
        self._follow(appliance.settings)
        appliance.followers.append(self._follow)

    def _follow(self, settings: Settings) -> None:
        self._places.allow(MAX_LARGE, MAX_LARGE_PER_NETWORK, settings.uploads.patience_s)
        self._server = {"name": "imgpro", "title": settings.pages.site_name, "version": __version__}

    async def post_message(self, request: web.Request) -> web.Response:
        """Answer a JSON-RPC request, or take note of a notification."""
        base = ""
        try:
            base = self._clients.base_url(request)
            _check_origin(request, base)
            _check_types(request)
            asker = Asker(await self._caller(request), self._clients.bases(request))
            async with self._body(request, asker) as body:
                return await self._answer(request, body, asker)
        except ImgproError as problem:
            return _refusal(request, problem, base)
        except Fault as fault:
            return respond.json(fault.body(), fault.status(modern=True))

    async def _caller(self, request: web.Request) -> Caller:
        """Return the caller. Raises Forbidden, or Unauthorized with words for those who cannot do without a key."""
        try:
            return await self._identity.caller(request)
        except Unauthorized as problem:
            raise Unauthorized(problem.message, KEY_WANTED) from None

    @contextlib.asynccontextmanager
    async def _body(self, request: web.Request, asker: Asker) -> AsyncIterator[bytes]:
        """Read the body and hold a place for it while it is worked on, if it is large.

        Only those who may store something may send a large one, and only with its length told beforehand.
        """
        length = request.content_length or 0
        may_store = asker.principal is not None and asker.principal.may("upload")
        limit = SMALL_BYTES if length <= SMALL_BYTES or not may_store else MAX_BYTES
        if length > limit:
            raise _too_large(limit)
        async with contextlib.AsyncExitStack() as held:
            if length > SMALL_BYTES:
                await held.enter_async_context(self._places.hold(asker.caller.network))
            await invite(request)
            body = bytearray()
            async for chunk in raw_chunks(request, Pace(self._appliance.settings.uploads)):
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
            yield bytes(body)

    async def _answer(self, request: web.Request, body: bytes, asker: Asker) -> web.Response:
        decoded = messages.decode(body)
        if isinstance(decoded, list):
            return await self._batch(request, decoded, asker)
        message = messages.read(decoded)
        modern = True
        try:
            revision = messages.revision(message, request.headers)
            modern = revision in messages.MODERN
            if message.id is None:
                return _accepted()
            result = await self._result(message, asker, modern=modern)
        except Fault as fault:
            return respond.json(fault.body(message.id), fault.status(modern=modern))
        return respond.json({"jsonrpc": "2.0", "id": message.id, "result": result})

    async def _batch(self, request: web.Request, batch: list[Any], asker: Asker) -> web.Response:
        """Answer several messages at once, as one early revision has it."""
        if messages.only(request.headers, messages.VERSION_HEADER) not in (None, messages.BATCHING):
            raise Fault(messages.INVALID_REQUEST, "Batches are not part of this protocol revision.")
        if not 1 <= len(batch) <= MAX_BATCH:
            raise Fault(messages.INVALID_REQUEST, f"A batch has 1 to {MAX_BATCH} messages.")
        answers = [answer for item in batch if (answer := await self._one_of_many(item, asker)) is not None]
        return respond.json(answers) if answers else _accepted()

    async def _one_of_many(self, item: Any, asker: Asker) -> dict[str, Any] | None:
        message_id = None
        try:
            message = messages.read(item)
            message_id = message.id
            if message_id is None:
                return None
            if message.method == "initialize":
                raise Fault(messages.INVALID_REQUEST, "initialize must not be part of a batch.")
            result = await self._result(message, asker, modern=False)
        except Fault as fault:
            return fault.body(message_id)
        return {"jsonrpc": "2.0", "id": message_id, "result": result}

    # Methods

    async def _result(self, message: Message, asker: Asker, *, modern: bool) -> dict[str, Any]:
        match message.method:
            case "tools/call":
                result = await self._call(message, asker)
            case "tools/list":
                result = _list(message)
            case "server/discover" if modern:
                result = self._discovered()
            case "initialize" if not modern:
                return self._initialized(message)
            case "ping" if not modern:
                return {}
            case _:
                raise Fault(messages.METHOD_NOT_FOUND, "There is no such method.")
        if not modern:
            return result
        return {"resultType": "complete", **result, "_meta": {messages.SERVER_META: self._server}}

    def _initialized(self, message: Message) -> dict[str, Any]:
        """Agree on a revision: the client's if it is known here, else the latest that begins in this way."""
        wanted = message.params.get("protocolVersion")
        if not isinstance(wanted, str):
            raise Fault(messages.INVALID_PARAMS, "protocolVersion is needed, as text.")
        return {
            "protocolVersion": wanted if wanted in messages.LEGACY else messages.LEGACY[0],
            "capabilities": {"tools": {}},
            "serverInfo": self._server,
            "instructions": INSTRUCTIONS,
        }

    def _discovered(self) -> dict[str, Any]:
        return {
            "supportedVersions": list(messages.SUPPORTED),
            "capabilities": {"tools": {}},
            "instructions": INSTRUCTIONS,
            **_CACHING,
        }

    async def _call(self, message: Message, asker: Asker) -> dict[str, Any]:
        name, arguments = message.params.get("name"), message.params.get("arguments")
        if not isinstance(name, str) or not isinstance(arguments, dict | None):
            raise Fault(messages.INVALID_PARAMS, "A call needs the name of a tool, and its arguments as an object.")
        tool = BY_NAME.get(name)
        if tool is None:
            raise Fault(messages.INVALID_PARAMS, f"There is no such tool; there are {', '.join(BY_NAME)}.")
        return await self._tools.call(tool, arguments or {}, asker)


_CACHING: Final = {"ttlMs": FRESH_MS, "cacheScope": "public"}


def _list(message: Message) -> dict[str, Any]:
    if message.params.get("cursor") is not None:
        raise Fault(messages.INVALID_PARAMS, "There is one page of tools; ask for it without a cursor.")
    return {"tools": listed_tools(), **_CACHING}


def _check_origin(request: web.Request, base: str) -> None:
    """Refuse what another site's page sends. Raises Forbidden.

    A page may be ours under the configured address; where none is configured, under the one asked for; and under an
    address that is no name, because no foreign name can be made to point at this server then.
    """
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return
    host = request.headers.get(hdrs.HOST, "").lower()
    own = {urlsplit(base).netloc.lower()}
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name == "localhost" or parse_address(name.strip("[]")) is not None:
        own.add(host)
    scheme, _, place = origin.lower().partition("://")
    if scheme not in ("http", "https") or place not in own:
        raise Forbidden(
            "This call came from a page of another site.", Action("fix", label="Call from a program, without Origin")
        )


def _check_types(request: web.Request) -> None:
    """Refuse what is not JSON or will not take JSON. Raises UnsupportedFormat, BadRequest with status 406."""
    if request.content_type != "application/json":
        way_out = Action("fix", label="Send JSON with Content-Type: application/json")
        raise UnsupportedFormat("A call is a JSON-RPC message.", way_out)
    accepted = {part.partition(";")[0].strip().lower() for part in request.headers.get(hdrs.ACCEPT, "").split(",")}
    if accepted.isdisjoint({"application/json", "application/*", "*/*"}):
        way_out = Action("fix", label="Send Accept: application/json, text/event-stream")
        problem = BadRequest("Answers are JSON, and the request does not accept that.", way_out)
        problem.status = 406
        raise problem


def _too_large(limit: int) -> FileTooLarge:
    way_out = Action("fix", label="Use create_upload for files above 1 MiB, and send other calls in less than 64 KB")
    return FileTooLarge(f"The body of this call is larger than {limit:,} bytes.", way_out)


def _refusal(request: web.Request, problem: ImgproError, base: str) -> web.Response:
    """Return an HTTP failure with the status and headers it has everywhere, and a body that clients show."""
    code = messages.INVALID_REQUEST if problem.status < 500 else messages.INTERNAL_ERROR
    fault = Fault(code, problem.message, told_error(problem, base))
    usual = respond.error(problem, base).headers
    kept = {name: usual[name] for name in ("WWW-Authenticate", "Retry-After") if name in usual}
    response = respond.json(fault.body(), problem.status, kept)
    if request.can_read_body and not request.content.is_eof():
        response.force_close()  # a body is still on its way
    return response


def _accepted() -> web.Response:
    return web.Response(status=202, headers=respond.API_HEADERS)
