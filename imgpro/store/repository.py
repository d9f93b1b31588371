"""What a place for backups holds, and where: blobs that all backups share, and per backup what else it needs.

    IMGPRO-BACKUPS             whose backups these are
    blobs/ab/cd/<digest>       originals, as in a data directory
    backups/<time>/imgpro.db   and FORMAT, secret.key
    backups/<time>/digests     of all blobs that its database names: 32 bytes each, sorted
    backups/<time>/manifest.json   written last: without it the backup is incomplete
    bad/<digest>               a blob that was found damaged here, to be copied again

Knows nothing of SQL, nor of what kind of place it is.
"""

import contextlib
import datetime
import json
import re
import shlex
import time
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
from blake3 import blake3

from imgpro.errors import Action, BackupUnusable, TargetFault
from imgpro.store.layout import blob_path
from imgpro.store.target import MARKS, Absent, Target

LAYOUT: Final = 1
MARKER: Final = "IMGPRO-BACKUPS"
MANIFEST: Final = "manifest.json"
DIGESTS: Final = "digests"
DATABASE: Final = "imgpro.db"
DIGEST_BYTES: Final = 32
MOST_NAMED: Final = 1_000  # digests that are named one by one
_SMALL_BYTES: Final = 1024 * 1024
_LAST_MS: Final = 253_402_300_799_999  # the end of the year 9999: what comes after it is no time that can be shown
_NAME: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
_DIGEST: Final = re.compile(rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}")
_TIME: Final = "%Y%m%dT%H%M%SZ"


class Marker(msgspec.Struct, frozen=True):
    """Whose backups lie at a place."""

    layout: int
    instance_id: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What one backup holds. Hashes are BLAKE3 in hex, times Unix ms.

    `missing_blobs` could not be had when it was made; the first of them are named in `missing`.
    """

    layout: int
    schema: int
    app_version: str
    instance_id: str
    created_ms: Annotated[int, msgspec.Meta(ge=0, le=_LAST_MS)]
    images: int
    blobs: int
    blob_bytes: int
    new_blobs: int
    new_bytes: int
    database_bytes: int
    database_blake3: str
    digests_blake3: str
    files_blake3: dict[str, str]  # of the small files
    missing_blobs: int = 0
    missing: tuple[str, ...] = ()


class Backup(msgspec.Struct, frozen=True):
    """One backup; without a manifest it is incomplete, unless that is `damaged`."""

    name: str
    manifest: Manifest | None
    damaged: bool = False

    @property
    def begun_s(self) -> float:
        """When it was begun, by its name: Unix seconds."""
        return _time_of(self.name)

    @property
    def lacks_nothing(self) -> bool:
        """Tell whether all pictures could be had when it was made."""
        return self.manifest is not None and not self.manifest.missing_blobs


def _time_of(name: str) -> float:
    """Return the time in a backup's name as Unix seconds. Raises ValueError for what is no time.

    `time.strptime` would load its code now, and who restores as another user may not read it any more.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(name)
    year, month, day, hour, minute, second = map(int, found.groups())
    return datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC).timestamp()


def _is_name(name: str) -> bool:
    """Tell whether we name backups so; whoever else may write to the place has other names."""
    try:
        return _time_of(name) >= 0
    except ValueError:
        return False


def blob_name(digest: str) -> str:
    """Return where a blob lies at a place."""
    return f"blobs/{blob_path(digest)}"


