"""What the operator sees of the whole server, and what waits for a decision. Accounts have pages of their own."""

import re
from typing import Any, Final

from aiohttp import web

from imgpro import __version__
from imgpro.appliance import Appliance
from imgpro.errors import ValidationError
from imgpro.flows.overview import Disk, settings_in_force
from imgpro.flows.watch_room import worst
from imgpro.forms import show_bytes
from imgpro.model import Image
from imgpro.store.queries_operator import Growth
from imgpro.web import codes, respond
from imgpro.web.clients import Clients
from imgpro.web.confirm import ask_again, is_sure
from imgpro.web.identity import Identity, Visitor
from imgpro.web.operator_door import OperatorDoor
from imgpro.web.operator_keeping import KeepingPart
from imgpro.web.operator_tiles import tile
from imgpro.web.pages import PageGroup, Templates
from imgpro.web.sign_in import sign_in_first

MAX_LINKS: Final = 50
MAX_PICTURES: Final = 100
_ID_IN_LINK: Final = re.compile(r"(?:^|[\s/])([0-9A-Za-z]{12})(?=$|[\s/.?#])")
_CHART_HEIGHT: Final = 100
_CHART_STEP: Final = 10
SAID: Final = {
    "plan": "The plan is changed.",
    "verified": "The address is confirmed.",
    "refused": "The request is turned down.",
    "approved": "The plan is granted.",
    "declined": "The request is turned down.",
    "blocked": "The account is blocked.",
    "unblocked": "The account is let in again.",
    "deleted": "The pictures are deleted.",
    "gone": "The account is deleted. Its pictures go right now.",
}


