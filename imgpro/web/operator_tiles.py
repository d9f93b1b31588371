"""Pictures as the operator's pages show them, whoever they belong to."""

from typing import Any

from aiohttp import web

from imgpro.forms import show_bytes
from imgpro.model import Image
from imgpro.signing import Signer
from imgpro.web.identity import Visitor
from imgpro.web.links import Links
from imgpro.web.pages import root_of


def tile(
    request: web.Request, visitor: Visitor, signer: Signer, image: Image, email: str | None, network: str | None
) -> dict[str, Any]:
    """Return what is shown of a picture: of somebody else's private one no more than that it is there."""
    links = Links(root_of(request).rstrip("/"), image, signer)
    seen = image.public or image.account == visitor.account.seq
    # A still picture of an animation: a page of them moving is no help.
    small = links.picture("jpeg", "s") if image.blob.frames > 1 else links.sizes()["s"]["src"]
    return {
        "id": image.id,
        "page": links.page if seen else "",
        "src": small if seen else "",
        "name": image.name if seen else "Private picture",
        "who": email or (f"no account, {network}" if network else "no account"),
        "facts": f"{image.blob.format.upper()}, {show_bytes(image.blob.stored_bytes)}",
        "created_ms": image.created_ms,
    }