class Repository:
    """The backups at one place. Every method blocks and raises TargetFault; most raise BackupUnusable too."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.place = target.describe()

    def marker(self) -> Marker | None:
        """Return whose backups these are; None if there are none. Raises BackupUnusable for what cannot be read."""
        try:
            content = self._small(MARKER)
        except Absent:
            return None
        try:
            layout = json.loads(content)["layout"]
            if layout == LAYOUT:
                return msgspec.convert(json.loads(content), Marker)
        except (ValueError, KeyError, TypeError, msgspec.ValidationError):
            raise BackupUnusable(f"{MARKER} at {self.place} is damaged.", _other_place()) from None
        raise BackupUnusable(
            f"The backups at {self.place} were written by another version of imgpro: layout {layout}, not {LAYOUT}.",
            Action("fix", label="Use the version of imgpro that wrote them, or a newer one"),
        )

    def for_reading(self) -> Marker:
        """Return the marker of a place that holds backups. Raises BackupUnusable if there are none."""
        found = self.marker()
        if found is None:
            raise BackupUnusable(
                f"There are no backups of imgpro at {self.place}.",
                Action("fix", label="Mount its disk, or name another place: --from DIR"),
            )
        return found

    def check_there(self) -> None:
        """Raise TargetFault unless the backups are still there: else all that they hold would look lost."""
        if self.marker() is None:
            raise TargetFault(
                f"The backups at {self.place} are not there any more.", Action("fix", label="Mount their disk again")
            )

    def for_writing(self, instance_id: str, *, used_before: bool) -> None:
        """Make the place ready for backups of this instance, if it is empty or holds some of them already.

        `used_before`: there have been backups here, so that an empty place is one whose disk is not mounted. Raises
        BackupUnusable, TargetFault.
        """
        found = self.marker()
        if found is not None and found.instance_id != instance_id:
            raise BackupUnusable(
                f"{self.place} holds backups of another imgpro (instance {found.instance_id}, not {instance_id}).",
                _other_place(),
            )
        if found is not None:
            return
        if used_before:
            anew = f"imgpro backup create --to {shlex.quote(self.place)} --begin-anew"
            raise TargetFault(
                f"{self.place} holds no backups any more, but did before: its disk is not mounted, or was exchanged.",
                Action("fix", label=f"Mount it. If you emptied it: {anew}"),
            )
        if any(not item.name.startswith(MARKS) for item in self.target.list("")):
            raise BackupUnusable(f"{self.place} is not empty and holds no backups of imgpro.", _other_place())
        self._put_small(MARKER, msgspec.json.encode(Marker(LAYOUT, instance_id)) + b"\n")
        self.target.flush()

    def backups(self) -> list[Backup]:
        """Return all backups, the oldest first."""
        names: dict[str, bool] = {}
        for item in self.target.list("backups/"):
            parts = item.name.split("/")
            if len(parts) == 3 and _is_name(parts[1]):
                names[parts[1]] = names.get(parts[1], False) or parts[2] == MANIFEST
        return [self._backup(name) if whole else Backup(name, None) for name, whole in sorted(names.items())]

    def find(self, name: str | None) -> tuple[str, Manifest]:
        """Return a backup by name, or the newest that is complete. Raises BackupUnusable."""
        self.for_reading()
        found = [backup for backup in self.backups() if name is None or backup.name == name]
        for backup in reversed(found):
            if backup.manifest is not None:
                return backup.name, backup.manifest
        see = Action("fix", label="imgpro backup list")
        if not found:
            raise BackupUnusable(f"There is no backup{f' {name}' if name else ''} at {self.place}.", see)
        raise BackupUnusable(
            f"The backup {name or found[-1].name} at {self.place} is incomplete or its manifest damaged.", see
        )

    def new_name(self) -> str:
        """Return a name for a backup that begins now."""
        taken = {backup.name for backup in self.backups()}
        now_s = time.time()
        while (name := time.strftime(_TIME, time.gmtime(now_s))) in taken:
            now_s += 1
        return name

    def put_manifest(self, name: str, manifest: Manifest) -> None:
        """Complete a backup: whatever it consists of becomes durable first."""
        self.target.flush()
        self._put_small(f"backups/{name}/{MANIFEST}", msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        self.target.flush()

    def put_small(self, name: str, file: str, content: bytes) -> str:
        """Write a small file of a backup, and return its hash."""
        self._put_small(f"backups/{name}/{file}", content)
        return blake3(content).hexdigest()

    def small(self, name: str, manifest: Manifest, file: str) -> bytes:
        """Return a small file of a backup. Raises BackupUnusable."""
        try:
            content = self._small(f"backups/{name}/{file}")
        except Absent:
            content = b""
        if blake3(content).hexdigest() != manifest.files_blake3.get(file):
            raise self.damaged(name, file)
        return content

    def delete(self, name: str) -> None:
        """Remove a backup but for its blobs; the manifest first, so that half of it is never taken for one."""
        files = [item.name for item in self.target.list(f"backups/{name}/")]
        for file in sorted(files, key=lambda each: not each.endswith(f"/{MANIFEST}")):
            self.target.delete(file)
            if file.endswith(f"/{MANIFEST}"):
                self.target.flush()
        self.target.flush()

    def digests(self, name: str) -> Iterator[bytes]:
        """Yield the digests that a backup names, in order. Raises BackupUnusable."""
        left, last = b"", b""
        try:
            with contextlib.closing(self.target.read(f"backups/{name}/{DIGESTS}")) as chunks:
                for chunk in chunks:
                    left += chunk
                    whole = len(left) - len(left) % DIGEST_BYTES
                    for at in range(0, whole, DIGEST_BYTES):
                        digest = left[at : at + DIGEST_BYTES]
                        if digest <= last:
                            raise self.damaged(name, DIGESTS)
                        last = digest
                        yield digest
                    left = left[whole:]
        except Absent:
            raise self.damaged(name, DIGESTS) from None
        if left:
            raise self.damaged(name, DIGESTS)

    def check_digests(self, name: str, manifest: Manifest) -> None:
        """Raise BackupUnusable unless the list of digests is what the manifest says."""
        hasher = blake3()
        try:
            with contextlib.closing(self.target.read(f"backups/{name}/{DIGESTS}")) as chunks:
                for chunk in chunks:
                    hasher.update(chunk)
        except Absent:
            raise self.damaged(name, DIGESTS) from None
        if hasher.hexdigest() != manifest.digests_blake3:
            raise self.damaged(name, DIGESTS)

    def blobs(self) -> Iterator[tuple[str, int]]:
        """Yield digest and size of all blobs at the place, in order of digest."""
        for item in self.target.list("blobs/"):
            digest = item.name.rpartition("/")[2]
            if _DIGEST.fullmatch(digest) and item.name == blob_name(digest):
                yield digest, item.size

    def bad(self) -> frozenset[str]:
        """Return the digests of blobs that were found damaged here."""
        names = (item.name.rpartition("/")[2] for item in self.target.list("bad/"))
        return frozenset(name for name in names if _DIGEST.fullmatch(name))

    def mark_bad(self, digest: str) -> None:
        """Have a blob copied again by the next backup. Where that cannot be written down, it is not."""
        with contextlib.suppress(TargetFault):
            self._put_small(f"bad/{digest}", b"damaged\n")
            self.target.flush()

    def unmark_bad(self, digest: str) -> None:
        """Say that a blob was copied again."""
        self.target.delete(f"bad/{digest}")

    def damaged(self, name: str, file: str) -> BackupUnusable:
        """Return the error for a damaged part of a backup."""
        return BackupUnusable(f"{file} of the backup {name} at {self.place} is damaged or missing.", _another())

    def _backup(self, name: str) -> Backup:
        try:
            return Backup(name, msgspec.json.decode(self._small(f"backups/{name}/{MANIFEST}"), type=Manifest))
        except (Absent, msgspec.MsgspecError, UnicodeDecodeError):
            return Backup(name, None, damaged=True)

    def _small(self, name: str) -> bytes:
        content = b""
        with contextlib.closing(self.target.read(name)) as chunks:
            for chunk in chunks:
                content += chunk
                if len(content) > _SMALL_BYTES:
                    break
        return content

    def _put_small(self, name: str, content: bytes) -> None:
        self.target.put(name, [content], len(content))


def _other_place() -> Action:
    return Action("fix", label="Name an empty directory of its own for these backups")


def _another() -> Action:
    return Action("fix", label="Take another one: imgpro backup list")
