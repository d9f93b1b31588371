"""Rows for tests of the store and of what stands on it: pictures that exist only as metadata."""

from typing import Any

import msgspec
from blake3 import blake3

from imgpro import ids
from imgpro.model import Blob, Image

NOW_MS = 1_700_000_000_000


def sample_blob(content: bytes = b"picture", **changes: Any) -> Blob:
    """Return the facts of a blob with this content."""
    blob = Blob(
        digest=blake3(content).hexdigest(),
        format="jpeg",
        stored_bytes=len(content),
        width=400,
        height=300,
        frames=1,
        has_alpha=False,
        placeholder="data:image/webp;base64,AAAA",
        phash=-42,
    )
    return msgspec.structs.replace(blob, **changes)


def sample_image(content: bytes = b"picture", **changes: Any) -> Image:
    """Return a new public picture of this content with a fresh id."""
    image = Image(
        id=ids.new_image_id(),
        blob=sample_blob(content),
        name="a picture.jpg",
        description="",
        public=True,
        created_ms=NOW_MS,
        expires_ms=None,
        display_date=None,
        origin="upload",
        metadata_removed=("gps", "exif"),
    )
    return msgspec.structs.replace(image, **changes)
