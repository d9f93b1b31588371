"""What the MCP tools do: each is one of the appliance's own ways, with the rules that the API has for it."""

import asyncio
import base64
import binascii
import logging
import os
import re
import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from imgpro import model, recipes
from imgpro.appliance import Appliance
from imgpro.errors import Action, FileTooLarge, ImageTooLarge, ImgproError, NotFound, Unauthorized, ValidationError
from imgpro.flows.browse import parse_filters
from imgpro.flows.options import parse_changes, parse_options
from imgpro.flows.quota import check_ability
from imgpro.flows.serve import OpenFile, View
from imgpro.ids import IMAGE_ID
from imgpro.model import Caller, Principal
from imgpro.recipes import SRC_EXTENSION
from imgpro.web import contract, respond, shapes
from imgpro.web.clients import Bases
from imgpro.web.keys import usage_report
from imgpro.web.links import Links, upload_links, view_token
from imgpro.web.mcp_catalog import DEFAULT_LIMIT, MAX_DATA_BYTES
from imgpro.web.mcp_schema import Deleted, PictureLink, PictureList, Tool, UploadTicket, check_arguments
from imgpro.web.upload import text_fields

log = logging.getLogger(__name__)

MAX_PREVIEW_BYTES: Final = 150_000
_DATA_PREFIX: Final = re.compile(r"data:[^,]{0,150},", re.ASCII)
KEY_WANTED: Final = Action(
    "fix",
    url="/api/quick-start",
    label="Get an API key (POST /v1/keys with a mail address, see the link) and send it with every request as "
    "Authorization: Bearer",
)

Block = dict[str, Any]
Arguments = Mapping[str, Any]


class Asker(msgspec.Struct, frozen=True):
    """Who calls a tool, from which network, and what links in the answer start with."""

    caller: Caller
    bases: Bases

    @property
    def principal(self) -> Principal | None:
        """Whose key came along, if one did."""
        return self.caller.principal

    @property
    def known(self) -> Principal:
        """Whose key came along, where a tool needs one."""
        assert self.principal is not None
        return self.principal

    def owns(self, image: model.Image) -> bool:
        """Tell whether a picture is the caller's own."""
        return self.principal is not None and self.principal.owns(image)

    @property
    def view(self) -> View:
        """With what right pictures are looked at."""

        async def asker() -> Principal | None:
            return self.principal

        return View(None, asker)


class Told(msgspec.Struct, frozen=True):
    """What a tool has to say: its result, and content blocks besides the result as text."""

    result: msgspec.Struct
    blocks: tuple[Block, ...] = ()


