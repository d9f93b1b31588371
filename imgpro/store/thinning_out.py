"""Removing old backups from a place, and the blobs that none of the others names. Blocking.

Blobs go only after every list of what is still needed was proven whole. Memory does not grow with their number.
"""

import heapq
import time
from typing import Final

import msgspec

from imgpro.errors import Action, BackupUnusable
from imgpro.store.backing_up import Tell
from imgpro.store.quiet_threads import Stop, quieten
from imgpro.store.repository import MANIFEST, Backup, Repository, blob_name

INCOMPLETE_KEPT_S: Final = 86_400.0
FUTURE_S: Final = 86_400.0


class Thinned(msgspec.Struct, frozen=True):
    """What was removed, and how many backups are left."""

    removed: tuple[str, ...]
    left: int
    blobs: int
    bytes: int


def thin_out(repository: Repository, keep: int, stop: Stop, tell: Tell) -> Thinned:
    """Keep the newest `keep` backups, and the newest that lacks nothing. Raises TargetFault, BackupUnusable."""
    quieten()
    repository.for_reading()
    target = repository.target
    with target.lock("changing"), target.lock("reading"):
        target.tidy()
        found = repository.backups()
        for backup in found:
            if backup.damaged:  # whatever it named would go with the blobs that nobody needs
                raise _unknown_needs(repository.place, backup.name)
        surplus = _surplus(found, keep)
        left = [backup for backup in found if backup.manifest is not None and backup.name not in surplus]
        for backup in left:
            assert backup.manifest is not None
            repository.check_digests(backup.name, backup.manifest)
        tell("removing old backups", len(surplus))
        for name in surplus:
            stop.check()
            repository.delete(name)
            tell("", 1)
        # Where no backup is left, the lists may have been lost and the pictures not: the next backup will need them.
        blobs, size = _remove_unneeded(repository, left, stop, tell) if left else (0, 0)
    return Thinned(tuple(surplus), len(left), blobs, size)


def _surplus(found: list[Backup], keep: int) -> list[str]:
    now_s = time.time()
    # Those from the future were named by a wrong clock: they must not drive out what comes now.
    whole = sorted(
        (backup for backup in found if backup.manifest is not None),
        key=lambda backup: (backup.begun_s <= now_s + FUTURE_S, backup.name),
    )
    kept = {backup.name for backup in whole[-keep:]}
    # A backup that lacks pictures must not drive out the last one that has them.
    kept |= {backup.name for backup in [each for each in whole if each.lacks_nothing][-1:]}
    return [
        backup.name
        for backup in found
        if backup.name not in kept and (backup.manifest is not None or backup.begun_s < now_s - INCOMPLETE_KEPT_S)
    ]


def _remove_unneeded(repository: Repository, left: list[Backup], stop: Stop, tell: Tell) -> tuple[int, int]:
    tell("removing pictures that no backup needs", 0)
    needed = heapq.merge(*(repository.digests(backup.name) for backup in left))
    current = next(needed, None)
    count = size = 0
    for digest, found in repository.blobs():
        raw = bytes.fromhex(digest)
        while current is not None and current < raw:
            current = next(needed, None)
        if current != raw:
            stop.check()
            repository.target.delete(blob_name(digest))
            count += 1
            size += found
            tell("", 1)
    for digest in repository.bad():
        if repository.target.size(blob_name(digest)) is None:
            repository.unmark_bad(digest)
    repository.target.flush()
    return count, size


def _unknown_needs(place: str, name: str) -> BackupUnusable:
    return BackupUnusable(
        f"{MANIFEST} of the backup {name} at {place} is damaged: nobody knows what it needs, so nothing is removed.",
        Action("fix", label=f"Remove the folder backups/{name} there by hand, if no whole copy of it is to be had"),
    )
