"""`/v1/media`: pictures as data, listed, looked at, changed and deleted, one or many."""

import time
from typing import Any

from aiohttp import web

from imgpro import model
from imgpro.appliance import Appliance
from imgpro.errors import Action, NotFound, Unauthorized
from imgpro.flows.browse import Listed, parse_filters
from imgpro.flows.change import Failed, parse_ids
from imgpro.flows.options import parse_changes
from imgpro.flows.quota import check_ability
from imgpro.model import Principal
from imgpro.web import contract, respond, shapes
from imgpro.web.bodies import Pace, read_json
from imgpro.web.clients import Clients
from imgpro.web.identity import Identity
from imgpro.web.links import Links


class MediaHandlers:
    """`/v1/media`, `/v1/media/{id}`, `/v1/namespaces`, `/v1/tags`."""

    def __init__(self, appliance: Appliance, clients: Clients, identity: Identity) -> None:
        self._appliance = appliance
        self._clients = clients
        self._identity = identity

    async def get_media(self, request: web.Request) -> web.Response:
        """Show an image to anyone who may see it."""
        principal = await self._identity.of(request)
        view = self._identity.view(request)
        image = await self._appliance.serve.visible(request.match_info["id"], view)
        return respond.json(self._shown(request, image, principal))

    async def list_media(self, request: web.Request) -> web.Response:
        """List the caller's pictures, newest first."""
        principal = await self._reader(request)
        page = await self._appliance.browse.page(principal, parse_filters(request.query))
        body = contract.ImageList(
            success=True,
            data=[self._shown(request, image, principal) for image in page.images],
            next_cursor=page.next_cursor,
            has_more=page.has_more,
            pagination=contract.Pagination(next_cursor=page.next_cursor, has_more=page.has_more),
        )
        return respond.json(body)

    async def list_namespaces(self, request: web.Request) -> web.Response:
        """List the caller's namespaces with counts and bytes."""
        return _totals(await self._appliance.browse.namespaces(await self._reader(request)))

    async def list_tags(self, request: web.Request) -> web.Response:
        """List the caller's tags with counts and bytes."""
        return _totals(await self._appliance.browse.tags(await self._reader(request)))

    async def patch_media(self, request: web.Request) -> web.Response:
        """Change one picture."""
        principal = await self._writer(request)
        changes = parse_changes(await self._json(request))
        image = await self._appliance.change.image(principal, request.match_info["id"], changes)
        return respond.json(self._shown(request, image, principal))

    async def patch_many(self, request: web.Request) -> web.Response:
        """Change many pictures, each on its own."""
        principal = await self._writer(request)
        ids = parse_ids(request.query.get("ids", ""))
        changes = parse_changes(await self._json(request))
        done, failed = await self._appliance.change.images(principal, ids, changes)
        body = contract.BatchUpdated(success=not failed, updated=len(done), ids=done, failed=_failures(failed))
        return respond.json(body)

    async def delete_media(self, request: web.Request) -> web.Response:
        """Delete a picture: for its owner, or for the holder of its delete link."""
        image_id, token = request.match_info["id"], request.query.get("token")
        if token is not None:
            await delete_with_token(self._appliance, image_id, token)
            return respond.json(contract.Success(success=True))
        principal = await self._identity.of(request)
        if principal is None:
            wanted = Action("fix", label="Send an API key, or the token from the picture's delete_url")
            raise Unauthorized("Deleting needs a key, or the token from the picture's delete_url.", wanted)
        await self._appliance.change.delete(principal, image_id)
        return respond.json(contract.Success(success=True))

    async def delete_many(self, request: web.Request) -> web.Response:
        """Delete many pictures, each on its own."""
        principal = await self._writer(request)
        done, failed = await self._appliance.change.delete_all(principal, parse_ids(request.query.get("ids", "")))
        body = contract.BatchDeleted(success=not failed, deleted=len(done), ids=done, failed=_failures(failed))
        return respond.json(body)

    async def _reader(self, request: web.Request) -> Principal:
        principal = await self._identity.needed(request)
        check_ability(principal, "read")
        return principal

    async def _writer(self, request: web.Request) -> Principal:
        principal = await self._identity.needed(request)
        check_ability(principal, "write")
        return principal

    async def _json(self, request: web.Request) -> dict[str, Any]:
        return await read_json(request, Pace(self._appliance.settings.uploads))

    def _shown(self, request: web.Request, image: model.Image, principal: Principal | None) -> contract.Image:
        mine = principal is not None and principal.owns(image)
        links = Links(
            self._clients.bases(request),
            image,
            self._appliance.signer,
            None if mine else request.query.get("sig"),
        )
        return shapes.image(image, links, to_owner=mine and principal is not None and principal.may("read"))


def _totals(found: list[Listed]) -> web.Response:
    data = [contract.Total(name=total.name, count=total.images, bytes=total.stored_bytes) for total in found]
    return respond.json(contract.TotalList(success=True, data=data))


def _failures(failed: list[Failed]) -> list[contract.Failure]:
    return [contract.Failure(id=one.id, error=one.error, message=one.message) for one in failed]


async def delete_with_token(appliance: Appliance, image_id: str, token: str) -> None:
    """Delete if the token was made for this image. Raises NotFound in every other case."""
    if not appliance.signer.verify(token, "delete", image_id, time.time()):
        raise NotFound()
    if not await appliance.remove.images([image_id]):
        raise NotFound()
