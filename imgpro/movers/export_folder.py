"""What `imgpro export` wrote, to be taken back as it was: same links, same dates, same owners."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from imgpro.errors import SourceUnusable
from imgpro.flows.export_index import INDEX, Exported, read_index
from imgpro.movers.found import Found, LeftOut

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class ExportFolder:
    """One export."""

    name = "imgpro"  # ids are the same wherever the folder lies

    def __init__(self, root: Path) -> None:
        self._root = root
        self._index = root / INDEX
        with self._open() as file:
            self._header, _ = read_index(file, str(self._index))

    def count(self) -> int | None:
        """Return how many pictures there are."""
        return self._header.pictures or None

    def read(self) -> Iterator[Found | LeftOut]:
        """Yield every picture of the index."""
        with self._open() as file:
            _, pictures = read_index(file, str(self._index))
            for one in pictures:
                yield self._found(one)

    def _open(self) -> BinaryIO:
        try:
            fd = os.open(self._index, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SourceUnusable(f"{self._index} cannot be read: {error.strerror}.") from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise SourceUnusable(f"{self._index} is not a file.")
        return open(fd, "rb")

    def _found(self, one: Exported) -> Found | LeftOut:
        path = self._inside(one.file)
        if path is None:
            return LeftOut(one.id, "Its file lies outside of the export.")
        if not _DIGEST.fullmatch(one.digest):
            return LeftOut(one.id, "What the index has as its digest is none.")
        return Found(
            item=one.id,
            path=path,
            name=one.name,
            created_ms=one.created_ms,
            expires_ms=one.wanted_end_ms,
            description=one.description,
            public=one.public,
            display_date=one.display_date or "",
            namespace=one.namespace or "",
            tags=one.tags,
            owner=one.account or "",
            old_links=one.old_links,
            id=one.id,
            digest=one.digest,
            origin=one.origin,
            metadata_removed=one.metadata_removed,
        )

    def _inside(self, file: str) -> str | None:
        """Return where a file lies; None where its path leads out of the export, or over a link that does."""
        inside = PurePosixPath(file)
        if inside.is_absolute() or ".." in inside.parts or "\0" in file:
            return None
        root = os.path.realpath(self._root)
        path = os.path.realpath(os.path.join(root, *inside.parts))
        return path if path.startswith(root.rstrip("/") + "/") else None


def is_export(root: Path) -> bool:
    """Tell whether a folder is one that `imgpro export` wrote."""
    return (root / INDEX).is_file()
