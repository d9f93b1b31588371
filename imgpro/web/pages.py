"""Pages for people: the upload form, the viewer, deletion, calm errors; and oEmbed beside the viewer."""

import base64
import datetime
import importlib.resources
import re
import time
from typing import Any, Final

import jinja2
from aiohttp import hdrs, web

from imgpro.appliance import Appliance
from imgpro.errors import BadRequest, ImgproError, MethodNotAllowed, NotFound
from imgpro.flows.serve import View
from imgpro.model import Image
from imgpro.recipes import SIZES
from imgpro.web import respond
from imgpro.web.clients import Clients
from imgpro.web.identity import Identity
from imgpro.web.links import DELETE_COOKIE, Links, view_token
from imgpro.web.media import delete_with_token

PAGE_HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}
MAX_TITLE_BYTES: Final = 66
MAX_DESCRIPTION_BYTES: Final = 346  # previews cut what is longer
_OEMBED_URL: Final = re.compile(r"/(?:t/)?([0-9A-Za-z]{12})(?:\.[a-z]{3,4})?/?")
_PAGE_PATHS: Final = re.compile(r"/t/.*|/v1/upload|/(?!v1/|static/)[^.]*")
_BY_STATUS: Final[dict[int, type[ImgproError]]] = {404: NotFound, 405: MethodNotAllowed}
_SHORTER_S: Final = (3_600, 86_400, 7 * 86_400)  # what the form offers besides the default
_SIZE_NAMES: Final = {"s": "Small", "m": "Medium", "l": "Large"}
_SPANS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


