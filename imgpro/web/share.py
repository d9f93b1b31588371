"""Pictures that come from outside our own pages: an installed app's share sheet, and a bookmark that names an address.

The share sheet of a device posts a form that no page of ours has made, so it carries no token of the session. Who
sent it shows in what the browser itself says: `Sec-Fetch-Site: none` is the device or the person, `same-origin` one of
our pages; anything else is refused before the session is looked at. On plain http browsers say nothing of the kind, and
the `Origin` that goes with every form must be ours. Without either header there is no session: the picture is nobody's.
"""

from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from imgpro.errors import (
    FileTooLarge,
    ImageBroken,
    ImageTooLarge,
    ImgproError,
    NotFound,
    UnsupportedFormat,
    ValidationError,
)
from imgpro.flows.options import clean_name
from imgpro.model import Caller, Image, UploadOptions
from imgpro.web import respond
from imgpro.web.bodies import (
    FORM_SLACK_BYTES,
    MAX_PARTS,
    Form,
    Pace,
    close_unread,
    invite,
    refuse_declared_length,
)
from imgpro.web.identity import CSRF_FIELD, Visitor
from imgpro.web.links import Links, upload_links
from imgpro.web.pages import PageGroup, root_of
from imgpro.web.upload import pour, remember_uploader

MANIFEST_HEADERS: Final = {
    "Content-Type": "application/manifest+json",
    "Cache-Control": "public, max-age=300",
    "X-Content-Type-Options": "nosniff",
}
GROUND: Final = "#f6f6f3"  # `--ground` of the style sheet, in its light form
_ICONS: Final = (
    ("icon-192.png", "192x192", "any"),
    ("icon-512.png", "512x512", "any"),
    ("icon-maskable-512.png", "512x512", "maskable"),
)
# What is wrong with one file alone: those after it are still worth reading.
_OF_ONE_FILE: Final = (UnsupportedFormat, ImageBroken, ImageTooLarge, FileTooLarge)


class _Taken(msgspec.Struct):
    """What became of the files of one form."""

    stored: list[Image] = msgspec.field(default_factory=list)
    failed: list[tuple[str, ImgproError]] = msgspec.field(default_factory=list)


