"""Documents about this server, each as a page and as Markdown: address, limits and formats in them are its own.

A document is a template of Markdown in `imgpro/documents`. It is rendered once, with a stand-in for the address that
links start with; the answer to a request has the address that applies to it in the stand-in's place. The OpenAPI
document, which is kept as a file, uses the same stand-in.
"""

import importlib.resources
import inspect
import json
from collections.abc import Callable
from typing import Any, Final

import jinja2
import markupsafe
import msgspec
from aiohttp import hdrs, web

from imgpro import recipes
from imgpro.appliance import Appliance
from imgpro.errors import ImgproError, OperatorError, QuotaExceeded, RangeNotSatisfiable, ValidationError
from imgpro.flows import options
from imgpro.flows.change import MAX_BATCH
from imgpro.flows.tickets import TICKET_S
from imgpro.model import Account, Usage
from imgpro.plans import ORDER, UNVERIFIED
from imgpro.web import markdown, respond
from imgpro.web.clients import Clients
from imgpro.web.links import VIEW_LINK_S
from imgpro.web.pages import Templates, show_bytes, show_span
from imgpro.web.reference import Reference

BASE: Final = "https://img.example.org"  # stands for this server's own address until an answer is sent
TITLES: Final = {
    "quick-start": "Quick start",
    "reference": "Reference",
    "errors": "Errors",
    "ai-agents": "For AI agents",
}
TEXT_HEADERS: Final = {
    **respond.CORS,
    "Cache-Control": respond.PRIVATE,  # the address in it is that of the request
    "X-Content-Type-Options": "nosniff",
}
MARKDOWN: Final = "text/markdown; charset=utf-8"
PLAIN: Final = "text/plain; charset=utf-8"
YAML: Final = "application/yaml"
JSON: Final = "application/json"
IMPORT_EXAMPLE: Final = "https://www.w3.org/Icons/w3c_home.png"
_MEANINGS: Final = {
    "server_error": "Something failed that should not. The operator finds the request in the log by `X-Request-Id`.",
    "method_not_allowed": "The path exists, the method does not. The header `Allow` lists those that do.",
}


class Case(msgspec.Struct, frozen=True):
    """One class of errors: status, what it means, and an answer as this server gives it."""

    status: int
    meaning: str
    action: str
    example: str


class Problem(msgspec.Struct, frozen=True):
    """One code and the cases it stands for."""

    code: str
    cases: tuple[Case, ...]


