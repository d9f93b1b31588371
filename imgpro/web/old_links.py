"""Links from before: where nothing of ours answers to a path, an address that a picture had elsewhere leads to it."""

import re
from collections.abc import Iterable
from typing import Final

from aiohttp import hdrs, web
from aiohttp.web_urldispatcher import AbstractResource

from imgpro.appliance import Appliance
from imgpro.errors import ImgproError
from imgpro.recipes import SRC_EXTENSION
from imgpro.web import respond
from imgpro.web.clients import Clients
from imgpro.web.identity import Identity
from imgpro.web.links import Links
from imgpro.web.prefixes import PREFIX

_METHODS: Final = (hdrs.METH_GET, hdrs.METH_HEAD)
_PICTURES: Final = "id"  # a path that names a picture is ours only where there is that picture


class OldLinkHandlers:
    """Asked before a 404 goes out."""

    def __init__(self, appliance: Appliance, clients: Clients, identity: Identity) -> None:
        self._appliance = appliance
        self._clients = clients
        self._identity = identity

    async def lead(self, request: web.BaseRequest) -> web.Response | None:
        """Return the answer that leads on, None where there is none for this caller."""
        if request.method not in _METHODS or not isinstance(request, web.Request):
            return None
        path, _, query = request.raw_path.partition("?")
        addresses = [f"{path}?{query}", path] if query else [path]
        folder, _, last = path.rpartition("/")
        if folder and last:
            addresses.append(f"/*/{last}")  # it was there below any folders: PictShare's sizes and filters
        if prefix := request.get(PREFIX, ""):
            addresses += [prefix + address for address in addresses]
        led = await self._appliance.old_links.find(addresses)
        if led is None:
            return None
        view = self._identity.view(request)
        try:
            image = await self._appliance.serve.visible(led.image, view)
            links = Links(self._clients.bases(request), image, self._appliance.signer, view.token)
        except ImgproError:
            return None
        if led.leads_to == "page":
            return web.Response(status=301, headers={"Location": links.page, "Cache-Control": respond.PRIVATE})
        size = "o" if image.blob.format == "svg" else led.leads_to
        headers = {
            "Location": links.picture(SRC_EXTENSION[image.blob.format], size),
            "Cache-Control": f"public, max-age={respond.SHARED_S}" if image.public else respond.PRIVATE,
            "Cross-Origin-Resource-Policy": "cross-origin",
            **respond.CORS,
        }
        return web.Response(status=301, headers=headers)


class OwnPaths:
    """Tells which paths something of ours answers to, whoever asks and whatever is stored."""

    def __init__(self, resources: Iterable[AbstractResource]) -> None:
        self._plain: set[str] = set()
        self._patterns: list[re.Pattern[str]] = []
        for resource in resources:
            info = resource.get_info()
            pattern = info.get("pattern")
            if pattern is None:
                self._plain.add(info.get("path", ""))
            elif _PICTURES not in pattern.groupindex:
                self._patterns.append(pattern)

    def __call__(self, path: str) -> bool:
        """Tell whether a path (without its query) is ours."""
        return path in self._plain or any(pattern.fullmatch(path) is not None for pattern in self._patterns)
