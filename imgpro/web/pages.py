"""Pages for people: the upload form, the viewer, deletion, calm errors; and oEmbed beside the viewer."""

import datetime
import importlib.resources
import re
from typing import Any, Final

import jinja2
from aiohttp import hdrs, web

from imgpro.appliance import Appliance
from imgpro.errors import BadRequest, ImgproError, NotFound
from imgpro.model import Image
from imgpro.recipes import SIZES
from imgpro.web import respond
from imgpro.web.clients import Clients
from imgpro.web.links import Links
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
_PAGE_PATHS: Final = re.compile(r"/|/[0-9A-Za-z]{12}(/delete)?|/(?!v1/|t/|static/)[^.]*")


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
        self._env.globals["site_name"] = site_name

    def page(self, name: str, http_status: int = 200, **values: Any) -> web.Response:
        """Return a rendered page."""
        body = self._env.get_template(name).render(**values)
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
        if not wants or not (_PAGE_PATHS.fullmatch(request.path) or request.path == "/v1/upload"):
            return None
        if problem is None:
            problem = NotFound() if status == 404 else BadRequest()
        response = self._templates.page("error.html", status, problem=problem, status=status)
        if problem.action.seconds:
            response.headers["Retry-After"] = str(problem.action.seconds)
        return response


class PageHandlers:
    """`/`, `/{id}`, `/{id}/delete`, `/oembed`, `/robots.txt`."""

    def __init__(self, appliance: Appliance, clients: Clients, templates: Templates) -> None:
        self._appliance = appliance
        self._clients = clients
        self._templates = templates

    async def get_home(self, request: web.Request) -> web.Response:
        """Show the upload form."""
        settings = self._appliance.settings
        return self._templates.page(
            "home.html",
            base=self._clients.base_url(request),
            max_bytes=settings.uploads.anonymous_max_bytes,
            retention_days=(settings.anonymous.retention_s or 0) // 86400,
            enabled=settings.anonymous.enabled,
        )

    async def get_quick_start(self, request: web.Request) -> web.Response:
        """Show the first curl lines, with this server's own address in them."""
        settings = self._appliance.settings
        return self._templates.page(
            "quick-start.html",
            base=self._clients.base_url(request),
            max_bytes=settings.uploads.anonymous_max_bytes,
            per_hour=settings.anonymous.uploads_per_hour,
            per_day=settings.anonymous.uploads_per_day,
            retention_days=(settings.anonymous.retention_s or 0) // 86400,
        )

    async def get_viewer(self, request: web.Request) -> web.Response:
        """Show one picture with everything a link preview needs."""
        image = await self._appliance.serve.visible(request.match_info["id"], request.query.get("sig"))
        links = Links(self._clients.base_url(request), image, self._appliance.signer, signed=True)
        social = links.social_image()
        indexing = self._appliance.settings.pages.indexing and image.public
        response = self._templates.page(
            "viewer.html",
            image=image,
            links=links,
            sizes=_offered_sizes(image, links),
            shown=links.sizes()["l"],
            social=social,
            title=_cut(image.name, MAX_TITLE_BYTES),
            summary=_cut(image.description or _facts(image), MAX_DESCRIPTION_BYTES),
            indexing=indexing,
            markdown=f"![{respond.markdown_text(image.name)}]({links.src})",
            bbcode=f"[url={links.page}][img]{links.src}[/img][/url]",
            facts=_facts(image),
            created=_date(image.created_ms),
            expires=_date(image.expires_ms) if image.expires_ms is not None else None,
        )
        if not indexing:
            response.headers["X-Robots-Tag"] = "noindex"
        if not image.public:
            response.headers["Referrer-Policy"] = "no-referrer"
        return response

    async def get_delete(self, request: web.Request) -> web.Response:
        """Show what would be deleted; a GET changes nothing, because link scanners follow links."""
        token = request.query.get("token", "")
        image = await self._deletable(request.match_info["id"], token)
        response = self._templates.page("delete.html", image=image, token=token, facts=_facts(image))
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    async def post_delete(self, request: web.Request) -> web.Response:
        """Delete by the signed link: from the page's button, or from a program."""
        image_id, token = request.match_info["id"], request.query.get("token", "")
        await delete_with_token(self._appliance, image_id, token)
        if "text/html" in request.headers.get(hdrs.ACCEPT, ""):
            return self._templates.page("deleted.html")
        return respond.json({"success": True})

    async def get_oembed(self, request: web.Request) -> web.Response:
        """Describe a picture to programs that embed links (oEmbed 1.0, type photo)."""
        if request.query.get("format", "json") != "json":
            response = respond.error(BadRequest("Only JSON is offered here."))
            response.set_status(501)
            return response
        base, url = self._clients.base_url(request), request.query.get("url", "")
        match = _OEMBED_URL.fullmatch(url.removeprefix(base).partition("?")[0]) if url.startswith(base) else None
        if match is None:
            raise NotFound()
        image = await self._appliance.serve.visible(match[1], None)
        links = Links(base, image, self._appliance.signer)
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
            "provider_url": base,
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
        if not signer.verify(token, "delete", image_id, 0.0):
            raise NotFound()
        view = None
        image = await self._appliance.records.get(image_id)
        if image is not None and not image.public:
            view = signer.sign("view", image_id)
        return await self._appliance.serve.visible(image_id, view)


def show_bytes(count: int) -> str:
    """Return a byte count as people read it, e.g. `2.8 MB`."""
    size = float(count)
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{count} bytes"


def _facts(image: Image) -> str:
    blob = image.blob
    return f"{blob.width} × {blob.height} {blob.format.upper()}, {show_bytes(blob.stored_bytes)}"


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
            offered.append({"label": size.upper(), **entry})
    offered.append({"label": "Original", "src": links.src, "width": blob.width, "height": blob.height})
    return offered


def _fit(image: Image, links: Links, max_width: str | None, max_height: str | None) -> tuple[int, int, str]:
    """Choose the largest size within an oEmbed consumer's bounds, or the smallest there is."""
    bound_w = int(max_width) if max_width and max_width.isdigit() and len(max_width) < 9 else 1 << 31
    bound_h = int(max_height) if max_height and max_height.isdigit() and len(max_height) < 9 else 1 << 31
    choices = [(e["width"], e["height"], e["src"]) for e in reversed(_offered_sizes(image, links))]
    return next((choice for choice in choices if choice[0] <= bound_w and choice[1] <= bound_h), choices[-1])