class SharePages(PageGroup):
    """`/manifest.webmanifest`, `/share`, `/import`."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these pages."""
        return [
            web.get("/manifest.webmanifest", self.get_manifest),
            web.get("/share", self.get_share),
            web.post("/share", self.post_share),
            web.get("/import", self.get_import),
            web.post("/import", self.post_import),
        ]

    async def get_manifest(self, request: web.Request) -> web.Response:
        """Describe the site as an app that can be installed. All links are relative: the site may have any address."""
        name = self._appliance.settings.pages.site_name
        icons = [
            {"src": f"static/{file}", "sizes": size, "type": "image/png", "purpose": use} for file, size, use in _ICONS
        ]
        body = {
            "name": name,
            "short_name": name,
            "start_url": "./",
            "scope": "./",
            "display": "standalone",
            "background_color": GROUND,
            "theme_color": GROUND,
            "icons": [*icons, {"src": "static/favicon.svg", "sizes": "any", "type": "image/svg+xml"}],
            "share_target": {
                "action": "share",
                "method": "POST",
                "enctype": "multipart/form-data",
                "params": {
                    "title": "title",
                    "text": "text",
                    "url": "url",
                    "files": [{"name": "file", "accept": ["image/*"]}],
                },
            },
        }
        return web.Response(body=msgspec.json.encode(body), headers=MANIFEST_HEADERS)

    async def get_share(self, request: web.Request) -> web.Response:
        """Lead whoever reloads what a share ended on to the place where pictures are put."""
        return respond.see_other("./")

    async def post_share(self, request: web.Request) -> web.Response:
        """Take what a device's share sheet sends: pictures, or the address of one."""
        caller = await self._sharer(request)
        if not request.content_type.startswith("multipart/"):
            raise ValidationError(None, None, {"file": "Share one or more pictures, or the address of one."})
        max_bytes = self._appliance.ingest.max_bytes(caller)
        refuse_declared_length(request, max_bytes, MAX_PARTS * max_bytes + FORM_SLACK_BYTES)
        await invite(request)
        form = Form(request, self._pace())
        taken = await self._take(form, caller)
        if not taken.stored and not taken.failed:
            url = _address(form.fields)
            if not url:
                raise ValidationError(None, None, {"file": "Share one or more pictures, or the address of one."})
            taken.stored.append(await self._fetch(url, caller))
        # A session that did not count for the pictures is not shown either.
        return self._led(request, taken, await self._identity.visitor(request) if caller.principal else None)

    async def get_import(self, request: web.Request) -> web.Response:
        """Show what would be fetched: links are followed by scanners too, so a GET changes nothing."""
        if not self._appliance.settings.imports.enabled:
            raise NotFound("Imports are turned off on this server.")
        return await self._import_page(request, request.query.get("url", ""))

    async def post_import(self, request: web.Request) -> web.Response:
        """Fetch the picture, as whoever is signed in on the page that asks for it."""
        form = await self._form(request)
        if CSRF_FIELD in form:
            caller = self._clients.caller(request, await self._identity.from_own_page(request, form))
        else:
            self._identity.check_origin(request)
            caller = self._clients.caller(request)
        url = form.get("url", "").strip()
        try:
            image = await self._fetch(url, caller)
        except ImgproError as problem:
            return await self._import_page(request, url, problem)
        return self._led(request, _Taken([image]), None)

    async def _import_page(self, request: web.Request, url: str, problem: ImgproError | None = None) -> web.Response:
        visitor = await self._identity.visitor(request)
        enabled = visitor is not None or self._appliance.settings.anonymous.enabled
        status = 200 if problem is None else problem.status
        return self._templates.page(
            request, "import.html", status, visitor=visitor, enabled=enabled, url=url, problem=problem
        )

    async def _sharer(self, request: web.Request) -> Caller:
        """Return as whom a share is taken (see above). Raises Forbidden, BadRequest."""
        self._identity.check_origin(request)
        self._clients.base_url(request)
        vouched = "Sec-Fetch-Site" in request.headers or hdrs.ORIGIN in request.headers
        return self._clients.caller(request, await self._identity.session(request) if vouched else None)

    async def _take(self, form: Form, caller: Caller) -> _Taken:
        """Store file after file, each on its own: what is wrong with one keeps none of the others out."""
        taken, name = _Taken(), ""
        try:
            async for name, chunks in form.files():
                try:
                    async with self._appliance.ingest.open(caller) as upload:
                        await pour(chunks, upload)
                        image = await upload.commit(UploadOptions(), name)
                except _OF_ONE_FILE as problem:
                    taken.failed.append((name, problem))
                    async for _ in chunks:
                        pass
                else:
                    assert isinstance(image, Image)  # nothing here is ever answered from before
                    taken.stored.append(image)
                form.pace = self._pace()  # while a file was proven and stored, nobody waited for its sender
        except ImgproError as problem:
            taken.failed.append((name, problem))
        return taken

    async def _fetch(self, url: str, caller: Caller) -> Image:
        found = await self._appliance.importing.take(url, UploadOptions(), caller)
        assert isinstance(found, Image)
        return found

    def _led(self, request: web.Request, taken: _Taken, visitor: Visitor | None) -> web.Response:
        """Return the way to the one picture, the story of several, or the one failure as it is."""
        bases, signer = self._clients.bases(request), self._appliance.signer
        if len(taken.stored) == 1 and not taken.failed:
            (image,) = taken.stored
            links = upload_links(bases, image, signer)
            response = respond.see_other(links.page.replace(bases.site, root_of(request).rstrip("/"), 1))
            if image.account is None:
                remember_uploader(response, Links(self._clients.opened_at(request), image, signer))
            return response
        if not taken.stored and len(taken.failed) == 1:
            raise taken.failed[0][1]
        response = self._templates.page(
            request,
            "shared.html",
            200 if taken.stored else taken.failed[0][1].status,
            visitor=visitor,
            stored=[
                (image, upload_links(bases, image, signer), Links(root_of(request).rstrip("/"), image, signer))
                for image in taken.stored
            ],
            failed=[(clean_name(name.encode("utf-8", "replace").decode()), problem) for name, problem in taken.failed],
        )
        close_unread(request, response)
        return response

    def _pace(self) -> Pace:
        return Pace(self._appliance.settings.uploads)


def _address(fields: dict[str, Any]) -> str:
    """Return the address that was shared: some apps put it among the words."""
    for name in ("url", "text", "title"):
        for word in str(fields.get(name, "")).split():
            if word.lower().startswith(("http://", "https://")):
                return word
    return ""
