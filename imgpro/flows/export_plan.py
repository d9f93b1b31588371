"""What an export is made from, what becomes of each picture in it, and what came of the whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec

from imgpro.flows.errands import Progress
from imgpro.flows.export_index import Choice, Exported
from imgpro.flows.export_names import wanted_path
from imgpro.store.export_state import Before, ExportState
from imgpro.store.layout import blob_path
from imgpro.store.queries_export import Pictures, Row

MAX_NAMED: Final = 1_000

Verdict = Literal["kept", "moved", "added"]


class Source(msgspec.Struct, frozen=True):
    """What is exported from: the database, where originals and derivatives lie, and the server's mark and title."""

    database: Path
    blobs: Path
    cache: Path
    instance: str
    title: str

    def original(self, digest: str) -> Path:
        """Return where the bytes of a picture lie."""
        return self.blobs / blob_path(digest)


class Outcome(msgspec.Struct):
    """What came of it. Bytes are those of pictures. The lists name the first thousand, the numbers count all."""

    pictures: int = 0
    bytes: int = 0
    added: int = 0
    added_bytes: int = 0
    moved: int = 0
    kept: int = 0
    removed: int = 0
    damaged: int = 0
    left_alone: int = 0
    deleted_meanwhile: int = 0
    without_thumbnail: int = 0
    damaged_pictures: list[str] = msgspec.field(default_factory=list)
    files_left_alone: list[str] = msgspec.field(default_factory=list)


class Job(msgspec.Struct, frozen=True):
    """What the parts of one run share. `say` is told each picture that is left out and each file that is left alone."""

    source: Source
    choice: Choice
    pictures: Pictures
    state: ExportState
    outcome: Outcome
    progress: Progress
    say: Callable[[str], None]

    def damaged(self, picture: Exported, damage: str) -> None:
        """Note that a picture cannot be exported."""
        self.outcome.damaged += 1
        self.say(f"left out: {picture.name} ({picture.id}): {damage}.")
        if len(self.outcome.damaged_pictures) < MAX_NAMED:
            self.outcome.damaged_pictures.append(picture.id)

    def left_alone(self, file: str) -> None:
        """Note that a file of an earlier run is somebody else's now."""
        self.outcome.left_alone += 1
        self.say(f"left as it is: {file}, which was changed after it was exported.")
        if len(self.outcome.files_left_alone) < MAX_NAMED:
            self.outcome.files_left_alone.append(file)


def as_exported(row: Row, *, addresses: bool) -> Exported:
    """Return what the index says of a picture; its `file` is the path that it would have alone.

    Without `addresses` the account's id stands in place of its mail address.
    """
    image, blob = row.image, row.image.blob
    account = row.email if addresses else row.account_id
    return Exported(
        id=image.id,
        file=wanted_path(image.name, blob.format, account, image.namespace),
        name=image.name,
        description=image.description,
        public=image.public,
        created_ms=image.created_ms,
        expires_ms=image.expires_ms,
        wanted_end_ms=image.wanted_end_ms,
        display_date=image.display_date,
        account=account,
        namespace=image.namespace,
        tags=image.tags,
        digest=blob.digest,
        format=blob.format,
        bytes=blob.stored_bytes,
        width=blob.width,
        height=blob.height,
        frames=blob.frames,
        has_alpha=blob.has_alpha,
        origin=image.origin,
        metadata_removed=image.metadata_removed,
        old_links=row.old_links,
    )


def as_before(picture: Exported) -> Before:
    """Return what has to be known of a picture that an earlier run exported."""
    wanted = wanted_path(picture.name, picture.format, picture.account, picture.namespace)
    return Before(picture.id, picture.file, picture.digest, picture.bytes, picture.created_ms, wanted)


def verdict_on(picture: Exported, before: Before | None) -> Verdict:
    """Tell what is to be done for a picture, as far as the earlier run's index says; its file may differ from that."""
    if before is None or before.digest != picture.digest:
        return "added"
    return "kept" if before.wanted == picture.file else "moved"
