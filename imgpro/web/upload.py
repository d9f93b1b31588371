"""Uploads and imports: find the file in the request, hand its bytes on, answer in the wanted shape."""

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from imgpro.appliance import Appliance
from imgpro.errors import ValidationError
from imgpro.flows.ingest import Upload
from imgpro.flows.options import parse_options
from imgpro.flows.quota import check_ability
from imgpro.flows.replays import Attempt
from imgpro.model import Caller, Image
from imgpro.web import respond, shapes
from imgpro.web.bodies import FORM_SLACK_BYTES, Form, Pace, invite, raw_chunks, read_json, refuse_declared_length
from imgpro.web.clients import Clients
from imgpro.web.identity import Identity, sent_key
from imgpro.web.json_file import JsonFile, json_length
from imgpro.web.links import DELETE_COOKIE, DELETE_COOKIE_S, Links, upload_links

OWNED_FIELDS: Final = ("tags", "namespace")
TEXT_FIELDS: Final = ("name", "description", "public", "ttl", "date", *OWNED_FIELDS)


class UploadHandlers:
    """`POST /v1/upload`, `PUT /v1/upload/{name}`, `POST /v1/import`."""

    def __init__(self, appliance: Appliance, clients: Clients, identity: Identity) -> None:
        self._appliance = appliance
        self._clients = clients
        self._identity = identity

    async def post_upload(self, request: web.Request) -> web.Response:
        """Take a multipart form, a JSON object with the file as base64 text, or else a bare body."""
        way_in = await self._way_in(request)
        pace, kind = Pace(self._appliance.settings.uploads), request.content_type
        max_bytes = self._appliance.ingest.max_bytes(way_in.caller)
        if kind.startswith("multipart/"):
            refuse_declared_length(request, max_bytes, max_bytes + FORM_SLACK_BYTES)
            return await self._form(request, way_in, Form(request, pace))
        if kind == "application/json" or kind.endswith("+json"):
            refuse_declared_length(request, max_bytes, json_length(max_bytes))
            return await self._form(request, way_in, JsonFile(request, pace, max_bytes, TEXT_FIELDS))
        if not request.can_read_body:
            raise ValidationError(None, None, {"file": "A file is needed, as a multipart part or as the body."})
        return await self._raw(request, way_in, request.query.get("name", ""))

    async def put_upload(self, request: web.Request) -> web.Response:
        """Take a bare body under the name in the path, as `curl -T` sends it."""
        return await self._raw(request, await self._way_in(request), request.match_info["name"])

    async def post_import(self, request: web.Request) -> web.Response:
        """Fetch a picture by its address and store it like an upload."""
        caller = self._admissible(request, await self._identity.uploader(request))
        owned = caller.principal is not None
        fields = text_fields(await read_json(request, Pace(self._appliance.settings.uploads)), owned=owned)
        options = parse_options(fields, owned=owned)
        url = fields.get("url", "")
        if not url:
            raise ValidationError(None, None, {"url": "The address of the picture is needed."})
        with await self._attempt(request, caller) as attempt:
            outcome = await self._appliance.importing.take(url, options, caller, attempt)
        return self._answer(request, outcome, attempt)

    def _admissible(self, request: web.Request, caller: Caller) -> Caller:
        """Judge what the headers alone tell. Raises Forbidden, BadRequest."""
        if caller.principal is not None:
            check_ability(caller.principal, "upload")
        # A Host that no link can start with is refused now: after the commit nobody would learn of the picture.
        self._clients.base_url(request)
        return caller

    async def _way_in(self, request: web.Request) -> "_WayIn":
        """Return as whom the file comes: by a key, by a one-use ticket, or as nobody in particular."""
        ticket = request.query.get("ticket")
        if ticket is None:
            return _WayIn(self._admissible(request, await self._identity.uploader(request)), None, {})
        self._clients.base_url(request)
        if sent_key(request) is not None:
            await self._identity.of(request)  # a key that is not valid is an error, whatever came with it
        found = await self._appliance.tickets.look(ticket)
        # Whoever holds the ticket is not its maker, and learns nothing of the account.
        caller = self._clients.caller(request, found.principal)
        return _WayIn(caller, found.hash, found.fields)

    async def _attempt(self, request: web.Request, caller: Caller) -> Attempt:
        bases, signer = self._clients.bases(request), self._appliance.signer

        def render(image: Image) -> bytes:
            return msgspec.json.encode(shapes.created(image, upload_links(bases, image, signer)))

        return await self._appliance.replays.begin(caller, request.headers.get("Idempotency-Key"), render)

    async def _form(self, request: web.Request, way_in: "_WayIn", form: Form | JsonFile) -> web.Response:
        caller = way_in.caller
        owned = caller.principal is not None
        fields = {**query_fields(request), **way_in.fields}
        parse_options(fields, owned=owned)  # what is wrong here is told before a file is sent in vain
        with await self._attempt(request, caller) as attempt:
            async with self._appliance.ingest.open(caller, "upload", attempt, way_in.ticket) as upload:
                await invite(request)
                await pour(form.file_chunks(), upload)
                said = text_fields(form.fields, owned=owned)
                options = parse_options({**fields, **said, **way_in.fields}, owned=owned)
                outcome = await upload.commit(options, form.file_name or "")
        return self._answer(request, outcome, attempt)

    async def _raw(self, request: web.Request, way_in: "_WayIn", name: str) -> web.Response:
        caller = way_in.caller
        uploads = self._appliance.settings.uploads
        max_bytes = self._appliance.ingest.max_bytes(caller)
        refuse_declared_length(request, max_bytes, max_bytes)
        fields = {**query_fields(request), **way_in.fields}
        options = parse_options(fields, owned=caller.principal is not None)
        with await self._attempt(request, caller) as attempt:
            async with self._appliance.ingest.open(caller, "upload", attempt, way_in.ticket) as upload:
                await invite(request)
                await pour(raw_chunks(request, Pace(uploads)), upload)
                outcome = await upload.commit(options, name)
        return self._answer(request, outcome, attempt)

    def _answer(self, request: web.Request, outcome: Image | bytes, attempt: Attempt) -> web.Response:
        repeated = isinstance(outcome, bytes)
        body = outcome if isinstance(outcome, bytes) else attempt.answer
        assert body is not None
        if _wants_page(request) or _wants_text(request):
            links = msgspec.json.decode(body, type=_Links)
            response = self._short(request, links)
        else:
            response = respond.encoded(body, 201)
        if repeated:
            response.headers["Idempotent-Replayed"] = "true"
        elif isinstance(outcome, Image) and outcome.account is None:
            self._remember(request, response, outcome)
        return response

    def _short(self, request: web.Request, links: "_Links") -> web.Response:
        if _wants_page(request):
            # Relative, because the page may have been opened under another name than links start with.
            base = self._clients.base_url(request)
            return respond.see_other(links.url.replace(base, "..", 1))
        return respond.text(links.url if request.query.get("link") == "page" else links.src, 201)

    def _remember(self, request: web.Request, response: web.Response, image: Image) -> None:
        """Let the page of a picture that our own form sent offer to delete it."""
        if hdrs.ORIGIN in request.headers and self._identity.is_own_form(request):
            remember_uploader(response, Links(self._clients.opened_at(request), image, self._appliance.signer))


