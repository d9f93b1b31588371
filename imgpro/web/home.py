"""The first page: a place to put pictures."""

from typing import Any, Final

from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.flows.addresses import is_private_caller
from imgpro.web.clients import Clients
from imgpro.web.identity import Identity, Visitor
from imgpro.web.pages import PageGroup, Templates

_SHORTER_S: Final = (3_600, 86_400, 7 * 86_400)  # what the form offers besides the default


class HomePages(PageGroup):
    """`/`."""

    def __init__(self, appliance: Appliance, clients: Clients, templates: Templates, identity: Identity) -> None:
        super().__init__(appliance, clients, templates, identity)
        self._claimed = False  # once true for ever: a server keeps its operator

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these pages."""
        return [web.get("/", self.get_home)]

    async def get_home(self, request: web.Request) -> web.Response:
        """Show the upload form."""
        visitor = await self._identity.visitor(request)
        self._claimed = self._claimed or await self._appliance.operate.claimed()
        return self._templates.page(
            request,
            "home.html",
            visitor=visitor,
            section="upload",
            claimed=self._claimed,
            **self._offer(request, visitor),
        )

    def _offer(self, request: web.Request, visitor: Visitor | None) -> dict[str, Any]:
        """Return what this server takes from whoever asks."""
        settings = self._appliance.settings
        uploads = settings.uploads
        retention_s = settings.anonymous.retention_s if visitor is None else self._kept_s(visitor)
        return {
            "base": self._clients.base_url(request),
            "enabled": visitor is not None or self._takes_anonymous(request),
            "imports": settings.imports.enabled,
            "max_bytes": uploads.anonymous_max_bytes if visitor is None else uploads.max_bytes,
            "owner_max_bytes": uploads.max_bytes,
            "retention_s": retention_s,
            "shorter_s": [span for span in _SHORTER_S if retention_s is None or span < retention_s],
        }

    def _kept_s(self, visitor: Visitor) -> int | None:
        return self._appliance.quota.retention_s(visitor.account)

    def _takes_anonymous(self, request: web.Request) -> bool:
        anonymous = self._appliance.settings.anonymous
        return anonymous.enabled and (
            anonymous.networks == "any" or is_private_caller(self._clients.caller(request).network)
        )
