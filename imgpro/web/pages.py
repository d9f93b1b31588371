"""What all pages share: their headers, their templates, the words of numbers and dates, and calm errors."""

import datetime
import importlib.resources
import re
from typing import Any, Final

import jinja2
from aiohttp import hdrs, web

from imgpro.appliance import Appliance
from imgpro.errors import BadRequest, ImgproError, MethodNotAllowed, NotFound
from imgpro.forms import show_bytes, show_span
from imgpro.ids import REQUEST
from imgpro.web.bodies import Pace, read_form
from imgpro.web.clients import Clients
from imgpro.web.header_sign_in import hand_voucher
from imgpro.web.identity import Identity, Visitor, session_token
from imgpro.web.prefixes import PREFIX

PAGE_HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}
_PAGE_PATHS: Final = re.compile(r"/t/.*|/v1/upload|/(?!v1/|static/)[^.]*")
_PICTURE_PATH: Final = re.compile(r"/[0-9A-Za-z]{12}", re.ASCII)
_BY_STATUS: Final[dict[int, type[ImgproError]]] = {404: NotFound, 405: MethodNotAllowed}


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
        self.rename(site_name)
        self._env.globals["section"] = ""  # a page that stands in the header names itself
        for entry in folder.iterdir():
            self._env.get_template(entry.name)  # now, not from the disk when the first visitor waits

    def rename(self, site_name: str) -> None:
        """Show another name on pages from now on."""
        self._env.globals["site_name"] = site_name

    def page(
        self,
        request: web.BaseRequest,
        name: str,
        http_status: int = 200,
        *,
        visitor: Visitor | None = None,
        **values: Any,
    ) -> web.Response:
        """Return a rendered page. Its own links are relative, so that it works under any host name and path."""
        values.update(root=root_of(request), visitor=visitor, has_session=session_token(request) is not None)
        body = self._env.get_template(name).render(values)
        response = web.Response(status=http_status, body=body.encode(), headers=PAGE_HEADERS)
        if visitor is not None:
            hand_voucher(request, response)
        return response


class PageGroup:
    """Pages that belong together, and what all of them are made from."""

    def __init__(self, appliance: Appliance, clients: Clients, templates: Templates, identity: Identity) -> None:
        self._appliance = appliance
        self._clients = clients
        self._templates = templates
        self._identity = identity

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these pages."""
        raise NotImplementedError

    async def _form(self, request: web.Request) -> dict[str, str]:
        """Return the fields of a form. Raises what `read_form` does."""
        return await read_form(request, Pace(self._appliance.settings.uploads))

    async def _sent(self, request: web.Request) -> tuple[Visitor, dict[str, str]]:
        """Return who sent a form of ours, and the form. Raises Unauthorized, Forbidden."""
        form = await self._form(request)
        return await self._identity.sender(request, form), form


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
        wanted = request.path if _PICTURE_PATH.fullmatch(request.path) else ""
        # Where the error itself knows a page of this site that helps, that is the button.
        url = problem.action.url or ""
        way = url[1:] if url.startswith("/") else ""
        response = self._templates.page(
            request,
            "error.html",
            status,
            problem=problem,
            status=status,
            wanted=wanted,
            way=way,
            request_id=REQUEST.get() if status == ImgproError.status else "",
        )
        if problem.action.seconds:
            response.headers["Retry-After"] = str(problem.action.seconds)
        return response


def show_date(at_ms: int) -> str:
    """Return a moment as people read it, e.g. `25 November 2026, 21:40 UTC`."""
    moment = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def root_of(request: web.BaseRequest) -> str:
    """Return the link from the requested page to the root of the site, with a slash at the end.

    It is relative, but for the root itself below a prefix: whether a proxy was asked for that with its slash is not to
    be seen here.
    """
    path = request.rel_url.raw_path
    if path == "/" and PREFIX in request:
        return f"{request[PREFIX]}/"
    return "../" * (path.count("/") - 1) or "./"