class _WayIn(msgspec.Struct, frozen=True):
    """As whom a file comes; `ticket` is the hash of the one it uses up, `fields` what that fixed about the picture."""

    caller: Caller
    ticket: bytes | None
    fields: dict[str, str]


class _Links(msgspec.Struct, frozen=True):
    """The two links of an answer that was rendered already."""

    url: str
    src: str


async def pour(chunks: AsyncIterator[bytes], upload: Upload) -> None:
    """Hand the bytes of a file on. Raises what reading and writing them raise."""
    async for chunk in chunks:
        await upload.write(chunk)


def remember_uploader(response: web.Response, links: Links) -> None:
    """Let the page of a picture that nobody in particular uploaded offer to delete it, in this browser only.

    `links` start with the address that the browser has this site open under.
    """
    response.set_cookie(
        DELETE_COOKIE,
        links.delete_token,
        path=links.page_path,
        max_age=DELETE_COOKIE_S,
        secure=links.base.startswith("https:"),
        httponly=True,
        samesite="Lax",
    )


def text_fields(body: dict[str, Any], *, owned: bool) -> dict[str, str]:
    """Bring JSON values into the text form of multipart fields.

    Raises ValidationError for other types; in fields that need an account, only where there is one.
    """
    fields: dict[str, str] = {}
    details: dict[str, str] = {}
    for name, value in body.items():
        if name == "public" and isinstance(value, bool):
            fields[name] = "true" if value else "false"
        elif name == "tags" and isinstance(value, list) and all(isinstance(item, str) for item in value):
            fields[name] = ",".join(value)
        elif isinstance(value, str) or (name in ("public", "ttl") and type(value) is int):
            fields[name] = str(value)
        elif value is not None and name in (*TEXT_FIELDS, "url") and (owned or name not in OWNED_FIELDS):
            details[name] = "Must be text."
    if details:
        raise ValidationError(None, None, details)
    return fields


def query_fields(request: web.Request) -> dict[str, str]:
    """Return the fields that stand in the query, where a bare body has no other place for them."""
    return {key: request.query[key] for key in TEXT_FIELDS if key in request.query}


def _wants_text(request: web.Request) -> bool:
    wanted = request.query.get("format")
    if wanted == "text" or (wanted is None and request.query.get("link") in ("src", "page")):
        return True
    return request.headers.get("Accept", "").split(",")[0].split(";")[0].strip() == "text/plain"


def _wants_page(request: web.Request) -> bool:
    """A form sent by a browser without script asks for HTML and is led to the picture's page."""
    return "text/html" in request.headers.get("Accept", "") and request.query.get("format") is None