class Tools:
    """Runs tools by name."""

    def __init__(self, appliance: Appliance) -> None:
        self._appliance = appliance
        self._runs: dict[str, Callable[[Arguments, Asker], Awaitable[Told]]] = {
            "import_image": self._import,
            "create_upload": self._create_upload,
            "upload_image": self._upload,
            "list_images": self._list,
            "get_image": self._get,
            "image_url": self._link,
            "update_image": self._update,
            "delete_image": self._delete,
            "usage": self._usage,
        }

    async def call(self, tool: Tool, arguments: Arguments, asker: Asker) -> dict[str, Any]:
        """Return a CallToolResult. What goes wrong is part of it, so that the model sees it and what to do."""
        try:
            if tool.ability is not None:
                check_ability(_needed(asker), tool.ability)
            told = await self._runs[tool.name](check_arguments(tool, arguments), asker)
        except ImgproError as problem:
            if problem.status >= 500:
                log.warning("%s: %s", problem.code, problem.message)
            return failure(problem, asker.bases.site)
        result = without(msgspec.to_builtins(told.result), tool.hidden)
        text = {"type": "text", "text": msgspec.json.encode(result).decode()}
        return {"content": [text, *told.blocks], "structuredContent": result, "isError": False}

    # Bringing pictures in

    async def _import(self, arguments: Arguments, asker: Asker) -> Told:
        options = _options(arguments)
        image = await self._appliance.importing.take(arguments["url"], options, asker.caller)
        return self._stored(image, asker)

    async def _create_upload(self, arguments: Arguments, asker: Asker) -> Told:
        fields = text_fields(dict(arguments), owned=True)
        _options(arguments)
        # As for an upload: tickets are limited like those, and what cannot be used is better refused now.
        await self._appliance.quota.admit(asker.caller)
        ticket, expires_s = await self._appliance.tickets.make(asker.known, fields)
        url = f"{asker.bases.api}/v1/upload?ticket={ticket}"
        told = UploadTicket(
            upload_url=url,
            curl=f"curl -F file=@PATH {shlex.quote(url)}",
            expires_at=expires_s,
            max_bytes=self._appliance.ingest.max_bytes(asker.caller),
        )
        return Told(told)

    async def _upload(self, arguments: Arguments, asker: Asker) -> Told:
        options = _options({name: value for name, value in arguments.items() if name != "data"})
        data = decode_data(arguments["data"])
        async with self._appliance.ingest.open(asker.caller) as upload:
            await upload.write(data)
            image = await upload.commit(options, "")
        return self._stored(image, asker)

    def _stored(self, image: model.Image | bytes, asker: Asker) -> Told:
        assert isinstance(image, model.Image)  # bytes are for requests that were repeated: calls are not
        return Told(shapes.created(image, upload_links(asker.bases, image, self._appliance.signer)))

    # Looking

    async def _list(self, arguments: Arguments, asker: Asker) -> Told:
        query = {"limit": str(DEFAULT_LIMIT)}
        for name, value in arguments.items():
            query[name] = ",".join(value) if isinstance(value, list) else str(value)
        page = await self._appliance.browse.page(asker.known, parse_filters(query))
        images = [self._shown(image, asker) for image in page.images]
        return Told(PictureList(images=images, next_cursor=page.next_cursor, has_more=page.has_more))

    async def _get(self, arguments: Arguments, asker: Asker) -> Told:
        image = await self._appliance.serve.visible(_id(arguments), asker.view)
        blocks: tuple[Block, ...] = ()
        if arguments.get("preview", True):
            blocks = (await self._preview(image, asker),)
        return Told(self._shown(image, asker), blocks)

    async def _preview(self, image: model.Image, asker: Asker) -> Block:
        """Return the picture at its smallest size as an image block, or a sentence where that cannot be had."""
        if image.blob.format == "svg":
            return _sentence("An SVG has no preview; its text is at src.")
        serve = self._appliance.serve
        try:
            target = await serve.target(image.id, "jpeg", "s", asker.view)
            body = await _small(await serve.source(target, asker.view))
        except NotFound:
            raise
        except ImgproError as problem:
            return _sentence(f"There is no preview now: {problem.message}")
        if body is None:
            return _sentence("A preview of this picture would be too large; open sizes.s.src instead.")
        return {"type": "image", "data": base64.b64encode(body).decode("ascii"), "mimeType": target.content_type}

    async def _link(self, arguments: Arguments, asker: Asker) -> Told:
        image = await self._appliance.serve.visible(_id(arguments), asker.view)
        blob = image.blob
        extension = arguments.get("format", SRC_EXTENSION[blob.format])
        size = arguments.get("size", "o")
        if blob.format == "svg":
            extension, size = "svg", "o"
        width, height = recipes.target_size(blob.width, blob.height, size)
        kind = recipes.EXTENSIONS.get(extension)
        if kind is not None:
            _check_side(kind, width, height)
        token = None if image.public else view_token(image, self._appliance.signer)
        url = Links(asker.bases, image, self._appliance.signer, token).picture(extension, size)
        told = PictureLink(
            id=image.id,
            url=url,
            format=kind or "svg",
            size=size,
            content_type=recipes.CONTENT_TYPE[kind or "svg"],
            width=width,
            height=height,
            markdown=f"![{respond.markdown_text(image.name)}]({url})",
        )
        return Told(told)

    async def _usage(self, arguments: Arguments, asker: Asker) -> Told:
        return Told(await usage_report(self._appliance, asker.known))

    # Changing

    async def _update(self, arguments: Arguments, asker: Asker) -> Told:
        image_id = _id(arguments)
        changes = parse_changes({name: value for name, value in arguments.items() if name != "id"})
        image = await self._appliance.change.image(asker.known, image_id, changes)
        return Told(self._shown(image, asker))

    async def _delete(self, arguments: Arguments, asker: Asker) -> Told:
        image_id = _id(arguments)
        await self._appliance.change.delete(asker.known, image_id)
        return Told(Deleted(id=image_id, deleted=True))

    def _shown(self, image: model.Image, asker: Asker) -> contract.Image:
        links = Links(asker.bases, image, self._appliance.signer)
        return shapes.image(image, links, to_owner=asker.owns(image))


