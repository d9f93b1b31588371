"""`/healthz`: the loop runs. `/readyz`: a picture could be stored and served right now.

Why not, and what is only half well, is told to the operator and to programs on this machine alone: it names numbers.
"""

from typing import Any

from aiohttp import web

from imgpro import __version__, ids
from imgpro.appliance import Appliance
from imgpro.errors import Forbidden, ImgproError, Unauthorized
from imgpro.flows.readiness import Check, Readiness
from imgpro.web import respond
from imgpro.web.clients import Clients
from imgpro.web.identity import Identity


class HealthHandlers:
    """Answers for supervisors and containers."""

    def __init__(self, appliance: Appliance, clients: Clients, identity: Identity) -> None:
        self._readiness = appliance.readiness
        self._mark = ids.instance_mark(appliance.data.instance_id)
        self._clients = clients
        self._identity = identity

    async def get_healthz(self, request: web.Request) -> web.Response:
        """Say that the event loop answers, and whose it is: `imgpro doctor` asks that of `server.base_url`."""
        return respond.json({"status": "ok", "version": __version__, "instance": self._mark})

    async def get_readyz(self, request: web.Request) -> web.Response:
        """Say whether the database takes writes, the disk has room, workers run and the server is not stopping."""
        if self._clients.is_neighbour(request) or await self._is_operator(request):
            return await reasons(self._readiness)
        checks = await self._readiness.decisive()
        ready = all(check.good for check in checks.values())
        body = {
            "status": "ok" if ready else "unavailable",
            "checks": {name: "ok" if check.good else "failed" for name, check in checks.items()},
        }
        return respond.json(body, 200 if ready else 503)

    async def _is_operator(self, request: web.Request) -> bool:
        try:
            principal = await self._identity.of(request)
        except (Unauthorized, Forbidden):
            raise
        except ImgproError:  # the database is what is not well
            return False
        return principal is not None and principal.account.role == "operator" and principal.may("read")


async def reasons(readiness: Readiness) -> web.Response:
    """Answer with everything that was found, and why."""
    checks = await readiness.everything()
    ready = all(check.good for check in checks.values())
    response = respond.json(_body(checks, ready=ready), 200 if ready else 503)
    del response.headers["Access-Control-Allow-Origin"]  # not for scripts of other sites
    return response


def _body(checks: dict[str, Check], *, ready: bool) -> dict[str, Any]:
    well = all(check.verdict == "ok" for check in checks.values())
    return {
        "status": "unavailable" if not ready else "ok" if well else "degraded",
        "checks": {name: check.verdict for name, check in checks.items()},
        "reasons": {name: check.reason for name, check in checks.items()},
    }
