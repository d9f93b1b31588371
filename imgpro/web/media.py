"""`/v1/media/{id}`: one image as data, and its deletion by the link that its uploader was given."""

import time

from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.errors import Action, NotFound, Unauthorized
from imgpro.web import respond
from imgpro.web.clients import Clients
from imgpro.web.links import Links


class MediaHandlers:
    """Reads and deletes single images."""

    def __init__(self, appliance: Appliance, clients: Clients) -> None:
        self._appliance = appliance
        self._clients = clients

    async def get_media(self, request: web.Request) -> web.Response:
        """Show an image to anyone who may see it."""
        image = await self._appliance.serve.visible(request.match_info["id"], request.query.get("sig"))
        links = Links(self._clients.base_url(request), image, self._appliance.signer, signed=True)
        return respond.json(respond.image_fields(image, links))

    async def delete_media(self, request: web.Request) -> web.Response:
        """Delete an image for the holder of its delete link."""
        token = request.query.get("token")
        if token is None:
            wanted = Action("fix", label="Send the token from the picture's delete_url")
            raise Unauthorized("Deleting needs the token from the picture's delete_url.", wanted)
        await delete_with_token(self._appliance, request.match_info["id"], token)
        return respond.json({"success": True})


async def delete_with_token(appliance: Appliance, image_id: str, token: str) -> None:
    """Delete if the token was made for this image. Raises NotFound in every other case."""
    if not appliance.signer.verify(token, "delete", image_id, time.time()):
        raise NotFound()
    if not await appliance.remove.images([image_id]):
        raise NotFound()
