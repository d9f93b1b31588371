"""Which object store the settings name, and with whose key it is asked. Asks nothing itself."""

import os
import re
from typing import Final
from urllib.parse import urlsplit

from imgpro.errors import Action, ConfigError
from imgpro.settings import Backup

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
# By one of these the library finds credentials of its own; it would ask every network for them otherwise.
_AMBIENT: Final = (
    "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def parts(place: str) -> tuple[str, str]:
    """Return bucket and folder of `s3://bucket/folder`. Raises ConfigError, without what may be a secret."""
    bucket, _, folder = place.removeprefix("s3://").partition("/")
    if "@" in bucket:
        raise ConfigError(
            "backup.to holds an access key.",
            Action("fix", label="Write s3://bucket/folder, and the key into backup.s3_key_id and backup.s3_secret"),
        )
    folder = folder.strip("/")
    if not _BUCKET.fullmatch(bucket) or any(part in ("", ".", "..") for part in folder.split("/") if folder):
        raise ConfigError(f"{place} is no place in an object store.", Action("fix", label="Write s3://bucket/folder"))
    return bucket, folder


def endpoint(settings: Backup) -> str:
    """Return the address of the store; empty: Amazon's. Raises ConfigError."""
    wanted = settings.s3_endpoint or next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
    if not wanted:
        return ""
    found = urlsplit(wanted)
    if "@" in found.netloc:
        raise ConfigError(
            "backup.s3_endpoint holds a password.",
            Action("fix", label="Write only the address, and the key into backup.s3_key_id and backup.s3_secret"),
        )
    if found.scheme not in ("http", "https") or not found.hostname or found.query or found.fragment:
        raise ConfigError(
            f'backup.s3_endpoint = "{wanted}" is no address of an object store.',
            Action("fix", label="Write it as https://s3.example.org, or http:// for one on your own network"),
        )
    return wanted.rstrip("/")


def check_credentials(settings: Backup) -> None:
    """Raise ConfigError unless there is a key."""
    if bool(settings.s3_key_id) != bool(settings.s3_secret):
        lacking = "s3_secret" if settings.s3_key_id else "s3_key_id"
        raise ConfigError(
            f"backup.{lacking} is not set, and an access key has both.", Action("fix", label=f"Set backup.{lacking}")
        )
    if not settings.s3_key_id and not any(os.environ.get(name) for name in _AMBIENT):
        raise ConfigError(
            "There is no access key for the object store.",
            Action("fix", label="Set backup.s3_key_id and backup.s3_secret, or the AWS_* variables"),
        )
