"""Where everything lies: the paths in force, whether there is something, whose it is."""

import contextlib
import grp
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from imgpro import frozen
from imgpro.cli.options import data_dir
from imgpro.sources import CONFIG_NAME, Loaded, config_folders
from imgpro.store.holder import LOCK_NAME, holder
from imgpro.store.layout import ADMIN_SOCKET, DATABASE_NAME

_IN_DATA: Final = (
    ("format", "FORMAT"),
    ("pictures", "blobs"),
    ("cache", "cache"),
    ("temporary files", "tmp"),
    ("backups", "backups"),
    ("secret key", "secret.key"),
    ("admin socket", ADMIN_SOCKET),
    ("lock", LOCK_NAME),
)
_KINDS: Final = (
    (stat.S_ISDIR, "directory"),
    (stat.S_ISREG, "file"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISFIFO, "pipe"),
)


class Place(msgspec.Struct, frozen=True):
    """One path. `state` is its kind, or that it is not there or not to be seen: owner and mode are empty then."""

    name: str
    path: str
    state: str
    owner: str = ""
    mode: str = ""
    bytes: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        there = self.state not in ("not there", "not to be seen")
        return {"exists": there, **msgspec.structs.asdict(self)}


def places(loaded: Loaded, environ: Mapping[str, str]) -> Iterator[Place]:
    """Yield every path that counts, in the order in which a start meets them."""
    named = environ.get("IMGPRO_CONFIG")
    for folder in [] if named else config_folders(environ):
        if folder / CONFIG_NAME != loaded.config_file:
            yield look("configuration, looked for", folder / CONFIG_NAME)
    if loaded.config_file is not None or named:
        yield look("configuration", loaded.config_file or Path(named or ""))
    data = Path(os.path.abspath(data_dir(loaded)))
    yield look("data", data)
    for name, file in _IN_DATA:
        yield look(name, data / file)
    home = Path(os.path.abspath(Path(loaded.settings.storage.database_dir or data).expanduser()))
    if home != data:
        yield look("database directory", home)
    for name, file in (("database", DATABASE_NAME), ("database log", f"{DATABASE_NAME}-wal"), ("ballast", ".ballast")):
        yield look(name, home / file)
    yield look("program", Path(frozen.command()[0]))
    unpacked = frozen.unpacked()
    if unpacked is not None:
        yield look("unpacked program", unpacked)
    yield look("system temporary files", Path(tempfile.gettempdir()))
    yield _log(data)


def look(name: str, path: Path) -> Place:
    """Look at one path, through links."""
    try:
        found = path.stat()
    except PermissionError:
        return Place(name, str(path), "not to be seen")
    except OSError:
        return Place(name, str(path), "not there")
    kind = next((word for test, word in _KINDS if test(found.st_mode)), "other")
    size = found.st_size if kind == "file" else None
    return Place(
        name, str(path), kind, owner_of(found.st_uid, found.st_gid), f"{stat.S_IMODE(found.st_mode):04o}", size
    )


def owner_of(uid: int, gid: int) -> str:
    """Return user and group by name, or by number where they have none."""
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    try:
        return f"{user}:{grp.getgrgid(gid).gr_name}"
    except KeyError:
        return f"{user}:{gid}"


def _log(data: Path) -> Place:
    """Return where the log goes: standard error of the server that runs, else of one that would be started here."""
    pid: int | str = "self"
    with contextlib.suppress(OSError):
        found = holder(data)
        pid = found.pid if found is not None and found.pid is not None else "self"
    try:
        target = os.readlink(f"/proc/{pid}/fd/2")
    except PermissionError:
        return Place("log", f"standard error of process {pid}", "not to be seen")
    except OSError:
        return Place("log", "standard error", "not there")
    # Under systemd it is a socket of the journal.
    return look("log", Path(target)) if target.startswith("/") else Place("log", target, "stream")
