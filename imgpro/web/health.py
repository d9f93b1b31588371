"""`/healthz`: the loop runs. `/readyz`: a picture could be stored and served right now."""

from aiohttp import web

from imgpro import __version__
from imgpro.appliance import Appliance
from imgpro.web import respond


class HealthHandlers:
    """Answers for supervisors and containers."""

    def __init__(self, appliance: Appliance) -> None:
        self._appliance = appliance

    async def get_healthz(self, request: web.Request) -> web.Response:
        """Say that the event loop answers."""
        return respond.json({"status": "ok", "version": __version__})

    async def get_readyz(self, request: web.Request) -> web.Response:
        """Say whether the database takes writes, the disk has room, workers run and the server is not stopping."""
        checks = await self._appliance.readiness()
        ready = all(checks.values())
        body = {
            "status": "ok" if ready else "unavailable",
            "checks": {name: "ok" if good else "failed" for name, good in checks.items()},
        }
        return respond.json(body, 200 if ready else 503)
