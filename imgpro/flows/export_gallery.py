"""The gallery of an export: pages and scripts that a browser opens from disk, with the pictures in pieces.

Scripts on disk may load scripts and nothing else, so the pieces are scripts. Knows no database.
"""

import importlib.resources
import re
from typing import Any, Final

import msgspec

from imgpro.flows.export_index import Exported
from imgpro.store.export_folder import ExportFolder

FOLDER: Final = "gallery"
PAGE: Final = "index.html"
PIECE: Final = 1_000  # pictures
_PIECE_NAME: Final = re.compile(r"pictures-([0-9]{4,})\.js")
# Files of the export, and what of our own each is put together from.
_FILES: Final = {
    PAGE: ("documents/gallery/index.html",),
    f"{FOLDER}/gallery.css": (
        "static/imgpro.css",
        "static/gallery.css",
        "static/viewer.css",
        "documents/gallery/gallery.css",
    ),
    f"{FOLDER}/gallery.js": ("static/elements.js", "static/grid.js", "static/walk.js", "documents/gallery/gallery.js"),
    f"{FOLDER}/icon.svg": ("static/favicon.svg",),
}
_OWN: Final = tuple(name.rpartition("/")[2] for name in _FILES if name != PAGE)
_MODULE_WORDS: Final = re.compile(r"^export (?=const |class |function )|^import .*\n", re.MULTILINE)


class Facts(msgspec.Struct, frozen=True):
    """What the gallery says of itself: whose it is, of when (Unix ms), and how much there is."""

    title: str
    written_ms: int
    pictures: int
    bytes: int
    pieces: int


class Gallery:
    """Writes the gallery while pictures come by, the oldest first: only the last piece differs when new ones come."""

    def __init__(self, folder: ExportFolder) -> None:
        self._folder = folder
        self._rows: list[Any] = []
        self._pieces = 0

    def add(self, picture: Exported, small: str, view: str) -> None:
        """Show one more picture."""
        self._rows.append(
            (
                picture.id,
                picture.file,
                picture.name,
                picture.description,
                picture.created_ms,
                picture.width,
                picture.height,
                picture.bytes,
                picture.frames,
                picture.account or "",
                picture.namespace or "",
                picture.tags,
                int(picture.public),
                picture.digest[:24],
                small,
                view,
            )
        )
        if len(self._rows) == PIECE:
            self._write_piece()

    def finish(self, title: str, written_ms: int, pictures: int, size: int) -> None:
        """Write what is left, the pages, and remove pieces that are no more."""
        if self._rows:
            self._write_piece()
        facts = Facts(title, written_ms, pictures, size, self._pieces)
        self._folder.write(f"{FOLDER}/pictures.js", b"imgproGallery(" + _script(facts) + b");\n")
        for name in self._folder.names(FOLDER):
            found = _PIECE_NAME.fullmatch(name)
            if found and int(found[1]) > self._pieces:
                self._folder.remove(f"{FOLDER}/{name}")
        for name, parts in _FILES.items():
            self._folder.write(name, _text(parts))

    def _write_piece(self) -> None:
        self._pieces += 1
        rows = b",\n".join(map(_script, self._rows))
        data = b"imgproPictures(%d,[\n" % self._pieces + rows + b"\n]);\n"
        self._folder.write(f"{FOLDER}/pictures-{self._pieces:04d}.js", data)
        self._rows = []


def remove(folder: ExportFolder) -> None:
    """Remove the pages and scripts of a gallery, as an earlier run left them."""
    if folder.look(FOLDER) is None:
        return
    for name in folder.names(FOLDER):
        if name in (*_OWN, "pictures.js") or _PIECE_NAME.fullmatch(name):
            folder.remove(f"{FOLDER}/{name}")
    folder.remove(PAGE)


def _script(value: Any) -> bytes:
    """Return a value as script that means the same in whatever it is put."""
    text = msgspec.json.encode(value).replace(b"<", b"\\u003c")
    return text.replace("\u2028".encode(), b"\\u2028").replace("\u2029".encode(), b"\\u2029")


def _text(parts: tuple[str, ...]) -> bytes:
    """Return files of ours as one. Modules become plain scripts: browsers load no modules from disk."""
    package = importlib.resources.files("imgpro")
    texts = [package.joinpath(part).read_text("utf-8") for part in parts]
    if parts[0].endswith(".js"):
        texts = ['"use strict";', "{", *(_MODULE_WORDS.sub("", text) for text in texts), "}"]
    return "\n".join(text.rstrip("\n") for text in texts).encode() + b"\n"
