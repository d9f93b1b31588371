"""Documents about this server, each as a page and as Markdown: address, limits and formats in them are its own.

A document is a template of Markdown in `imgpro/documents`. It is rendered once, with a stand-in for the address that
links start with; the answer to a request has the address that applies to it in the stand-in's place. The OpenAPI
document, which is kept as a file, uses the same stand-in.
"""

import asyncio
import importlib.resources
import inspect
import json
import re
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
from imgpro.forms import show_bytes, show_span
from imgpro.model import Account, Caller, Principal, Usage
from imgpro.plans import ORDER, UNVERIFIED
from imgpro.settings import Settings
from imgpro.web import markdown, respond
from imgpro.web.assets import takes_gzip
from imgpro.web.clients import Clients
from imgpro.web.links import VIEW_LINK_S
from imgpro.web.mcp_catalog import TOOLS
from imgpro.web.pages import Templates
from imgpro.web.reference import Reference, code

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

    def __init__(self, appliance: Appliance) -> None:
        folder = importlib.resources.files("imgpro") / "documents"
        self._sources = {entry.name: entry.read_text(encoding="utf-8") for entry in folder.iterdir() if entry.is_file()}
        self._facts = facts(appliance)
        for name in ("openapi.json", "openapi.yaml"):
            self._sources[name] = in_own_words(self._sources[name], self._facts)
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
        self._env.filters["code"] = code
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
            return {
                "groups": reference.groups(),
                "shared_replies": reference.shared(),
                "shapes": reference.shapes(),
                "headers": reference.headers(),
            }
        if name == "llms-full.txt":
            return {"documents": [{"title": TITLES[one], "markdown": self.text(f"{one}.md")} for one in TITLES]}
        return {}


class DocumentHandlers:
    """`/api`, `/api/...`, `/llms.txt`, `/llms-full.txt`, `/openapi.json`, `/openapi.yaml`."""

    def __init__(self, appliance: Appliance, clients: Clients, templates: Templates) -> None:
        self._appliance = appliance
        self._clients = clients
        self._templates = templates
        self._documents = Documents(appliance)
        appliance.followers.append(self._follow)

    def _follow(self, _: Settings) -> None:
        self._documents = Documents(self._appliance)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of all documents."""
        name = "{name:" + "|".join(TITLES) + "}"
        return [
            web.get("/api", self.get_api),
            web.get(f"/api/{name}", self.get_page),
            web.get(f"/api/{name}.md", self.get_markdown),
            web.get("/llms.txt", self.get_text),
            web.get("/llms-full.txt", self.get_text),
            web.get("/openapi.json", self.get_openapi),
            web.get("/openapi.yaml", self.get_openapi),
        ]

    async def get_api(self, request: web.Request) -> web.Response:
        """Show the interactive reference."""
        base = self._clients.bases(request).api
        known: dict[str, Any] = {"anonymous": self._appliance.settings.anonymous.enabled, "base": base}
        return self._noted(request, self._templates.page(request, "api.html", current="", titles=TITLES, **known))

    async def get_page(self, request: web.Request) -> web.Response:
        """Show a document as a page, or as Markdown to a program that asks for it by its Accept header."""
        if "text/markdown" in request.headers.get(hdrs.ACCEPT, ""):
            return await self.get_markdown(request)
        name = request.match_info["name"]
        page = await asyncio.to_thread(self._documents.page, name)
        html = markupsafe.Markup(self._placed(request, page.html))  # noqa: S704 - made by us, HTML in it escaped
        known: dict[str, Any] = {"title": page.title, "html": html, "headings": page.headings}
        response = self._templates.page(request, "document.html", current=name, titles=TITLES, **known)
        return self._noted(request, response)

    async def get_markdown(self, request: web.Request) -> web.Response:
        """Answer a document as Markdown."""
        source = await asyncio.to_thread(self._documents.text, f"{request.match_info['name']}.md")
        return self._text(request, source, MARKDOWN)

    async def get_text(self, request: web.Request) -> web.Response:
        """Answer what there is to read, or all of it in one."""
        source = await asyncio.to_thread(self._documents.text, request.path.removeprefix("/"))
        return self._text(request, source, PLAIN)

    async def get_openapi(self, request: web.Request) -> web.Response:
        """Answer the OpenAPI document."""
        ending = request.path.rpartition(".")[2]
        return self._text(request, self._documents.openapi(ending), JSON if ending == "json" else YAML)

    def _text(self, request: web.Request, source: str, content_type: str) -> web.Response:
        body = self._placed(request, source).encode()
        return self._noted(request, web.Response(body=body, headers={**TEXT_HEADERS, "Content-Type": content_type}))

    def _placed(self, request: web.Request, source: str) -> str:
        bases = self._clients.bases(request)
        placed = source.replace(f"{BASE}/v1/", f"{bases.api}/v1/").replace(f"{BASE}/t/", f"{bases.src}/t/")
        return placed.replace(BASE, bases.site)

    def _noted(self, request: web.Request, response: web.Response) -> web.Response:
        """Return an answer that is packed where its reader takes that, and not indexed unless the operator wants it."""
        response.headers["Vary"] = "Accept, Accept-Encoding"
        if takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
            response.enable_compression(web.ContentCoding.gzip)
        if not self._appliance.settings.pages.indexing:
            response.headers["X-Robots-Tag"] = "noindex"
        return response


def facts(appliance: Appliance) -> dict[str, Any]:
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
        "tools": [(tool.name, tool.title) for tool in TOOLS],
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


def in_own_words(openapi: str, known: dict[str, Any]) -> str:
    """Return the OpenAPI document with this server's limits where it tells those of an unchanged one."""
    for phrase, own in _own_words(known).items():
        # In YAML a phrase may go on in the next line, and in JSON a line ends with two characters.
        pattern = r"(?:\s|\\n)+".join(re.escape(word) for word in phrase.split())
        openapi = re.sub(pattern, lambda _, own=own: own, openapi)  # type: ignore[misc]
    return openapi


def _own_words(known: dict[str, Any]) -> dict[str, str]:
    """Return the phrases of the OpenAPI document that depend on settings, and what is true here."""
    uploads, formats = known["uploads"], known["formats_in"]
    sizes = [f"{show_bytes(uploads.max_bytes)} with one"]
    if known["anonymous"].enabled:
        sizes.insert(0, f"{show_bytes(uploads.anonymous_max_bytes)} without a key")
    if known["imaging"].svg:
        sizes.append(f"{show_bytes(uploads.svg_max_bytes)} for SVG")
    first, key = ("needs no account", "") if known["anonymous"].enabled else ("needs a key", "-H X-API-Key:$KEY ")
    return {
        "The first upload needs no account:": f"The first upload {first}:",
        f"curl -F file=@shot.png {BASE}/v1/upload": f"curl {key}-F file=@shot.png {BASE}/v1/upload",
        "JPEG, PNG, GIF, WebP, AVIF, HEIC, SVG, BMP and ICO are taken": (
            f"{', '.join(formats[:-1])} and {formats[-1]} are taken"
        ),
        "up to 20 MB without a key, 70 MB with one, 10 MB for SVG.": f"up to {', '.join(sizes)}.",
        "within 30 seconds,": f"within {show_span(int(known['imports'].deadline_s))},",
        "has 3 keys at most.": f"has {known['accounts'].unverified_keys} keys at most.",
        "Numbers of limits are those of a server that its operator has not changed.": (
            "Numbers of limits are those of this server."
        ),
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
    problem = appliance.quota.exceeded(Caller("", Principal(account, None)), usage, "uploads")
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
