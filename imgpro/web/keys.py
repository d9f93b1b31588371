"""`/v1/keys` and `/v1/usage`: an account and a key in one call, keys listed and revoked, what is used of the plan."""

from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.errors import ValidationError
from imgpro.flows.accounts import KeyRequest
from imgpro.flows.email_address import parse_email
from imgpro.flows.options import clean_line, parse_namespace
from imgpro.flows.quota import check_ability
from imgpro.model import Ability, Principal
from imgpro.web import contract, respond, shapes
from imgpro.web.bodies import Pace, read_json
from imgpro.web.identity import Identity

MAX_KEY_NAME_CHARS: Final = 100
_ABILITIES: Final[dict[frozenset[str], tuple[Ability, ...]]] = {
    frozenset({"read", "write"}): ("read", "write"),
    frozenset({"read", "write", "upload"}): ("read", "write"),
    frozenset({"read"}): ("read",),
    frozenset({"write"}): ("write",),
    frozenset({"write", "upload"}): ("write",),
    frozenset({"upload"}): ("upload",),
    frozenset({"read", "upload"}): ("read", "upload"),
}


class KeyHandlers:
    """`POST|GET /v1/keys`, `DELETE /v1/keys/{key_id}`, `POST /v1/keys/verify`, `GET /v1/usage`."""

    def __init__(self, appliance: Appliance, identity: Identity) -> None:
        self._appliance = appliance
        self._identity = identity

    async def post_key(self, request: web.Request) -> web.Response:
        """Create a key, and an account where the address is new."""
        caller = await self._identity.caller(request)
        asked = parse_key_request(await self._json(request), needs_email=caller.principal is None)
        made = await self._appliance.accounts.register(asked, caller)
        return respond.json(shapes.key_created(made, mail=self._appliance.mail.enabled), 201)

    async def list_keys(self, request: web.Request) -> web.Response:
        """List the caller's keys, without secrets."""
        principal = await self._identity.needed(request)
        check_ability(principal, "read")
        keys = await self._appliance.accounts.keys(principal)
        data = [shapes.key(key, principal.account) for key in keys]
        return respond.json(contract.KeyList(success=True, data=data))

    async def delete_key(self, request: web.Request) -> web.Response:
        """Revoke a key."""
        principal = await self._identity.needed(request)
        check_ability(principal, "write")
        await self._appliance.accounts.revoke(principal, request.match_info["key_id"])
        return respond.json(contract.Success(success=True))

    async def post_verify(self, request: web.Request) -> web.Response:
        """Mail the link that verifies the address again."""
        caller = await self._identity.caller(request)
        body = await self._json(request) if request.can_read_body else {}
        await self._appliance.accounts.send_again(caller, parse_email_field(body, caller.principal))
        message = "If there is something to verify, a mail with a link is on its way."
        if not self._appliance.mail.enabled:
            message = "If there is something to verify, the operator of this server has a link for you."
        return respond.json(contract.Accepted(success=True, message=message), 202)

    async def get_usage(self, request: web.Request) -> web.Response:
        """Say how much of the plan is used."""
        principal = await self._identity.needed(request)
        check_ability(principal, "read")
        return respond.json(await usage_report(self._appliance, principal))

    async def _json(self, request: web.Request) -> dict[str, Any]:
        return await read_json(request, Pace(self._appliance.settings.uploads))


async def usage_report(appliance: Appliance, principal: Principal) -> contract.UsageReport:
    """Return how much of the plan of a principal's account is used."""
    account, limits = principal.account, appliance.settings.accounts
    used = await appliance.quota.usage(account)
    keys = len(await appliance.accounts.keys(principal))
    keys_limit = limits.keys if account.verified else limits.unverified_keys
    return shapes.usage(account, used, keys, keys_limit, appliance.accounts.retention_days(account))


def parse_key_request(body: dict[str, Any], *, needs_email: bool) -> KeyRequest:
    """Check a request for a key. Raises ValidationError with one sentence for each bad field."""
    details: dict[str, str] = {}
    values: dict[str, Any] = {}
    parsers: dict[str, Callable[[Any], Any]] = {
        "email": lambda raw: None if raw is None and not needs_email else parse_email(_text(raw)),
        "name": _name,
        "abilities": _abilities,
        "namespace": parse_namespace,
        "invitation": lambda raw: None if raw is None else _text(raw),
    }
    if needs_email and "email" not in body:
        details["email"] = "A mail address is needed."
    for field, parse in parsers.items():
        if field not in body:
            continue
        try:
            values[field] = parse(body[field])
        except ValueError as error:
            details[field] = str(error)
    if details:
        raise ValidationError(None, None, details)
    return KeyRequest(**{"email": None, **values})


def parse_email_field(body: dict[str, Any], principal: Principal | None) -> str | None:
    """Check whose address is meant; somebody with a key can only mean their own. Raises ValidationError."""
    named = {"email": body["email"]} if "email" in body else {}
    email = parse_key_request(named, needs_email=principal is None).email
    if principal is not None and email not in (None, principal.account.email):
        raise ValidationError(None, None, {"email": "Must be the address of the key's own account, or absent."})
    return email


def _text(raw: Any) -> str:
    if not isinstance(raw, str) or len(raw) > 1_000:
        raise ValueError("Must be text.")
    return raw


def _name(raw: Any) -> str:
    name = clean_line(_text(raw))
    if max(len(raw), len(name)) > MAX_KEY_NAME_CHARS:
        raise ValueError(f"A name has at most {MAX_KEY_NAME_CHARS} characters.")
    return name or "Default"


def _abilities(raw: Any) -> tuple[Ability, ...]:
    if isinstance(raw, str):
        raw = [part.strip() for part in raw.split(",")]
    known = _ABILITIES.get(frozenset(raw)) if isinstance(raw, list) and all(isinstance(x, str) for x in raw) else None
    if known is None:
        raise ValueError("Must be a list of read, write and upload.")
    return known
