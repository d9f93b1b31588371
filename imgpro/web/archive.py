"""`POST /dashboard/zip`: pictures of who is signed in, as one file."""

import datetime
import re
import time
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.errors import Action, ValidationError
from imgpro.flows.archive import MAX_PICTURES, Plan
from imgpro.flows.browse import MAX_LIMIT
from imgpro.flows.serve import OpenFile
from imgpro.ids import IMAGE_ID
from imgpro.model import Principal
from imgpro.web import respond
from imgpro.web.bodies import Pace, read_form
from imgpro.web.gallery_query import GalleryQuery
from imgpro.web.identity import Identity
from imgpro.web.sendfile import send_file

_MAX_FORM_BYTES: Final = MAX_PICTURES * 15 + 65_536  # an id, and a comma as browsers write it in a form
_SEPARATORS: Final = re.compile(r"[,.\s]+")
_LOOK_AGAIN_S: Final = 1.0


class ArchiveHandlers:
    """Sends ZIP files."""

    def __init__(self, appliance: Appliance, identity: Identity) -> None:
        self._appliance = appliance
        self._archives = appliance.archives
        self._identity = identity

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these pages."""
        return [web.post("/dashboard/zip", self.post_zip)]

    async def post_zip(self, request: web.Request) -> web.StreamResponse:
        """Send the pictures with the form's `ids`, else all that its fields find; with `check` say if they come."""
        form = await read_form(request, Pace(self._appliance.settings.uploads), _MAX_FORM_BYTES)
        principal = await self._identity.from_own_page(request, form)
        wanted = GalleryQuery(form)
        filters = wanted.filters(MAX_LIMIT)
        ids = _ids(form["ids"]) if "ids" in form else None
        with self._archives.place(principal):
            plan = await self._archives.plan(principal, filters, ids)
            if "check" in form:
                return web.Response(status=204, headers={"Cache-Control": respond.PRIVATE})
            response = web.StreamResponse(headers=_headers(form))
            response.content_length = plan.length
            await response.prepare(request)
            await self._send(request, response, principal, plan)
            await response.write_eof()
        return response

    async def _send(self, request: web.Request, response: web.StreamResponse, principal: Principal, plan: Plan) -> None:
        """Send piece by piece. Raises ConnectionResetError where the client went, or is not signed in any more."""
        looked_s = time.monotonic()
        async for piece in self._archives.pieces(principal, plan):
            if isinstance(piece, OpenFile):
                try:
                    await send_file(request, response, piece.fd, 0, piece.size)
                finally:
                    piece.close()
            else:
                await response.write(piece)
            if time.monotonic() - looked_s > _LOOK_AGAIN_S:
                if await self._identity.session(request) is None:
                    raise ConnectionResetError("the session has ended")
                looked_s = time.monotonic()


def _ids(text: str) -> list[str]:
    """Return the ids of a list with commas. Raises ValidationError."""
    ids = list(dict.fromkeys(part for part in _SEPARATORS.split(text) if part))
    if not all(IMAGE_ID.fullmatch(image_id) for image_id in ids):
        raise ValidationError(None, Action("fix", label="Go back and choose the pictures again"), {"ids": "Not ids."})
    return ids


def _headers(form: Mapping[str, str]) -> dict[str, str]:
    what = form.get("namespace", "") if "ids" not in form else ""
    name = f"{what or 'pictures'}-{datetime.datetime.now().astimezone():%Y-%m-%d}.zip"
    return {
        "Content-Type": "application/zip",
        "Content-Disposition": respond.attachment(name),
        "Cache-Control": respond.PRIVATE,
        "X-Content-Type-Options": "nosniff",
    }