def failure(problem: ImgproError, base: str) -> dict[str, Any]:
    """Return the CallToolResult of an error: the one shape of all errors, and the same in words."""
    body = told_error(problem, base)
    action = body["action"]
    lines = [body["message"], *(f"{name}: {sentence}" for name, sentence in body.get("details", {}).items())]
    way_out = " ".join(str(action[name]) for name in ("label", "url") if name in action)
    if way_out:
        lines.append(f"What to do: {way_out}")
    return {"content": [_sentence("\n".join(lines))], "structuredContent": body, "isError": True}


def told_error(problem: ImgproError, base: str) -> dict[str, Any]:
    """Return the one shape of all errors as plain data."""
    body: dict[str, Any] = msgspec.to_builtins(respond.error_body(problem, base))
    return body


def without(result: Any, hidden: frozenset[str]) -> Any:
    """Return a result without some of its fields, however deep they are."""
    if isinstance(result, dict):
        return {name: without(value, hidden) for name, value in result.items() if name not in hidden}
    if isinstance(result, list):
        return [without(item, hidden) for item in result]
    return result


def decode_data(text: str) -> bytes:
    """Return the bytes of base64 with or without a `data:` prefix. Raises FileTooLarge, ValidationError."""
    prefix = _DATA_PREFIX.match(text)
    # Padding carries nothing, and some leave it out.
    encoded = "".join(text[prefix.end() if prefix else 0 :].split()).rstrip("=")
    if len(encoded) * 3 // 4 > MAX_DATA_BYTES:
        raise FileTooLarge(
            f"A file in a call has at most {MAX_DATA_BYTES:,} bytes.",
            Action("fix", label="Use create_upload for larger files"),
        )
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise ValidationError(None, None, {"data": "Must be the bytes of a file in base64."})
    return data


def _needed(asker: Asker) -> Principal:
    if asker.principal is None:
        raise Unauthorized("An API key is needed for this.", KEY_WANTED)
    return asker.principal


def _options(arguments: Arguments) -> model.UploadOptions:
    return parse_options(text_fields(dict(arguments), owned=True), owned=True)


def _id(arguments: Arguments) -> str:
    image_id: str = arguments["id"]
    if not IMAGE_ID.fullmatch(image_id):
        raise ValidationError(None, None, {"id": "Must be the 12 letters and digits of a picture's id."})
    return image_id


def _check_side(kind: recipes.OutputFormat, width: int, height: int) -> None:
    """Refuse a link that could only answer with an error. Raises ImageTooLarge."""
    limit = recipes.MAX_SIDE_PX[kind]
    if max(width, height) > limit:
        raise ImageTooLarge(
            f"The picture would be {width} x {height} pixels, and {kind} holds {limit} a side.",
            Action("fix", label="Ask for a smaller size or another format"),
        )


async def _small(found: bytes | OpenFile) -> bytes | None:
    """Return the bytes of a derivative, None if there are too many of them for an answer."""
    if isinstance(found, bytes):
        return found if len(found) <= MAX_PREVIEW_BYTES else None
    try:
        if found.size > MAX_PREVIEW_BYTES:
            return None
        return await asyncio.to_thread(os.pread, found.fd, found.size, 0)
    finally:
        found.close()


def _sentence(text: str) -> Block:
    return {"type": "text", "text": text}
