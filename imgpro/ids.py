"""Random names and secrets, and the name of the request at hand. Knows nothing of what they name."""

import hashlib
import re
import secrets
import string
from contextvars import ContextVar
from typing import Final

BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
IMAGE_ID_LENGTH: Final = 12
IMAGE_ID: Final = re.compile(r"[0-9A-Za-z]{12}")
KEY_PREFIX: Final = "img_live_"
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
REQUEST: Final = ContextVar("request", default="")
"""The id of the request that is being answered, for the log; threads and tasks that it starts inherit it."""


def random_base62(length: int) -> str:
    """Return `length` characters of `0-9A-Za-z` from the system's secure source."""
    return "".join(secrets.choice(BASE62) for _ in range(length))


def new_image_id() -> str:
    """Return a fresh image id: 12 base62 characters, 71 bits, unrelated to the content."""
    return random_base62(IMAGE_ID_LENGTH)


def new_account_id() -> str:
    """Return a fresh account id, e.g. `acc_4fT0...`: 12 random characters."""
    return f"acc_{random_base62(12)}"


def new_key_id() -> str:
    """Return a fresh key id, e.g. `key_9aZ...`: a name for a key that gives nothing away."""
    return f"key_{random_base62(10)}"


def new_key() -> str:
    """Return a fresh API key: `img_live_` and 32 base62 characters, 190 bits."""
    return KEY_PREFIX + random_base62(32)


def new_token() -> str:
    """Return a fresh secret for a link, a session or a ticket: 32 base62 characters."""
    return random_base62(32)


def secret_hash(secret: str) -> bytes:
    """Return what is stored of a random secret: its SHA-256 (32 bytes). No salt: 190 random bits need none."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def instance_mark(instance_id: str) -> str:
    """Return what a server may tell everybody of which one it is: enough to recognise it, nothing else."""
    return hashlib.sha256(f"imgpro instance {instance_id}".encode()).hexdigest()[:16]
