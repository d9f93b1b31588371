"""Which settings change while the server runs, and which wait for a restart. Knows none of the parts they are for."""

from collections.abc import Mapping
from typing import Final

import msgspec

from imgpro import forms
from imgpro.settings import Settings

# What sockets, directories, worker processes and routes were made from. Links start with `base_url`, and mail that is
# under way holds it. The certificate is live where there was one: without, there is no socket that speaks TLS.
NEEDS_RESTART: Final = frozenset(
    {
        "server.listen",
        "server.base_url",
        "server.api_url",
        "server.src_url",
        "server.idle_deadline_s",
        "storage.data",
        "storage.database_dir",
        "uploads.svg_max_bytes",  # one of the workers' limits
        "imaging.workers",
        "imaging.worker_memory_bytes",
        "imaging.deadline_s",
        "imaging.max_queued",
        "imaging.max_pixels",
        "imaging.max_side_px",
        "imaging.max_frames",
        "imaging.max_frame_pixels",
        "imaging.svg",
        "imaging.heic",
        "metrics.enabled",
        "metrics.listen",
    }
)
LIVE: Final = frozenset(
    {
        "server.tls_cert",
        "server.tls_key",
        "server.trusted_proxies",
        "server.max_connections",
        "server.max_connections_per_network",
        "server.stop_deadline_s",
        "storage.reserve_bytes",
        "storage.low_bytes",
        "uploads.anonymous_max_bytes",
        "uploads.max_bytes",
        "uploads.max_in_flight",
        "uploads.max_in_flight_per_network",
        "uploads.patience_s",
        "uploads.chunk_deadline_s",
        "uploads.min_rate_bytes",
        "uploads.deadline_s",
        "anonymous.enabled",
        "anonymous.networks",
        "anonymous.uploads_per_hour",
        "anonymous.uploads_per_day",
        "anonymous.attempts_per_minute",
        "anonymous.retention_s",
        "anonymous.storage_bytes",
        "accounts.registration",
        "accounts.unverified_keys",
        "accounts.keys",
        "accounts.keys_per_address_per_hour",
        "accounts.keys_per_network_per_hour",
        "accounts.verify_link_s",
        "accounts.session_s",
        "accounts.requests_per_minute",
        "plans.unlimited",
        "plans.upgrade",
        "plans.checkout_url",
        "plans.checkout_secret",
        "plans.unverified_uploads",
        "plans.unverified_storage_bytes",
        "plans.unverified_retention_s",
        "plans.free_uploads",
        "plans.free_storage_bytes",
        "plans.pro_uploads",
        "plans.pro_storage_bytes",
        "plans.pro_price",
        "plans.scale_uploads",
        "plans.scale_storage_bytes",
        "plans.scale_price",
        "plans.max_uploads",
        "plans.max_storage_bytes",
        "plans.max_price",
        "mail.host",
        "mail.port",
        "mail.security",
        "mail.username",
        "mail.password",
        "mail.sender",
        "mail.ca_file",
        "mail.timeout_s",
        "imports.enabled",
        "imports.private_networks",
        "imports.ports",
        "imports.deadline_s",
        "imports.per_hour",
        "cache.max_bytes",
        "cache.memory_bytes",
        "cache.memory_item_bytes",
        "cache.records",
        "pages.site_name",
        "pages.indexing",
        "header_sign_in.user_header",
        "header_sign_in.proxies",
        "header_sign_in.create",
        "header_sign_in.groups_header",
        "header_sign_in.operator_group",
        "metrics.networks",
        "log.format",
        "log.level",
        "log.access",
    }
)
_TLS: Final = frozenset({"server.tls_cert", "server.tls_key"})


class Difference(msgspec.Struct, frozen=True):
    """One setting that is not what it was. `old` and `new` are for people, and no secrets."""

    name: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.name}: {self.old} -> {self.new}" if self.old else f"{self.name}: changed"


def changes(old: Settings, new: Settings) -> list[Difference]:
    """Return what differs, in the order of the tree."""
    found = []
    for field in forms.fields():
        before, after = (getattr(getattr(each, field.section), field.name) for each in (old, new))
        if before != after:
            shown = ("", "") if field.secret else (forms.show_value(field, before), forms.show_value(field, after))
            found.append(Difference(field.path, *shown))
    return found


def waiting(running: Settings, wanted: Settings) -> list[Difference]:
    """Return what of `wanted` a running server cannot take."""
    dressed = bool(running.server.tls_cert) == bool(wanted.server.tls_cert)
    held = NEEDS_RESTART if dressed else NEEDS_RESTART | _TLS
    return [change for change in changes(running, wanted) if change.name in held]


def merged(running: Settings, wanted: Settings) -> Settings:
    """Return `wanted` with those settings as they run that wait for a restart."""
    for change in waiting(running, wanted):
        section, _, name = change.name.partition(".")
        kept = getattr(getattr(running, section), name)
        part = msgspec.structs.replace(getattr(wanted, section), **{name: kept})
        wanted = msgspec.structs.replace(wanted, **{section: part})
    return wanted


def sources_of(running: Mapping[str, str], wanted: Mapping[str, str], held: list[Difference]) -> dict[str, str]:
    """Return where each setting in force came from."""
    names = {change.name for change in held}
    return {name: running.get(name, source) if name in names else source for name, source in wanted.items()}
