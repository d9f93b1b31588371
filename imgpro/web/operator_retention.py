"""The operator's page of retention rules: what they delete, what a new one would delete, and taking them back."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.errors import ImgproError, NotFound, ValidationError
from imgpro.flows.retention import describe
from imgpro.model import StoredFormat
from imgpro.settings import MIB
from imgpro.store.queries_retention import START, Place, Rule
from imgpro.web import respond
from imgpro.web.clients import Clients
from imgpro.web.identity import Identity, Visitor
from imgpro.web.operator_door import OperatorDoor
from imgpro.web.operator_tiles import tile
from imgpro.web.pages import PageGroup, Templates
from imgpro.web.sign_in import sign_in_first

_TILES: Final = 60
_DAY_S: Final = 86_400
_FIELDS: Final = ("days", "of", "account", "namespace", "tag", "except_tag", "format", "larger_mb", "rule")
_SAID: Final = {
    "made": "The rule is made. Until it begins, and after that, you can remove it here.",
    "removed": "The rule is removed. It deletes nothing more.",
    "resumed": "The rule goes on.",
}
_WORDS: Final = {"older_than_s": "Days", "larger_than": "Megabytes", "except_tag": "Tag", "anonymous": "Whose"}


class OperatorRetentionPages(PageGroup):
    """`/operator/retention` and the rehearsal."""

    def __init__(self, appliance: Appliance, clients: Clients, templates: Templates, identity: Identity) -> None:
        super().__init__(appliance, clients, templates, identity)
        self._door = OperatorDoor(identity, appliance)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these pages."""
        return [
            web.get("/operator/retention", self.get_rules),
            web.post("/operator/retention", self.post_rules),
            web.get("/operator/retention/rehearse", self.get_rehearsal),
        ]

    async def get_rules(self, request: web.Request) -> web.Response:
        """Show the rules, and the form that rehearses another one."""
        visitor = await self._door.visitor(request)
        if visitor is None:
            return sign_in_first(request)
        return await self._rules(request, visitor, said=_SAID.get(request.query.get("said", ""), ""))

    async def get_rehearsal(self, request: web.Request) -> web.Response:
        """Show what a rule would delete now: one that is there, or one that the form describes."""
        visitor = await self._door.visitor(request)
        if visitor is None:
            return sign_in_first(request)
        fields = _given(request.query)
        retention = self._appliance.retention
        try:
            rule = await retention.wanted(_values(fields))
        except (ValidationError, NotFound) as problem:
            if "rule" in fields:
                raise
            return await self._rules(request, visitor, fields=fields, problem=problem)
        place = _place(request.query.get("after", ""))
        found = await retention.matches(rule, place or START, _TILES)
        last = found[-1].place if len(found) == _TILES else None
        signer = self._appliance.signer
        return self._page(
            request,
            "operator-rehearsal.html",
            visitor,
            rule=rule,
            deletes=describe(rule),
            fields=fields,
            rehearsal=await retention.rehearse(rule) if place is None else None,
            tiles=[tile(request, visitor, signer, one.image, one.email, one.network) for one in found],
            following=None if last is None else f"{last.created_ms}-{last.seq}",
        )

    async def post_rules(self, request: web.Request) -> web.Response:
        """Make, remove or resume a rule."""
        visitor, form = await self._door.sent(request)
        command = form.get("do", "")
        fields = _given(form) if command == "add" else {}
        try:
            said = await self._done(command, form, fields)
        except ValidationError as problem:
            return await self._rules(request, visitor, fields=fields, problem=problem)
        except NotFound as problem:
            if command != "add":
                raise
            return await self._rules(request, visitor, fields=fields, problem=problem)
        return respond.see_other(f"retention?said={said}")

    async def _done(self, command: str, form: Mapping[str, str], fields: Mapping[str, str]) -> str:
        """Do what was sent, and return which sentence tells of it. Raises ValidationError, NotFound."""
        retention = self._appliance.retention
        if command == "add":
            # A new one is made of the fields alone: another rule's name among them means nothing.
            rule = await retention.wanted({**_values(fields), "rule": None})
            await retention.add(rule, form.get("name", ""), _count(form), at_once="now" in form)
            return "made"
        if command == "remove":
            await retention.forget(form.get("rule", ""))
            return "removed"
        if command == "resume":
            await retention.resume(form.get("rule", ""), _count(form))
            return "resumed"
        raise NotFound("There is nothing like that to do.")

    async def _rules(
        self,
        request: web.Request,
        visitor: Visitor,
        *,
        said: str = "",
        fields: Mapping[str, str] | None = None,
        problem: ImgproError | None = None,
    ) -> web.Response:
        rules: list[tuple[Rule, str]] = [(rule, describe(rule)) for rule in await self._appliance.retention.rules()]
        return self._page(
            request,
            "operator-retention.html",
            visitor,
            http_status=200 if problem is None else problem.status,
            rules=rules,
            said=said,
            problem="" if problem is None else _sentence(problem),
            fields=fields or {},
            formats=get_args(StoredFormat),
        )

    def _page(
        self, request: web.Request, name: str, visitor: Visitor, http_status: int = 200, **values: Any
    ) -> web.Response:
        shown = {"section": "operator", "part": "retention", **values}
        return self._templates.page(request, name, http_status, visitor=visitor, **shown)


def _given(fields: Mapping[str, str]) -> dict[str, str]:
    """Return those fields of the form that somebody filled in."""
    return {name: fields[name].strip() for name in _FIELDS if fields.get(name, "").strip()}


def _values(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return what the fields of the form mean."""
    whose, days, size = fields.get("of", "all"), _amount(fields, "days"), _amount(fields, "larger_mb")
    return {
        "rule": fields.get("rule"),
        "older_than_s": None if days is None else days * _DAY_S,
        "larger_than": None if size is None else size * MIB,
        "anonymous": whose == "anonymous",
        "account": (fields.get("account") or "?") if whose == "account" else None,
        **{name: fields.get(name) for name in ("namespace", "tag", "except_tag", "format")},
    }


def _amount(fields: Mapping[str, str], name: str) -> float | None:
    try:
        return float(fields[name]) if name in fields else None
    except ValueError:
        return -1.0  # which no number of days or megabytes is


def _place(raw: str) -> Place | None:
    created_ms, _, seq = raw.partition("-")
    whole = created_ms.isascii() and created_ms.isdigit() and seq.isascii() and seq.isdigit() and len(raw) < 40
    return Place(min(int(created_ms), 2**60), min(int(seq), 2**60)) if whole else None


def _count(form: Mapping[str, str]) -> int:
    raw = form.get("expected", "")
    if not (raw.isascii() and raw.isdigit() and len(raw) < 16):
        raise ValidationError("Rehearse the rule first.")
    return int(raw)


def _sentence(problem: ImgproError) -> str:
    if not problem.details:
        return problem.message
    return " ".join(
        f"{_WORDS.get(field, field.capitalize())}: {words}" for field, words in sorted(problem.details.items())
    )
