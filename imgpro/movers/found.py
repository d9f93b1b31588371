"""What a reader of another place finds: pictures with what is known of them, and what it has to leave out.

A reader is a `Source`. It reads only, holds no more than a page of rows, and leaves judging the pictures to the import.
"""

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import msgspec

from imgpro.model import OldLink


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One picture. `item` names it within its source, today and the next time: what was brought is known by it.

    Either `path` (a file here; odd bytes as `os.fsdecode` has them), `url` (to be fetched by the server) or `pieces`
    (its bytes out of something larger, made anew each time it is called; raises SourceUnusable). Times are Unix ms;
    None: not known. All texts are as the other host has them, of any length: the import cleans them, and tells what it
    changed. `owner` is a mail address or the other host's name of a user, "" for nobody's.
    """

    item: str
    path: str = ""
    url: str = ""
    pieces: Callable[[], Iterator[bytes]] | None = None
    name: str = ""  # "": the file's own
    created_ms: int | None = None  # None: now
    dated: Callable[[], int | None] | None = None  # tells it instead, from the file; asked where the picture is sent
    expires_ms: int | None = None
    description: str = ""
    public: bool = True
    display_date: str = ""
    namespace: str = ""
    tags: tuple[str, ...] = ()
    owner: str = ""
    old_links: tuple[OldLink, ...] = ()
    id: str = ""  # of imgpro's own, to be kept if it is free
    digest: str = ""  # of the file, where it came from imgpro
    origin: Literal["upload", "import"] = "import"
    metadata_removed: tuple[str, ...] = ()  # from the file, before
    note: str = ""  # a sentence for the report: "It had a password there: it is private here."


class LeftOut(msgspec.Struct, frozen=True):
    """What will not be brought. `reason` is a sentence that reads well after the item: "The file is not there."."""

    item: str
    reason: str


class Source(Protocol):
    """One place that pictures come from. `name` says which, for ever: "zipline /srv/zipline"."""

    name: str

    def count(self) -> int | None:
        """Return about how many pictures there are, quickly; None where only reading tells."""
        ...

    def read(self) -> Iterator[Found | LeftOut]:
        """Yield everything there, in the same order each time. Raises SourceUnusable for what cannot be read."""
        ...
