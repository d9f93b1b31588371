"""What programs read about pages: oEmbed for those that embed links, `robots.txt` for those that list them."""

import re
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from imgpro.errors import BadRequest, NotFound
from imgpro.model import Image
from imgpro.recipes import SIZES
from imgpro.web import respond
from imgpro.web.links import Links
from imgpro.web.pages import PageGroup

_OEMBED_URL: Final = re.compile(r"/(?:t/)?([0-9A-Za-z]{12})(?:\.[a-z]{3,4})?/?")


class PreviewHandlers(PageGroup):
    """`/oembed`, `/robots.txt`."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these."""
        return [web.get("/oembed", self.get_oembed), web.get("/robots.txt", self.get_robots)]

    async def get_oembed(self, request: web.Request) -> web.Response:
        """Describe a picture to programs that embed links (oEmbed 1.0, type photo)."""
        if request.query.get("format", "json") != "json":
            response = respond.error(BadRequest("Only JSON is offered here."))
            response.set_status(501)
            return response
        bases, url = self._clients.bases(request), request.query.get("url", "")
        known = sorted((bases.site, bases.src), key=len, reverse=True)  # one may begin like the other
        base = next((base for base in known if url.startswith(f"{base}/")), None)
        match = _OEMBED_URL.fullmatch(url.removeprefix(base).partition("?")[0]) if base is not None else None
        if match is None:
            raise NotFound()
        image = await self._appliance.serve.visible(match[1], self._identity.view(request))
        links = Links(bases, image, self._appliance.signer)
        width, height, src = _fit(image, links, request.query.get("maxwidth"), request.query.get("maxheight"))
        small = links.sizes()["s"]
        body = {
            "version": "1.0",
            "type": "photo",
            "title": image.name,
            "url": src,
            "width": width,
            "height": height,
            "thumbnail_url": small["src"],
            "thumbnail_width": small["width"],
            "thumbnail_height": small["height"],
            "provider_name": self._appliance.settings.pages.site_name,
            "provider_url": bases.site,
        }
        return respond.json(body)

    async def get_robots(self, request: web.Request) -> web.Response:
        """Tell crawlers what the operator decided."""
        path = urlsplit(self._clients.base_url(request)).path
        indexing = self._appliance.settings.pages.indexing
        body = f"User-agent: *\nDisallow: {path}/v1/\n" if indexing else f"User-agent: *\nAllow: {path}/\n"
        return web.Response(text=body, headers={"Cache-Control": "private, max-age=3600"})


def _offered_sizes(image: Image, links: Links) -> list[tuple[int, int, str]]:
    """Return width, height and link of the sizes that really are smaller than the picture, and of the picture."""
    sizes = [links.sizes()[size] for size in SIZES]
    smaller = [(each["width"], each["height"], each["src"]) for each in sizes if each["width"] < image.blob.width]
    return [*smaller, (image.blob.width, image.blob.height, links.src)]


def _fit(image: Image, links: Links, max_width: str | None, max_height: str | None) -> tuple[int, int, str]:
    """Choose the largest size within an oEmbed consumer's bounds; below the smallest one, that one shown smaller."""
    bound_w, bound_h = _bound(max_width), _bound(max_height)
    choices = _offered_sizes(image, links)[::-1]
    for width, height, src in choices:
        if width <= bound_w and height <= bound_h:
            return width, height, src
    width, height, src = choices[-1]
    if width * bound_h > height * bound_w:
        return bound_w, max(1, height * bound_w // width), src
    return max(1, width * bound_h // height), bound_h, src


def _bound(text: str | None) -> int:
    """Return a bound in pixels; anything but a positive number of sane length is none."""
    usable = text is not None and re.fullmatch(r"0*[1-9][0-9]{0,8}", text)
    return int(text) if text is not None and usable else 1 << 31
