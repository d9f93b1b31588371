"""The route table and the application that holds it."""

from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.web.access import AccessLog
from imgpro.web.assets import Assets
from imgpro.web.bodies import expect
from imgpro.web.clients import Clients
from imgpro.web.health import HealthHandlers
from imgpro.web.images import ImageHandlers
from imgpro.web.media import MediaHandlers
from imgpro.web.pages import ErrorPages, PageHandlers, Templates
from imgpro.web.server import Runner
from imgpro.web.upload import UploadHandlers

_ID = "{id:[0-9A-Za-z]{12}}"


def build_runner(appliance: Appliance, access: AccessLog | None) -> Runner:
    """Return the runner of the whole web side, not yet set up."""
    settings = appliance.settings
    clients = Clients(settings.server.base_url, settings.server.trusted_proxies)
    templates = Templates(settings.pages.site_name)
    app = web.Application()
    app.router.add_routes(routes(appliance, clients, templates))
    return Runner(app, settings.server, clients, appliance.hot, access, ErrorPages(templates))


def routes(appliance: Appliance, clients: Clients, templates: Templates) -> list[web.RouteDef]:
    """Return every route."""
    images = ImageHandlers(appliance)
    uploads = UploadHandlers(appliance, clients)
    media = MediaHandlers(appliance, clients)
    pages = PageHandlers(appliance, clients, templates)
    health = HealthHandlers(appliance)
    assets = Assets()
    return [
        web.get(f"/t/{_ID}.{{ext:[a-z]{{3,4}}}}", images.get_image),
        web.post("/v1/upload", uploads.post_upload, expect_handler=expect),
        web.put("/v1/upload/{name}", uploads.put_upload, expect_handler=expect),
        web.post("/v1/import", uploads.post_import),
        web.get(f"/v1/media/{_ID}", media.get_media),
        web.delete(f"/v1/media/{_ID}", media.delete_media),
        web.get("/", pages.get_home),
        web.get("/api/quick-start", pages.get_quick_start),
        web.get(f"/{_ID}", pages.get_viewer),
        web.get(f"/{_ID}/delete", pages.get_delete),
        web.post(f"/{_ID}/delete", pages.post_delete),
        web.delete(f"/{_ID}/delete", pages.post_delete),
        web.get("/oembed", pages.get_oembed),
        web.get("/robots.txt", pages.get_robots),
        web.get("/static/{name}", assets.get_asset),
        web.get("/healthz", health.get_healthz),
        web.get("/readyz", health.get_readyz),
    ]
