"""What a program is connected to, what it is given for that, and where that stands in the list of programs."""

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

Group = Literal["Windows", "Linux", "macOS", "Any computer", "Phone", "Editors", "Terminal and assistants"]

_KEY: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+")


class Target(msgspec.Struct, frozen=True):
    """A server and a key for it. `base` is what its links start with, without a slash at the end."""

    base: str
    key: str
    site_name: str

    def __post_init__(self) -> None:
        """Refuse a key that could mean something in the files it is written into."""
        if not _KEY.fullmatch(self.key):
            raise ValueError("a key has letters, digits, - and _ only")

    @property
    def title(self) -> str:
        """The site's name as one line of printable text."""
        line = " ".join(self.site_name.split())
        return "".join(char for char in line if char.isprintable()) or "imgpro"

    @property
    def host(self) -> str:
        """Host and port, as people know the server."""
        return urlsplit(self.base).netloc

    @property
    def file_stem(self) -> str:
        """The host's name for a file's: without port, and with nothing that a file system minds."""
        return _NOT_IN_NAMES.sub("-", urlsplit(self.base).hostname or "imgpro").strip("-.") or "imgpro"

    @property
    def bearer(self) -> str:
        """The value of the header Authorization."""
        return f"Bearer {self.key}"


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Something to save under `name`, or without one to paste. `label` says what it is, or where it goes."""

    label: str
    content: str
    part: str = ""  # what this and the following pieces are for, where a program offers several ways
    name: str = ""
    content_type: str = "text/plain; charset=utf-8"
    executable: bool = False

    @property
    def is_line(self) -> bool:
        """Tell whether it is one line to paste."""
        return not self.name and "\n" not in self.content


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a text with `@NAME@` replaced by the value of that name; what stands in a value stays."""
    return re.sub("@([A-Z]+)@", lambda match: values[match[1]], text)


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One program: `pieces` makes what it is given, `steps` are three lines that say what to do with it.

    In steps `{file}` stands for the first file's name, `{host}` for the server's. `on_phone` is whether it is set up
    on a phone, so that the page shows a code to scan.
    """

    name: str
    title: str
    group: Group
    about: str
    steps: tuple[str, str, str]
    pieces: Callable[[Target], tuple[Piece, ...]]
    on_phone: bool = False

    def steps_for(self, target: Target) -> list[str]:
        """Return the steps with this target's names in them."""
        file = next((piece.name for piece in self.pieces(target) if piece.name), "")
        return [step.replace("{file}", file).replace("{host}", target.host) for step in self.steps]