class Documents:
    """Renders the documents, each at its first use and once."""

    def __init__(self, appliance: Appliance, sources: dict[str, str], *, mcp: bool) -> None:
        self._sources = sources
        # Markdown knows no HTML escapes; what comes from the operator passes through the filter `text`.
        self._env = jinja2.Environment(
            loader=jinja2.DictLoader(self._sources),
            autoescape=False,  # noqa: S701
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._env.filters["bytes"] = show_bytes
        self._env.filters["span"] = show_span
        self._env.filters["amount"] = lambda count: "unlimited" if count is None else f"{count:,}"
        self._env.filters["room"] = lambda size: "unlimited" if size is None else show_bytes(size)
        self._env.filters["lasting"] = lambda span: "until deleted" if span is None else show_span(span)
        self._env.filters["text"] = markdown.text
        self._facts = facts(appliance, mcp=mcp)
        self._problems = problems(appliance)
        self._texts: dict[str, str] = {}
        self._pages: dict[str, markdown.Page] = {}

    def openapi(self, ending: str) -> str:
        """Return the OpenAPI document as "json" or "yaml"."""
        return self._sources[f"openapi.{ending}"]

    def text(self, name: str) -> str:
        """Return a document as Markdown."""
        if name not in self._texts:
            rendered = self._env.get_template(name).render(**self._facts, **self._parts(name))
            self._texts[name] = _tidy(rendered)
        return self._texts[name]

    def page(self, name: str) -> markdown.Page:
        """Return a document as HTML."""
        if name not in self._pages:
            self._pages[name] = markdown.to_page(self.text(f"{name}.md"), BASE)
        return self._pages[name]

    def _parts(self, name: str) -> dict[str, Any]:
        """Return what a document is made of besides the facts."""
        if name == "errors.md":
            return {"problems": self._problems}
        if name == "reference.md":
            reference = Reference(json.loads(self.openapi("json")))
            return {"groups": reference.groups(), "shapes": reference.shapes(), "headers": reference.headers()}
        if name == "llms-full.txt":
            return {"documents": [{"title": TITLES[one], "markdown": self.text(f"{one}.md")} for one in TITLES]}
        return {}


class DocumentHandlers:
    """`/api`, `/api/...`, `/llms.txt`, `/llms-full.txt`, `/openapi.json`, `/openapi.yaml`."""

    def __init__(self, appliance: Appliance, clients: Clients, templates: Templates) -> None:
        self._appliance = appliance
        self._clients = clients
        self._templates = templates
        folder = importlib.resources.files("imgpro") / "documents"
        self._sources = {entry.name: entry.read_text(encoding="utf-8") for entry in folder.iterdir() if entry.is_file()}
        self._made: Documents | None = None

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of all documents."""
        name = "{name:" + "|".join(TITLES) + "}"
        return [
            web.get("/api", self.get_api),
            web.get(f"/api/{name}", self.get_page),
            web.get(f"/api/{name}.md", self.get_markdown),
            web.get("/llms.txt", self._plain("llms.txt")),
            web.get("/llms-full.txt", self._plain("llms-full.txt")),
            web.get("/openapi.json", self._openapi("json", JSON)),
            web.get("/openapi.yaml", self._openapi("yaml", YAML)),
        ]

    async def get_page(self, request: web.Request) -> web.Response:
        """Show a document as a page, or as Markdown to a program that asks for it by its Accept header."""
        if "text/markdown" in request.headers.get(hdrs.ACCEPT, ""):
            return await self.get_markdown(request)
        name = request.match_info["name"]
        page = self._documents(request).page(name)
        html = markupsafe.Markup(self._placed(request, page.html))  # noqa: S704 - made by us, HTML in it escaped
        response = self._templates.page(
            request, "document.html", current=name, titles=TITLES, title=page.title, html=html, headings=page.headings
        )
        response.headers["Vary"] = "Accept"
        return self._noted(response)

    async def get_markdown(self, request: web.Request) -> web.Response:
        """Answer a document as Markdown."""
        source = self._documents(request).text(f"{request.match_info['name']}.md")
        response = self._text(request, source, MARKDOWN)
        response.headers["Vary"] = "Accept"
        return response

    async def get_api(self, request: web.Request) -> web.Response:
        """Show the interactive reference."""
        anonymous = self._appliance.settings.anonymous.enabled
        base = self._clients.base_url(request)
        return self._noted(
            self._templates.page(request, "api.html", current="", titles=TITLES, anonymous=anonymous, base=base)
        )

    def _plain(self, name: str) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            return self._text(request, self._documents(request).text(name), PLAIN)

        return handler

    def _openapi(self, ending: str, content_type: str) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            return self._text(request, self._documents(request).openapi(ending), content_type)

        return handler

    def _documents(self, request: web.Request) -> Documents:
        if self._made is None:
            offered = {resource.canonical for resource in request.app.router.resources()}
            self._made = Documents(self._appliance, self._sources, mcp="/mcp" in offered)
        return self._made

    def _text(self, request: web.Request, source: str, content_type: str) -> web.Response:
        body = self._placed(request, source).encode()
        return self._noted(web.Response(body=body, headers={**TEXT_HEADERS, "Content-Type": content_type}))

    def _placed(self, request: web.Request, source: str) -> str:
        return source.replace(BASE, self._clients.base_url(request))

    def _noted(self, response: web.Response) -> web.Response:
        if not self._appliance.settings.pages.indexing:
            response.headers["X-Robots-Tag"] = "noindex"
        return response


def facts(appliance: Appliance, *, mcp: bool) -> dict[str, Any]:
    """Return what is true of this server, by the names that the templates use. Nothing secret is among it."""
    settings, plans = appliance.settings, appliance.plans
    shown = [plans.named(name) for name in (UNVERIFIED, *ORDER)]
    refused = {name for name, on in (("HEIC", settings.imaging.heic), ("SVG", settings.imaging.svg)) if not on}
    taken = ("JPEG", "PNG", "GIF", "WebP", "AVIF", "HEIC", "SVG", "BMP", "ICO")
    return {
        "base": BASE,
        "site_name": settings.pages.site_name,
        "anonymous": settings.anonymous,
        "uploads": settings.uploads,
        "accounts": settings.accounts,
        "imports": settings.imports,
        "imaging": settings.imaging,
        "mail": bool(settings.mail.host),
        "mcp": mcp,
        "plans": shown,
        "unverified": plans.named(UNVERIFIED),
        "unlimited": settings.plans.unlimited,
        "priced": any(plan.price for plan in shown) and not settings.plans.unlimited,
        "formats_in": [name for name in taken if name not in refused],
        "formats_out": [f"`{name}`" for name in dict.fromkeys(recipes.EXTENSIONS.values())],
        "sizes": recipes.SHORT_EDGE_PX,
        "min_ttl_s": options.MIN_TTL_S,
        "max_ttl_s": options.MAX_TTL_S,
        "max_name_chars": options.MAX_NAME_CHARS,
        "max_description_chars": options.MAX_DESCRIPTION_CHARS,
        "max_batch": MAX_BATCH,
        "view_link_s": VIEW_LINK_S,
        "ticket_s": TICKET_S,
        "import_example": IMPORT_EXAMPLE,
        "ttl_problem": _example(_ttl_problem()),
    }


def problems(appliance: Appliance) -> list[Problem]:
    """Return every error that the API answers with, by code, in the order of their statuses."""
    found: dict[str, list[Case]] = {}
    kinds = sorted(_kinds(ImgproError), key=lambda kind: kind.status)
    for kind in kinds:
        problem = _typical(kind, appliance)
        meaning = _MEANINGS.get(kind.code) or " ".join((inspect.getdoc(kind) or "").split())
        case = Case(kind.status, meaning, problem.action.type, _example(problem))
        found.setdefault(kind.code, []).append(case)
    return [Problem(code, tuple(cases)) for code, cases in found.items()]


def _kinds(kind: type[ImgproError]) -> list[type[ImgproError]]:
    """Return a class and all below it that are told over HTTP."""
    below = [one for child in kind.__subclasses__() if not issubclass(child, OperatorError) for one in _kinds(child)]
    return [kind, *below]


def _typical(kind: type[ImgproError], appliance: Appliance) -> ImgproError:
    """Return an error as it is met, where its class alone does not say all."""
    if issubclass(kind, ValidationError):
        return _ttl_problem()
    if issubclass(kind, RangeNotSatisfiable):
        return kind("The file has 81967 bytes.")
    if issubclass(kind, QuotaExceeded):
        return _exceeded(appliance)
    return kind()


def _ttl_problem() -> ImgproError:
    try:
        options.parse_options({"ttl": "1m"})
    except ValidationError as problem:
        return problem
    raise AssertionError("a minute is too short")


def _exceeded(appliance: Appliance) -> ImgproError:
    """Return what a verified account on the smallest plan is told when its uploads are used up."""
    plan = appliance.plans.named(ORDER[0])
    account = Account(
        seq=0,
        id="",
        email="you@example.org",
        role="member",
        plan=ORDER[0],
        plan_changes=0,
        created_ms=0,
        verified_ms=0,
        blocked_ms=None,
    )
    usage = Usage(
        plan=plan.name,
        uploads_used=plan.uploads or 0,
        uploads_limit=plan.uploads,
        storage_used_bytes=0,
        storage_limit_bytes=plan.storage_bytes,
    )
    problem = appliance.quota.exceeded(account, usage, "uploads")
    if problem.action.type == "upgrade" and problem.action.url is not None:
        path = problem.action.url.partition("?")[0]
        problem.action = msgspec.structs.replace(problem.action, url=f"{path}?t=...&exp=...&sig=...")
    return problem


def _example(problem: ImgproError) -> str:
    body = msgspec.to_builtins(respond.error_body(problem, BASE))
    return json.dumps(body, indent=2, ensure_ascii=False)


def _tidy(source: str) -> str:
    """Return a document without the empty lines that the template's own lines have left."""
    lines: list[str] = []
    for text in source.strip().splitlines():
        stripped = text.rstrip()
        if stripped or (lines and lines[-1]):
            lines.append(stripped)
    return "\n".join(lines) + "\n"
