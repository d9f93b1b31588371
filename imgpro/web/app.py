"""The route table and the application that holds it."""

from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.web.access import AccessLog
from imgpro.web.account import AccountPages
from imgpro.web.assets import Assets
from imgpro.web.bodies import expect
from imgpro.web.clients import Clients
from imgpro.web.connect import ConnectPages
from imgpro.web.counting import RequestCounts
from imgpro.web.dashboard import DashboardPages
from imgpro.web.docs import DocumentHandlers
from imgpro.web.events import EventHandlers
from imgpro.web.header_sign_in import HeaderSignIn
from imgpro.web.health import HealthHandlers
from imgpro.web.home import HomePages
from imgpro.web.identity import Identity
from imgpro.web.images import ImageHandlers
from imgpro.web.keys import KeyHandlers
from imgpro.web.mcp import McpHandlers
from imgpro.web.media import MediaHandlers
from imgpro.web.old_links import OldLinkHandlers, OwnPaths
from imgpro.web.operator import OperatorPages
from imgpro.web.operator_accounts import OperatorAccountPages
from imgpro.web.operator_retention import OperatorRetentionPages
from imgpro.web.own_account import OwnAccountPages
from imgpro.web.pages import ErrorPages, Templates
from imgpro.web.picgo import PicGoHandlers
from imgpro.web.previews import PreviewHandlers
from imgpro.web.server import Runner
from imgpro.web.share import SharePages
from imgpro.web.sign_in import SignInPages
from imgpro.web.upload import UploadHandlers
from imgpro.web.viewer import ViewerPages

_ID = "{id:[0-9A-Za-z]{12}}"


def build_runner(appliance: Appliance, access: AccessLog | None) -> Runner:
    """Return the runner of the whole web side, not yet set up."""
    settings = appliance.settings
    server = settings.server
    clients = Clients(server.base_url, server.trusted_proxies, api_url=server.api_url, src_url=server.src_url)
    templates = Templates(settings.pages.site_name)
    appliance.followers.append(lambda settings: clients.trust(settings.server.trusted_proxies))
    appliance.followers.append(lambda settings: templates.rename(settings.pages.site_name))
    identity = _identity(appliance, clients)
    leads = OldLinkHandlers(appliance, clients, identity).lead
    app = web.Application()
    app.router.add_routes(routes(appliance, clients, templates, identity))
    appliance.bring_in.is_ours = OwnPaths(app.router.resources())
    pages, listen = ErrorPages(templates), settings.metrics.listen
    parts = (settings.server, clients, appliance.hot, access, pages, appliance.quota, leads, appliance.courtesy)
    if not settings.metrics.enabled:
        return Runner(app, *parts)
    from imgpro.web.metrics import Metrics, MetricsDoor  # a fifth of a second, for those who want it

    counts = RequestCounts()
    metrics = Metrics(appliance.figures, counts, clients, settings.metrics.networks)
    appliance.followers.append(lambda settings: metrics.allow(settings.metrics.networks))
    if not listen:
        app.router.add_routes([metrics.route()])
    runner = Runner(app, *parts, counts)
    runner.metrics_door = MetricsDoor(metrics) if listen else None
    return runner


def _identity(appliance: Appliance, clients: Clients) -> Identity:
    headers = HeaderSignIn(appliance.settings.header_sign_in, clients, appliance.vouched, appliance.signer)
    appliance.followers.append(lambda settings: headers.apply(settings.header_sign_in))
    return Identity(appliance.ring, clients, appliance.signer, headers)


def routes(
    appliance: Appliance, clients: Clients, templates: Templates, identity: Identity | None = None
) -> list[web.RouteDef]:
    """Return every route."""
    identity = identity or _identity(appliance, clients)
    images = ImageHandlers(appliance, identity)
    uploads = UploadHandlers(appliance, clients, identity)
    media = MediaHandlers(appliance, clients, identity)
    keys = KeyHandlers(appliance, identity)
    mcp = McpHandlers(appliance, clients, identity)
    pages = (
        HomePages, SharePages, ViewerPages, PreviewHandlers, AccountPages, SignInPages, DashboardPages, OwnAccountPages,
        ConnectPages, OperatorPages, OperatorAccountPages, OperatorRetentionPages,
    )  # fmt: skip
    health = HealthHandlers(appliance, clients, identity)
    assets = Assets()
    table = [
        web.get(f"/t/{_ID}.{{ext:[a-z]{{3,4}}}}", images.get_image),
        web.post("/v1/upload", uploads.post_upload),
        web.put("/v1/upload/{name}", uploads.put_upload),
        web.post("/v1/import", uploads.post_import),
        web.get("/v1/media", media.list_media),
        web.patch("/v1/media", media.patch_many),
        web.delete("/v1/media", media.delete_many),
        web.get(f"/v1/media/{_ID}", media.get_media),
        web.patch(f"/v1/media/{_ID}", media.patch_media),
        web.delete(f"/v1/media/{_ID}", media.delete_media),
        web.get("/v1/namespaces", media.list_namespaces),
        web.get("/v1/tags", media.list_tags),
        web.post("/v1/keys", keys.post_key),
        web.get("/v1/keys", keys.list_keys),
        web.post("/v1/keys/verify", keys.post_verify),
        web.delete("/v1/keys/{key_id:key_[0-9A-Za-z]{6,32}}", keys.delete_key),
        web.get("/v1/usage", keys.get_usage),
        web.get("/v1/events", EventHandlers(appliance, clients, identity).get_events),
        *PicGoHandlers(appliance, clients, identity).routes(),
        web.post("/mcp", mcp.post_message),
        *DocumentHandlers(appliance, clients, templates).routes(),
        *(route for kind in pages for route in kind(appliance, clients, templates, identity).routes()),
        web.get("/static/{name}", assets.get_asset),
        web.get("/healthz", health.get_healthz),
        web.get("/readyz", health.get_readyz),
    ]
    # Whoever reads a body asks for it; aiohttp's own handler does so for everybody, and fails on what is no text.
    return [web.RouteDef(row.method, row.path, row.handler, {**row.kwargs, "expect_handler": expect}) for row in table]
