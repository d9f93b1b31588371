"""Who may see and do what the operator does: judged by the account as the database has it now, for every request."""

from typing import Final

from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.errors import Action, Forbidden
from imgpro.web.bodies import Pace, read_form
from imgpro.web.identity import Identity, Visitor

_WAY_BACK: Final = Action("redirect", url="/dashboard", label="Your pictures are in the dashboard")


class OperatorDoor:
    """Lets the operator in, and nobody else."""

    def __init__(self, identity: Identity, appliance: Appliance) -> None:
        self._identity = identity
        self._appliance = appliance

    async def visitor(self, request: web.Request) -> Visitor | None:
        """Return the operator who looks; None for somebody who is not signed in. Raises Forbidden for all others."""
        visitor = await self._identity.visitor(request)
        if visitor is not None:
            _refuse_others(visitor)
        return visitor

    async def sent(self, request: web.Request) -> tuple[Visitor, dict[str, str]]:
        """Return the operator who sent a form of ours, and the form, read before anybody is judged.

        Raises Unauthorized, Forbidden.
        """
        form = await read_form(request, Pace(self._appliance.settings.uploads))
        visitor = await self._identity.sender(request, form)
        _refuse_others(visitor)
        return visitor, form


def _refuse_others(visitor: Visitor) -> None:
    if not visitor.operates:
        raise Forbidden("Only the operator of this server sees this page.", _WAY_BACK)
