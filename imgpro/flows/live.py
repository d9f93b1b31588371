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
