"""The few files that commands keep for their user: what to say when this computer's own disk refuses."""

import errno

from imgpro.errors import Action, StorageFault
from imgpro.store import durable


def fault(error: OSError, doing: str) -> StorageFault:
    """Return the error to raise for what the operating system said while `doing`, e.g. "writing /x"."""
    reason = "the disk is full" if durable.is_full(error) else error.strerror or str(error)
    label = "Make room there, or make it writable"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        label = "Name a directory that is there"
    return StorageFault(f"Failed while {doing}: {reason}.", Action("fix", label=label))
