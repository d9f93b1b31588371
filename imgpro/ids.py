"""Random names and secrets. Knows nothing of what they name."""

import re
import secrets
import string
from typing import Final

BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
IMAGE_ID_LENGTH: Final = 12
DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def random_base62(length: int) -> str:
    """Return `length` characters of `0-9A-Za-z` from the system's secure source."""
    return "".join(secrets.choice(BASE62) for _ in range(length))


def new_image_id() -> str:
    """Return a fresh image id: 12 base62 characters, 71 bits, unrelated to the content."""
    return random_base62(IMAGE_ID_LENGTH)