class OperatorPages(PageGroup):
    """`/operator` and its parts."""

    def __init__(self, appliance: Appliance, clients: Clients, templates: Templates, identity: Identity) -> None:
        super().__init__(appliance, clients, templates, identity)
        self._door = OperatorDoor(identity, appliance)
        self._keeping = KeepingPart(appliance, self._door)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these pages."""
        return [
            web.get("/operator", self.get_operator),
            web.get("/operator/settings", self.get_settings),
            web.get("/operator/log", self.get_log),
            web.post("/operator/decide", self.post_decide),
            web.post("/operator/invite", self.post_invite),
            web.post("/operator/pictures", self.post_pictures),
            *self._keeping.routes(),
        ]

    async def get_operator(self, request: web.Request) -> web.Response:
        """Show how full and how well the server is, what waits, and what came lately."""
        visitor = await self._door.visitor(request)
        if visitor is None:
            return sign_in_first(request)
        appliance = self._appliance
        overview, operate = appliance.overview, appliance.operate
        growth = await overview.growth()
        storage = await overview.storage(growth)
        base = self._clients.base_url(request)
        links = await operate.waiting_links(MAX_LINKS)
        return self._page(
            request,
            "operator.html",
            visitor,
            part="overview",
            said=SAID.get(request.query.get("said", ""), ""),
            storage=storage,
            forecast=forecast(storage.disk),
            chart=chart(growth),
            requests=await operate.requests(),
            to_verify=await overview.to_verify(),
            links=[(email, own_address(link, appliance.home.base, base)) for email, link in links],
            tiles=[tile(request, visitor, appliance.signer, *found) for found in await self._lately()],
            health=await self._health(),
            keeping=await self._keeping.shown(),
            notes=self._clients.notes.lines(),
            version=__version__,
            started_ms=overview.started_ms,
        )

    async def get_settings(self, request: web.Request) -> web.Response:
        """Show every setting as it is in force, and where it came from. Nothing secret."""
        visitor = await self._door.visitor(request)
        if visitor is None:
            return sign_in_first(request)
        sections = settings_in_force(self._appliance.settings, self._appliance.sources)
        chosen = [row for rows in sections.values() for row in rows if row.source != "default"]
        waiting = self._appliance.waiting
        return self._page(
            request,
            "operator-settings.html",
            visitor,
            part="settings",
            sections=sections,
            chosen=chosen,
            waiting=waiting,
        )

    async def get_log(self, request: web.Request) -> web.Response:
        """Show the last lines of the log."""
        visitor = await self._door.visitor(request)
        if visitor is None:
            return sign_in_first(request)
        only = request.query.get("only") == "warnings"
        lines = self._appliance.log_lines.newest(grave_only=only)
        return self._page(request, "operator-log.html", visitor, part="log", lines=lines, only=only)

    async def post_decide(self, request: web.Request) -> web.Response:
        """Grant or turn down a plan that somebody asks for."""
        _, form = await self._door.sent(request)
        granted = form.get("decision") == "approve"
        values = {"email": form.get("email", ""), "plan": form.get("plan")}
        await self._appliance.operate.perform("approve" if granted else "decline", values)
        return respond.see_other(f"../operator?said={'approved' if granted else 'declined'}")

    async def post_invite(self, request: web.Request) -> web.Response:
        """Make an invitation, and show its link."""
        visitor, form = await self._door.sent(request)
        made = await self._appliance.operate.perform("invite", {"email": form.get("email", "").strip() or None})
        who = made["email"] or "whoever opens it first"
        words = f"It makes one account, for {who}, within {made['days']} days."
        return self._link_page(request, visitor, "An invitation", words, made["link"], "operator/accounts")

    async def post_pictures(self, request: web.Request) -> web.Response:
        """Delete pictures, whoever they belong to, once the operator is sure."""
        visitor, form = await self._door.sent(request)
        wanted = [name.removeprefix("id-") for name in form if name.startswith("id-")]
        wanted += _ID_IN_LINK.findall(form.get("links", ""))
        wanted = list(dict.fromkeys(wanted))
        if not wanted or len(wanted) > MAX_PICTURES:
            raise ValidationError(f"Tick or name the pictures to delete, at most {MAX_PICTURES}.")
        if not is_sure(form):
            many = f"{len(wanted)} pictures" if len(wanted) > 1 else "this picture"
            return ask_again(
                self._templates,
                request,
                visitor,
                form,
                question=f"Delete {many}?",
                words="Their links stop working at once, for everybody. This cannot be undone.",
                button="Delete",
                back="operator",
            )
        await self._appliance.operate.perform("delete-picture", {"ids": wanted})
        return respond.see_other("../operator?said=deleted")

    def _link_page(
        self, request: web.Request, visitor: Visitor, title: str, words: str, link: str, back: str
    ) -> web.Response:
        own = own_address(link, self._appliance.home.base, self._clients.base_url(request))
        return link_page(self._templates, request, visitor, title=title, words=words, link=own, back=back)

    async def _health(self) -> dict[str, Any]:
        appliance = self._appliance
        return {
            "checks": await appliance.readiness.everything(),
            "disk": worst(appliance.room.rooms),
            "pool": appliance.pool.status(),
            "mail": await appliance.overview.mail(),
            "mail_host": appliance.settings.mail.host,
        }

    async def _lately(self) -> list[tuple[Image, str | None, str | None]]:
        return [(upload.image, upload.email, upload.network) for upload in await self._appliance.overview.lately()]

    def _page(self, request: web.Request, name: str, visitor: Visitor, **values: Any) -> web.Response:
        return self._templates.page(request, name, visitor=visitor, section="operator", **values)


def link_page(
    templates: Templates, request: web.Request, visitor: Visitor, *, title: str, words: str, link: str, back: str
) -> web.Response:
    """Return the page that shows a link to hand on, for the only time: to copy, and as a QR code."""
    return templates.page(
        request,
        "operator-link.html",
        visitor=visitor,
        section="operator",
        title=title,
        words=words,
        link=link,
        code=codes.inline(link),
        back=back,
    )


def own_address(link: str, home: str, base: str) -> str:
    """Return a link under the address that the operator uses right now."""
    return link.replace(home, base, 1)


def forecast(disk: Disk) -> str:
    """Return in words how long the room lasts."""
    if disk.full:
        return "uploads are refused until there is more room"
    if disk.full_in_days is None:
        return "at this rate there is room for more than ten years"
    return f"at this rate full in {_about(disk.full_in_days)}"


def _about(days: int) -> str:
    if days < 2:
        return "a day or two"
    if days < 21:
        return f"about {days} days"
    if days < 75:
        return f"about {round(days / 7)} weeks"
    if days < 730:
        return f"about {round(days / 30.4)} months"
    return f"about {round(days / 365)} years"


def chart(growth: list[Growth]) -> dict[str, Any]:
    """Return the growth of the last days as bars of a picture 100 high; days on which more went than came hang down."""
    net = [day.added_bytes - day.removed_bytes for day in growth]
    top, bottom = max(0, *net), -min(0, *net)
    scale = (_CHART_HEIGHT - 2) / (top + bottom or 1)
    zero = round(1 + top * scale, 1)
    bars = []
    for place, (day, change) in enumerate(zip(growth, net, strict=True)):
        height = round(max(abs(change) * scale, 0.8), 1)
        words = f"{'+' if change >= 0 else '-'}{show_bytes(abs(change))}"
        bars.append(
            {
                "x": place * _CHART_STEP + 1,
                "y": round(zero - height, 1) if change >= 0 else zero,
                "height": height,
                "less": change < 0,
                "words": words,
                "day_ms": day.day * 86_400_000,
            }
        )
    return {
        "bars": bars,
        "width": len(bars) * _CHART_STEP,
        "zero": zero,
        "sum": sum(net),
        "added": sum(day.added for day in growth),
    }
