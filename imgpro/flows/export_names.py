"""Where the pictures of an export lie: paths that ext4, NTFS, macOS and FAT all take. Knows no folder and no bytes.

A path follows from a picture alone, so that the next export of the same picture wants the same one.
"""

import hashlib
import unicodedata
from typing import Final

from imgpro.flows.names import download_name, file_name
from imgpro.model import StoredFormat
from imgpro.recipes import CONTENT_TYPE

NOBODY: Final = "without-account"  # no mail address: there is no @ in it
MAX_PATH_BYTES: Final = 200  # below the export: with the path to it, Windows takes 260 characters
_MAX_ACCOUNT_BYTES: Final = 60


def wanted_path(name: str, kind: StoredFormat, account: str | None, namespace: str | None) -> str:
    """Return the path that a picture should have, were it the only one. `account` is a mail address."""
    folder = account_folder(account) if account is not None else NOBODY
    if namespace is not None:
        folder += f"/{file_name(namespace)}"
    ending = len(f"/.{CONTENT_TYPE[kind]}")
    room = MAX_PATH_BYTES - len(folder.encode()) - ending
    return f"{folder}/{file_name(download_name(name, CONTENT_TYPE[kind]), room)}"


def account_folder(email: str) -> str:
    """Return the name of an account's folder: its mail address, marked where that cannot be kept as it is."""
    safe = file_name(email, _MAX_ACCOUNT_BYTES)[:_MAX_ACCOUNT_BYTES].rstrip(" .")
    if safe == email and email == email.lower():
        return safe
    # Else two accounts could come together in one folder.
    return f"{safe}~{hashlib.blake2s(email.encode(), digest_size=4).hexdigest()}"


def folded(path: str) -> str:
    """Return what two paths have in common that some file system takes for the same one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFD", path.upper()).casefold())


def numbered(path: str, number: int) -> str:
    """Return the path of the `number`th picture that wants the same one."""
    stem, dot, ending = path.rpartition(".")
    return f"{stem} ({number}){dot}{ending}"
