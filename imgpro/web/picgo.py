"""The protocol of PicGo's little server, which editors and uploaders speak: `/upload`, `/delete`, `/heartbeat`.

Its clients look at `success` and `message` alone and take any status but 200 for a broken server, so failures are 200
here too. They send several files at once and take one answer for all: either every file is stored, or none stays.
"""

import contextlib
import logging
import time
from typing import Any, Final

from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.errors import Action, BadRequest, ImgproError, NotFound, ValidationError
from imgpro.flows.options import clean_name, parse_options
from imgpro.flows.quota import check_ability
from imgpro.ids import IMAGE_ID
from imgpro.model import Caller, Image
from imgpro.web import contract, respond
from imgpro.web.bodies import Form, Pace, close_unread, invite, read_json
from imgpro.web.clients import Clients
from imgpro.web.identity import Identity
from imgpro.web.links import upload_links
from imgpro.web.upload import pour, query_fields

log = logging.getLogger(__name__)

MAX_FILES: Final = 100  # all pictures of a long note come in one request
MAX_NAME_CHARS: Final = 60  # of a file in a message
_NOT_OURS: Final = Action("fix", label="Send what /upload answered in fullResult")


class PicGoHandlers:
    """`POST /upload`, `POST /delete`, `GET|POST /heartbeat`."""

    def __init__(self, appliance: Appliance, clients: Clients, identity: Identity) -> None:
        self._appliance = appliance
        self._clients = clients
        self._identity = identity

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/upload", self.post_upload),
            web.post("/delete", self.post_delete),
            web.get("/heartbeat", self.get_heartbeat),
            web.post("/heartbeat", self.get_heartbeat),
        ]

    async def get_heartbeat(self, request: web.Request) -> web.Response:
        """Say that somebody is there."""
        return respond.json(contract.PicGoAlive(success=True, result="alive"))

    async def post_upload(self, request: web.Request) -> web.Response:
        """Store all files of a form."""
        try:
            return await self._upload(request)
        except ImgproError as problem:
            return _failure(request, problem)

    async def post_delete(self, request: web.Request) -> web.Response:
        """Delete pictures by what an upload answered about them; those that are gone already are no failure."""
        try:
            tokens = _deletions(await read_json(request, self._pace()))
            now_s, signer = time.time(), self._appliance.signer
            if not all(signer.verify(token, "delete", image_id, now_s) for image_id, token in tokens.items()):
                raise NotFound("A picture in this list was not uploaded here, so nothing was deleted.", _NOT_OURS)
            await self._appliance.remove.images(list(tokens))
        except ImgproError as problem:
            return _failure(request, problem)
        return respond.json(contract.Success(success=True))

    async def _upload(self, request: web.Request) -> web.Response:
        caller = await self._identity.uploader(request)
        if caller.principal is not None:
            check_ability(caller.principal, "upload")
        bases, signer = self._clients.bases(request), self._appliance.signer
        if not request.content_type.startswith("multipart/"):
            label = "Turn on remote server mode in your editor, so that it sends the pictures themselves"
            raise BadRequest("This server sees neither the files nor the clipboard of your computer.", _fix(label))
        stored: list[Image] = []
        try:
            await self._store_all(request, caller, stored)
        except ImgproError:
            # The client will take none of them for stored, and send them all again.
            await self._appliance.remove.images([image.id for image in stored])
            raise
        found = [upload_links(bases, image, signer) for image in stored]
        full = [
            contract.PicGoPicture(image_url=links.src, id=image.id, delete=links.delete_token)
            for image, links in zip(stored, found, strict=True)
        ]
        return respond.json(contract.PicGoUploaded(success=True, result=[one.image_url for one in full], details=full))

    async def _store_all(self, request: web.Request, caller: Caller, stored: list[Image]) -> None:
        """Store file after file, each on its own like any upload; what was stored is in `stored` whatever happens."""
        ingest = self._appliance.ingest
        options = parse_options(query_fields(request), owned=caller.principal is not None)
        form = Form(request, self._pace(), MAX_FILES)
        async with contextlib.AsyncExitStack() as held:
            upload = await held.enter_async_context(ingest.open(caller))  # refused before the body is asked for
            await invite(request)
            async for name, chunks in form.files():
                try:
                    if stored:
                        upload = await held.enter_async_context(ingest.open(caller))
                    await pour(chunks, upload)
                    image = await upload.commit(options, name)
                except ImgproError as problem:
                    problem.message = _about(name, problem.message, len(stored))
                    raise
                assert isinstance(image, Image)  # nothing here is ever answered from before
                stored.append(image)
                await held.aclose()
                form.pace = self._pace()  # while a file was proven and stored, nobody waited for its sender
        if not stored:
            raise ValidationError(None, None, {"file": "Send at least one file."})

    def _pace(self) -> Pace:
        return Pace(self._appliance.settings.uploads)


def _failure(request: web.Request, problem: ImgproError) -> web.Response:
    """Return a failure as this protocol has it: all that a person should know in one message."""
    if problem.status >= 500:
        log.warning("%s: %s", problem.code, problem.message)
    steps = list(problem.details.values()) or [f"{problem.action.label}."] * bool(problem.action.label)
    response = respond.json(contract.PicGoFailed(success=False, message=" ".join([problem.message, *steps])))
    close_unread(request, response)
    return response


def _about(name: str, message: str, stored: int) -> str:
    shown = clean_name(name.encode("utf-8", "replace").decode())[:MAX_NAME_CHARS]
    before = f" None of the {stored} before it was kept." if stored > 1 else " The one before it was not kept."
    return f"{shown or 'A file'}: {message}{before * bool(stored)}"


def _deletions(body: dict[str, Any]) -> dict[str, str]:
    """Return the tokens that are sent, by the id of the picture. Raises ValidationError."""
    items = body.get("list")
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_FILES:
        raise ValidationError(None, None, {"list": f"Must hold 1 to {MAX_FILES} pictures."})
    tokens: dict[str, str] = {}
    for item in items:
        image_id, token = (item.get("id"), item.get("delete")) if isinstance(item, dict) else (None, None)
        if not isinstance(image_id, str) or not isinstance(token, str) or not IMAGE_ID.fullmatch(image_id):
            raise ValidationError(None, None, {"list": "Must hold what /upload answered in fullResult."})
        tokens[image_id] = token
    return tokens


def _fix(label: str) -> Action:
    return Action("fix", label=label)
