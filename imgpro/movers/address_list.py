"""A list of addresses that pictures are to be fetched from: one a line, with a name before it where that is wanted."""

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from imgpro.errors import SourceUnusable
from imgpro.model import OldLink
from imgpro.movers.found import Found, LeftOut

MAX_LINE_BYTES: Final = 8_192
_ADDRESS: Final = re.compile(r"https?://\S+", re.IGNORECASE)


class AddressList:
    """Lines of an open file: `ADDRESS` or `NAME<tab>ADDRESS`; empty ones and those after a # are passed over."""

    name = "addresses"

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def count(self) -> int | None:
        """Return how many lines there are; None for what can be read only once."""
        if not self._file.seekable():
            return None
        count = sum(1 for _ in self._lines())
        self._file.seek(0)
        return count

    def read(self) -> Iterator[Found | LeftOut]:
        """Yield every address once it is read."""
        for text in self._lines():
            name, _, address = text.rpartition("\t")
            address = address.strip()
            if _ADDRESS.fullmatch(address):
                yield Found(item=address, url=address, name=name.strip(), old_links=(OldLink(address),))
            else:
                yield LeftOut(text[:200], "It is not an address that begins with http:// or https://.")

    def _lines(self) -> Iterator[str]:
        number = 0
        while line := self._file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise SourceUnusable(f"Line {number} is too long to be an address.")
            text = line.decode("utf-8", "replace").removeprefix("\ufeff").strip()
            if text and not text.startswith("#"):
                yield text
