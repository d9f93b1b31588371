"""The pictures of who is signed in; for everybody else the way in.

The page as it is sent works without script: pages by links, filters by links and a form. `gallery.js` takes it over.
"""

from typing import Any, Final, get_args

from aiohttp import web

from imgpro.errors import ValidationError
from imgpro.flows.browse import ImagePage, Listed
from imgpro.model import Image, Principal, StoredFormat
from imgpro.recipes import target_size
from imgpro.web.archive import ArchiveHandlers
from imgpro.web.gallery_query import SPANS, GalleryQuery
from imgpro.web.links import Links
from imgpro.web.pages import PageGroup, root_of
from imgpro.web.sign_in import own_path, sign_in_page

_SHOWN: Final = 45
_LISTED: Final = 20  # namespaces and tags on the page itself; the script has all
_TYPES: Final = tuple((name, name.upper() if name != "webp" else "WebP") for name in get_args(StoredFormat))


class DashboardPages(PageGroup):
    """`/dashboard` and `/dashboard/zip`."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these pages."""
        zips = ArchiveHandlers(self._appliance, self._identity)
        return [web.get("/dashboard", self.get_dashboard), *zips.routes()]

    async def get_dashboard(self, request: web.Request) -> web.Response:
        """Show who is signed in their pictures, and everybody else the way in."""
        visitor = await self._identity.visitor(request)
        if visitor is None:
            return sign_in_page(self._appliance, self._templates, request, wanted=own_path(request.path_qs))
        query = GalleryQuery(request.query)
        page, problem = await self._found(visitor.principal, query, request.query.get("cursor", ""))
        browse = self._appliance.browse
        return self._templates.page(
            request,
            "gallery.html",
            visitor=visitor,
            section="dashboard",
            total=visitor.account.images,
            query=query,
            problem=problem,
            spans=SPANS,
            types=_TYPES,
            tiles=[self._tile(request, image) for image in page.images],
            next=page.next_cursor,
            first=not request.query.get("cursor"),
            namespaces=_most(await browse.namespaces(visitor.principal), {query["namespace"]}),
            tags=_most(await browse.tags(visitor.principal), set(query.tags)),
        )

    async def _found(self, principal: Principal, query: GalleryQuery, cursor: str) -> tuple[ImagePage, str]:
        """Return a page of pictures, or none and why."""
        try:
            return await self._appliance.browse.page(principal, query.filters(_SHOWN, cursor)), ""
        except ValidationError as problem:
            words = "This list has changed. Start again." if "cursor" in problem.details else ""
            return ImagePage((), None, False), words or " ".join(problem.details.values())

    def _tile(self, request: web.Request, image: Image) -> dict[str, Any]:
        root = root_of(request)
        links = Links(root.rstrip("/"), image, self._appliance.signer)
        blob = image.blob
        width, height = target_size(blob.width, blob.height, "s")
        src = links.picture("jpeg", "s") if blob.frames > 1 else links.sizes()["s"]["src"]
        page, src = (link.removeprefix("./") for link in (links.page, src))
        return {"page": page, "src": src, "width": width, "height": height, "name": image.name}


def _most(found: list[Listed], chosen: set[str]) -> list[Listed]:
    """Return the largest and the chosen ones, in the order of their names."""
    most = sorted(found, key=lambda each: (each.name not in chosen, -each.images))[:_LISTED]
    return sorted(most, key=lambda each: each.name)
