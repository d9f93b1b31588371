"""What examining an uploaded file yields: its facts, what was private in it, and the cleaned file in pieces.

Knows no container format and no pixels.
"""

import msgspec

from imgpro.model import Probe


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a file that may go on to be decoded.

    `removed` names kinds of private or foreign data ("gps", "exif", "trailing_data", ...), each once. `parts`
    is the cleaned file in order; joined, the pieces are what is to be stored. None means that the file is clean
    as it came. The pieces may be views into the examined data, which must outlive them.
    """

    probe: Probe
    removed: tuple[str, ...] = ()
    parts: tuple[bytes | memoryview, ...] | None = None
