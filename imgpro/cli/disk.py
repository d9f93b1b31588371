"""The few files that commands keep for their user: what to say when this computer's own disk refuses."""

from imgpro.errors import Action, StorageFault
from imgpro.store import durable


def fault(error: OSError, doing: str) -> StorageFault:
    """Return the error to raise for what the operating system said while `doing`, e.g. "writing /x"."""
    reason = "the disk is full" if durable.is_full(error) else error.strerror or str(error)
    return StorageFault(f"Failed while {doing}: {reason}.", Action("fix", label="Make room there, or make it writable"))
