"""Uploads and imports: find the file in the request, hand its bytes on, answer in the wanted shape."""

from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.errors import (
    FetchFailed,
    FileTooLarge,
    ImageBroken,
    ImageTooLarge,
    Unauthorized,
    UnsupportedFormat,
    ValidationError,
)
from imgpro.flows.ingest import Upload
from imgpro.flows.options import parse_options
from imgpro.model import Image
from imgpro.web import respond
from imgpro.web.bodies import FORM_SLACK_BYTES, Form, Pace, invite, raw_chunks, read_json, refuse_declared_length
from imgpro.web.clients import Clients
from imgpro.web.links import DELETE_COOKIE, DELETE_COOKIE_S, Links

_TEXT_FIELDS: Final = ("name", "description", "public", "ttl", "date")


class UploadHandlers:
    """`POST /v1/upload`, `PUT /v1/upload/{name}`, `POST /v1/import`."""

    def __init__(self, appliance: Appliance, clients: Clients) -> None:
        self._appliance = appliance
        self._clients = clients

    async def post_upload(self, request: web.Request) -> web.Response:
        """Take a multipart form, or a bare body when its type is not a form."""
        self._check(request)
        if request.content_type.startswith("multipart/"):
            return await self._form(request)
        if not request.can_read_body:
            raise ValidationError(None, None, {"file": "A file is needed, as a multipart part or as the body."})
        return await self._raw(request, request.query.get("name", ""))

    async def put_upload(self, request: web.Request) -> web.Response:
        """Take a bare body under the name in the path, as `curl -T` sends it."""
        self._check(request)
        return await self._raw(request, request.match_info["name"])

    async def post_import(self, request: web.Request) -> web.Response:
        """Fetch a picture by its address and store it like an upload."""
        self._check(request)
        fields = _text_fields(await read_json(request, Pace(self._appliance.settings.uploads)))
        options = parse_options(fields)
        url = fields.get("url", "")
        if not url:
            raise ValidationError(None, None, {"url": "The address of the picture is needed."})
        caller = self._clients.caller(request)
        self._appliance.quota.admit_import(caller)
        async with self._appliance.ingest.open(caller, "import") as upload:
            try:
                max_bytes = self._appliance.settings.uploads.anonymous_max_bytes
                async with self._appliance.fetcher.open(url, max_bytes) as fetched:
                    async for chunk in fetched.chunks:
                        await upload.write(chunk)
                    name = fetched.name
                image = await upload.commit(options, name)
            except FileTooLarge:
                raise FetchFailed("The picture at that address is too large.") from None
            except (UnsupportedFormat, ImageBroken, ImageTooLarge) as problem:
                raise FetchFailed(f"The address did not answer with a usable picture: {problem.message}") from None
        return self._answer(request, image)

    def _check(self, request: web.Request) -> None:
        """Judge what the headers alone tell. Raises Unauthorized, BadRequest."""
        refuse_credentials(request)
        # A Host that no link can start with is refused now: after the commit nobody would learn of the picture.
        self._clients.base_url(request)

    async def _form(self, request: web.Request) -> web.Response:
        uploads = self._appliance.settings.uploads
        refuse_declared_length(request, uploads.anonymous_max_bytes + FORM_SLACK_BYTES)
        form = Form(request, Pace(uploads))
        async with self._appliance.ingest.open(self._clients.caller(request)) as upload:
            await invite(request)
            await _pour(form.file_chunks(), upload)
            image = await upload.commit(parse_options(form.fields), form.file_name or "")
        return self._answer(request, image)

    async def _raw(self, request: web.Request, name: str) -> web.Response:
        uploads = self._appliance.settings.uploads
        refuse_declared_length(request, uploads.anonymous_max_bytes)
        options = parse_options({key: request.query[key] for key in _TEXT_FIELDS if key in request.query})
        async with self._appliance.ingest.open(self._clients.caller(request)) as upload:
            await invite(request)
            await _pour(raw_chunks(request, Pace(uploads)), upload)
            image = await upload.commit(options, name)
        return self._answer(request, image)

    def _answer(self, request: web.Request, image: Image) -> web.Response:
        links = Links(self._clients.base_url(request), image, self._appliance.signer, signed=True)
        if _wants_page(request):
            # Relative, because the page may have been opened under another name than links start with.
            response = respond.see_other(links.page.replace(links.base, "..", 1))
        elif _wants_text(request):
            response = respond.text(links.page if request.query.get("link") == "page" else links.src, 201)
        else:
            response = respond.json(respond.created(image, links), 201)
        if request.headers.get("Origin") == links.base:
            # From our own page: the picture's page will offer to delete it, in this browser only.
            response.set_cookie(
                DELETE_COOKIE,
                links.delete_token,
                path=links.page_path,
                max_age=DELETE_COOKIE_S,
                secure=links.base.startswith("https:"),
                httponly=True,
                samesite="Lax",
            )
        return response


def refuse_credentials(request: web.Request) -> None:
    """A credential that cannot be honoured is an error, never a silent anonymous upload. Raises Unauthorized."""
    if "Authorization" in request.headers or "X-API-Key" in request.headers:
        raise Unauthorized()


async def _pour(chunks: AsyncIterator[bytes], upload: Upload) -> None:
    async for chunk in chunks:
        await upload.write(chunk)


def _text_fields(body: dict[str, Any]) -> dict[str, str]:
    """Bring JSON values into the text form of multipart fields. Raises ValidationError for other types."""
    fields: dict[str, str] = {}
    details: dict[str, str] = {}
    for name, value in body.items():
        if isinstance(value, bool):
            fields[name] = "true" if value else "false"
        elif isinstance(value, str | int):
            fields[name] = str(value)
        elif value is not None and name in (*_TEXT_FIELDS, "url"):
            details[name] = "Must be text."
    if details:
        raise ValidationError(None, None, details)
    return fields


def _wants_text(request: web.Request) -> bool:
    if request.query.get("format") == "text":
        return True
    return request.headers.get("Accept", "").split(",")[0].split(";")[0].strip() == "text/plain"


def _wants_page(request: web.Request) -> bool:
    """A form sent by a browser without script asks for HTML and is led to the picture's page."""
    return "text/html" in request.headers.get("Accept", "") and request.query.get("format") is None