class Templates:
    """The jinja2 environment: escaping always on, an undefined name is an error."""

    def __init__(self, site_name: str) -> None:
        folder = importlib.resources.files("imgpro") / "templates"
        loader = jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8"))
        self._env = jinja2.Environment(
            loader=loader,
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._env.filters["bytes"] = show_bytes
        self._env.filters["span"] = show_span
        self._env.filters["date"] = show_date
        self._env.filters["amount"] = lambda count: "unlimited" if count is None else f"{count:,}"
        self._env.filters["room"] = lambda size: "unlimited" if size is None else show_bytes(size)
        self._env.globals["site_name"] = site_name
        for entry in folder.iterdir():
            self._env.get_template(entry.name)  # now, not from the disk when the first visitor waits

    def page(self, request: web.BaseRequest, name: str, http_status: int = 200, **values: Any) -> web.Response:
        """Return a rendered page. Its own links are relative, so that it works under any host name and path."""
        body = self._env.get_template(name).render(root=_root(request), **values)
        return web.Response(status=http_status, body=body.encode(), headers=PAGE_HEADERS)


class ErrorPages:
    """Shows errors as a page to people who opened a page, and to nobody else."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    def for_browser(
        self, request: web.BaseRequest, status: int, problem: ImgproError | None = None
    ) -> web.Response | None:
        """Return a page if the request came from a browser's address bar or form, else None."""
        wants = "text/html" in request.headers.get(hdrs.ACCEPT, "")
        if not wants or not _PAGE_PATHS.fullmatch(request.path):
            return None
        if problem is None:
            problem = _BY_STATUS.get(status, BadRequest)()
        response = self._templates.page(request, "error.html", status, problem=problem, status=status)
        if problem.action.seconds:
            response.headers["Retry-After"] = str(problem.action.seconds)
        return response


class PageHandlers:
    """`/`, `/{id}`, `/{id}/delete`, `/oembed`, `/robots.txt`."""

    def __init__(self, appliance: Appliance, clients: Clients, templates: Templates, identity: Identity) -> None:
        self._appliance = appliance
        self._clients = clients
        self._templates = templates
        self._identity = identity

    async def get_home(self, request: web.Request) -> web.Response:
        """Show the upload form."""
        return self._templates.page(request, "home.html", **self._offer(request))

    def _offer(self, request: web.Request) -> dict[str, Any]:
        """Return what this server takes from a caller without a key."""
        settings = self._appliance.settings
        anonymous = settings.anonymous
        return {
            "base": self._clients.base_url(request),
            "enabled": anonymous.enabled,
            "imports": settings.imports.enabled,
            "max_bytes": settings.uploads.anonymous_max_bytes,
            "per_hour": anonymous.uploads_per_hour,
            "per_day": anonymous.uploads_per_day,
            "retention_s": anonymous.retention_s,
            "shorter_s": [span for span in _SHORTER_S if anonymous.retention_s is None or span < anonymous.retention_s],
        }

    async def get_viewer(self, request: web.Request) -> web.Response:
        """Show one picture with everything a link preview needs."""
        view = self._identity.view(request)
        image = await self._appliance.serve.visible(request.match_info["id"], view)
        links = Links(self._clients.bases(request), image, self._appliance.signer, view.token)
        here = Links(_root(request).rstrip("/"), image, self._appliance.signer, view.token)
        indexing = self._appliance.settings.pages.indexing and image.public
        response = self._templates.page(
            request,
            "viewer.html",
            image=image,
            links=links,
            here=here,
            mine=self._uploaded_here(request, image),
            sizes=_offered_sizes(image, here),
            frame=_frame(image),
            social=links.social_image(),
            title=_cut(image.name, MAX_TITLE_BYTES),
            summary=_cut(image.description or _facts(image), MAX_DESCRIPTION_BYTES),
            indexing=indexing,
            embeds=_embeds(image, links),
            facts=_facts(image),
            created=_date(image.created_ms),
            expires=_date(image.expires_ms) if image.expires_ms is not None else None,
        )
        if not indexing:
            response.headers["X-Robots-Tag"] = "noindex"
        if not image.public:
            response.headers["Referrer-Policy"] = "no-referrer"
        return response

    def _uploaded_here(self, request: web.Request, image: Image) -> bool:
        """Tell whether this browser's own form sent the picture: then its page offers to delete it."""
        token = request.cookies.get(DELETE_COOKIE, "")
        return self._appliance.signer.verify(token, "delete", image.id, time.time())

    async def get_delete(self, request: web.Request) -> web.Response:
        """Show what would be deleted; a GET changes nothing, because link scanners follow links."""
        token = request.query.get("token", "")
        image = await self._deletable(request.match_info["id"], token)
        signer = self._appliance.signer
        here = Links(_root(request).rstrip("/"), image, signer, view_token(image, signer))
        shown = here.sizes()["s"]
        response = self._templates.page(
            request, "delete.html", image=image, token=token, facts=_facts(image), shown=shown
        )
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    async def post_delete(self, request: web.Request) -> web.Response:
        """Delete by the signed link: from the page's button, or from a program."""
        image_id, token = request.match_info["id"], request.query.get("token", "")
        await delete_with_token(self._appliance, image_id, token)
        if "text/html" in request.headers.get(hdrs.ACCEPT, ""):
            return self._templates.page(request, "deleted.html")
        return respond.json({"success": True})

    async def get_oembed(self, request: web.Request) -> web.Response:
        """Describe a picture to programs that embed links (oEmbed 1.0, type photo)."""
        if request.query.get("format", "json") != "json":
            response = respond.error(BadRequest("Only JSON is offered here."))
            response.set_status(501)
            return response
        bases, url = self._clients.bases(request), request.query.get("url", "")
        base = next((base for base in (bases.site, bases.src) if url.startswith(base)), None)
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
        body = (
            "User-agent: *\nDisallow: /v1/\n"
            if self._appliance.settings.pages.indexing
            else "User-agent: *\nAllow: /\n"
        )
        return web.Response(text=body, headers={"Cache-Control": "public, max-age=3600"})

    async def _deletable(self, image_id: str, token: str) -> Image:
        signer = self._appliance.signer
        if not signer.verify(token, "delete", image_id, time.time()):
            raise NotFound()
        view = None
        image = await self._appliance.records.get(image_id)
        if image is not None and not image.public:
            view = signer.sign("view", image_id)
        return await self._appliance.serve.visible(image_id, View(view))


def show_bytes(count: int) -> str:
    """Return a byte count as people read it, e.g. `2.8 MB`."""
    size = float(count)
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if size < 1024 or unit == "TB":
            digits = f"{size:.0f}" if unit == "bytes" or size >= 100 else f"{size:.1f}".removesuffix(".0")
            return f"{digits} {unit}"
        size /= 1024
    return f"{count} bytes"


def show_span(seconds: int) -> str:
    """Return a time span in its largest whole unit, e.g. `30 days` or `1 hour`."""
    unit, size = next(((unit, size) for unit, size in _SPANS if seconds >= size and seconds % size == 0), _SPANS[-1])
    count = seconds // size
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def _root(request: web.BaseRequest) -> str:
    """Return the relative link from the requested page to the root of the site, with a slash at the end."""
    return "../" * (request.rel_url.raw_path.count("/") - 1) or "./"


def _frame(image: Image) -> str:
    """Return an SVG as a data URI: the placeholder drawn in the picture's own size.

    It gives the page its final shape before a byte of the picture is there, without inline style, which the
    content security policy forbids. Transparent pictures get an empty one: nothing may shine through them.
    """
    width, height = image.blob.width, image.blob.height
    size = f'width="{width}" height="{height}"'
    inner = ""
    if image.blob.placeholder and not image.blob.has_alpha:
        inner = f'<image href="{image.blob.placeholder}" {size} preserveAspectRatio="none"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}">{inner}</svg>'
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _embeds(image: Image, links: Links) -> list[tuple[str, str]]:
    """Return what people paste elsewhere: a label and the text, each safe in the language it is for."""
    page, src = (link.replace("&", "&amp;") for link in (links.page, links.src))
    size = f'width="{image.blob.width}" height="{image.blob.height}"'
    return [
        ("Link", links.page),
        ("Picture", links.src),
        ("Markdown", f"![{respond.markdown_text(image.name)}]({links.src})"),
        ("HTML", f'<a href="{page}"><img src="{src}" {size} alt=""></a>'),
        ("BBCode", f"[url={links.page}][img]{links.src}[/img][/url]"),
    ]


def _facts(image: Image) -> str:
    blob = image.blob
    return f"{blob.width} × {blob.height} {blob.format.upper()}, {show_bytes(blob.stored_bytes)}"


def show_date(at_ms: int) -> str:
    """Return a moment as people read it, e.g. `25 November 2026, 21:40 UTC`."""
    moment = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _date(at_ms: int) -> dict[str, str]:
    moment = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    return {"iso": moment.isoformat(timespec="seconds"), "words": f"{moment.day} {moment:%B %Y}"}


def _cut(text: str, max_bytes: int) -> str:
    raw = " ".join(text.split()).encode()
    return raw.decode() if len(raw) <= max_bytes else raw[: max_bytes - 3].decode(errors="ignore") + "…"


def _offered_sizes(image: Image, links: Links) -> list[dict[str, Any]]:
    """Return the sizes that really are smaller than the picture, then the picture itself."""
    blob, offered = image.blob, []
    for size in SIZES:
        entry = links.sizes()[size]
        if entry["width"] < blob.width:
            offered.append({"label": _SIZE_NAMES[size], **entry})
    offered.append({"label": "Original", "src": links.src, "width": blob.width, "height": blob.height})
    return offered


def _fit(image: Image, links: Links, max_width: str | None, max_height: str | None) -> tuple[int, int, str]:
    """Choose the largest size within an oEmbed consumer's bounds; below the smallest one, that one shown smaller."""
    bound_w, bound_h = _bound(max_width), _bound(max_height)
    choices = [(e["width"], e["height"], e["src"]) for e in reversed(_offered_sizes(image, links))]
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
