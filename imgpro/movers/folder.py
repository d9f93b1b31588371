"""Pictures in a folder and below: names, dates, and where it is wanted namespaces and tags by where they lie."""

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from imgpro.errors import SourceUnusable
from imgpro.model import OldLink
from imgpro.movers.dates import DateSource, date_of
from imgpro.movers.found import Found, LeftOut

# What other programs put beside pictures: previews, and what an archiver of another system left.
_SKIPPED: Final = frozenset({"@eaDir", "__MACOSX", "Thumbs.db", "desktop.ini", "lost+found"})
_DEEPEST: Final = 200  # folders in folders


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How a folder is read. `old_path`: what its pictures' addresses began with, where it was served; None: nowhere."""

    namespace_from_path: bool = False
    tags_from_path: bool = False
    dates: tuple[DateSource, ...] = ("exif", "name", "mtime")
    old_path: str | None = None


class Folder:
    """One folder. `skip` are folders that are passed over, by device and inode: the server's own data."""

    def __init__(self, root: str, rules: Rules, skip: Sequence[tuple[int, int]] = ()) -> None:
        self._root = os.path.realpath(root)
        self._rules = rules
        self._skip = frozenset(skip)
        self.name = f"folder {item_name(os.fsencode(self._root))}"
        if not os.path.isdir(self._root):
            raise SourceUnusable(f"There is no folder {_shown(root)}.")

    def count(self) -> int | None:
        """Return how many files there are."""
        return sum(1 for _ in self._walk(b""))

    def read(self) -> Iterator[Found | LeftOut]:
        """Yield every file, in the order of the names' bytes. Hidden ones are passed over."""
        for inside, problem in self._walk(b""):
            item = item_name(inside)
            yield LeftOut(item, problem) if problem else self._found(item, inside)

    def _found(self, item: str, inside: bytes) -> Found:
        path = os.path.join(os.fsencode(self._root), inside)
        folders = [part.decode("utf-8", "replace") for part in inside.split(b"/")[:-1]]
        namespace = folders[0] if folders and self._rules.namespace_from_path else ""
        tags = folders[1:] if namespace else folders
        old_path = self._rules.old_path
        links = () if old_path is None else (OldLink(f"{old_path.rstrip('/')}/{quote(inside)}"),)
        return Found(
            item=item,
            path=os.fsdecode(path),
            dated=lambda: date_of(os.fsdecode(path), self._rules.dates),
            namespace=namespace,
            tags=tuple(tags) if self._rules.tags_from_path else (),
            old_links=links,
        )

    def _walk(self, inside: bytes) -> Iterator[tuple[bytes, str]]:
        """Yield the paths of files below the folder, and why one of them cannot be taken ("": nothing known)."""
        folder = os.path.join(os.fsencode(self._root), inside)
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            if not inside:
                raise SourceUnusable(f"{_shown(self._root)} cannot be read: {error.strerror}.") from None
            yield inside, f"The folder cannot be read: {error.strerror}."
            return
        for name in names:
            if name.startswith(b".") or os.fsdecode(name) in _SKIPPED:
                continue
            path = os.path.join(inside, name)
            try:
                seen = os.lstat(os.path.join(folder, name))
            except OSError as error:
                yield path, f"It cannot be looked at: {error.strerror}."
                continue
            if stat.S_ISDIR(seen.st_mode):
                if path.count(b"/") >= _DEEPEST:
                    yield path, "It lies in too many folders, one in the other."
                elif (seen.st_dev, seen.st_ino) not in self._skip:
                    yield from self._walk(path)
            else:
                yield path, _against(seen.st_mode)


def item_name(path: bytes) -> str:
    """Return a path as text that no other path has."""
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return f"%:{quote(path)}"
    return f"%:{quote(path)}" if text.startswith("%:") else text


def _against(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "It is a symbolic link."
    return "" if stat.S_ISREG(mode) else "It is not a file."


def _shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")
