"""Model values as the API shows them: the structs of `contract`, filled in."""

import time
from typing import Any

import msgspec

from imgpro import model
from imgpro.flows.accounts import Made
from imgpro.flows.quota import next_month_s
from imgpro.settings import MIB
from imgpro.web import contract
from imgpro.web.links import Links
from imgpro.web.respond import markdown_text


def image(found: model.Image, links: Links, *, to_owner: bool = False) -> contract.Image:
    """Return an image as anyone sees it who may; its owner is given a signed link to a private one too."""
    return contract.Image(**_fields(found, links, to_owner=to_owner))


def _fields(found: model.Image, links: Links, *, to_owner: bool) -> dict[str, Any]:
    blob = found.blob
    sizes = {name: contract.Size(**size) for name, size in links.sizes().items()}
    return {
        "id": found.id,
        "name": found.name,
        "url": links.page,
        "src": links.src,
        "width": blob.width,
        "height": blob.height,
        "filesize": blob.stored_bytes,
        "format": blob.format,
        "public": found.public,
        "created_at": found.created_ms // 1000,
        "tags": list(found.tags),
        "namespace": found.namespace,
        "description": found.description,
        "date": found.display_date,
        "sizes": contract.Sizes(**sizes),
        "placeholder": blob.placeholder or None,
        "thumb": sizes["s"].src,
        "frames": blob.frames if blob.frames > 1 else msgspec.UNSET,
        "expires_at": msgspec.UNSET if found.expires_ms is None else found.expires_ms // 1000,
        "signed_src": links.signed_src if to_owner and not found.public else msgspec.UNSET,
    }


def created(found: model.Image, links: Links) -> contract.Created:
    """Return the answer to an upload or import: the image, its delete link, and without an account the way to one."""
    src = links.src
    escaped = src.replace("&", "&amp;")
    upgrade = contract.Upgrade(
        type="register",
        url=f"{links.base}/api/quick-start",
        message="Create a free API key to keep your pictures and organise them.",
        label="Create API Key",
    )
    return contract.Created(
        **_fields(found, links, to_owner=True),
        metadata_removed=list(found.metadata_removed),
        delete_url=links.delete,
        markdown=f"![{markdown_text(found.name)}]({src})",
        html=f'<img src="{escaped}" width="{found.blob.width}" height="{found.blob.height}" alt="">',
        bbcode=f"[img]{src}[/img]",
        upgrade=upgrade if found.account is None else msgspec.UNSET,
    )


def key_created(made: Made, *, mail: bool) -> contract.KeyCreated:
    """Return the answer to a request for a key; `mail` tells whether this server sends links itself."""
    plan, account = made.plan, made.account
    message = "Keep this key: it is not shown again."
    if made.pending:
        who = (
            "its owner has opened the link that was mailed" if mail else "the operator of this server has confirmed it"
        )
        message = f"This address is verified already. The key works once {who}."
    elif not account.verified:
        step = "Open the link that was mailed to you" if mail else "Ask the operator of this server"
        message = f"{step} to verify the address; pictures are then kept for good."
    return contract.KeyCreated(
        key=made.secret,
        key_id=made.key.id,
        name=made.key.name,
        abilities=list(made.key.abilities),
        namespace=made.key.namespace,
        status="pending" if made.pending else "active",
        verified=account.verified,
        limits=contract.KeyLimits(
            uploads=plan.uploads,
            storage_mb=None if plan.storage_bytes is None else plan.storage_bytes // MIB,
            retention_days=None if plan.retention_s is None else max(1, plan.retention_s // 86_400),
        ),
        message=message,
    )


def key(found: model.Key, account: model.Account) -> contract.Key:
    """Return a key without its secret."""
    pending = account.verified and found.confirmed_ms is None
    return contract.Key(
        key_id=found.id,
        name=found.name,
        abilities=list(found.abilities),
        namespace=found.namespace,
        status="pending" if pending else "active",
        created_at=found.created_ms // 1000,
        last_used_at=None if found.last_used_ms is None else found.last_used_ms // 1000,
    )


def usage(
    account: model.Account, found: model.Usage, keys: int, keys_limit: int, retention_days: int | None
) -> contract.UsageReport:
    """Return how much of its plan an account has used."""
    return contract.UsageReport(
        plan=found.plan,
        verified=account.verified,
        uploads=contract.Count(used=found.uploads_used, limit=found.uploads_limit),
        storage=contract.Count(used=found.storage_used_bytes, limit=found.storage_limit_bytes),
        keys=contract.Count(used=keys, limit=keys_limit),
        retention_days=retention_days,
        resets_at=next_month_s(time.time()),
    )
