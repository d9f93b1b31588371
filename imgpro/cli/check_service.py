"""What `imgpro doctor` says of how imgpro is run and reached: systemd, addresses, certificate, temporary files."""

import os
import pwd
import shlex
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from imgpro import frozen, ids, units
from imgpro.cli import advice, asking, placing, systemd
from imgpro.cli.verdict import Check, State
from imgpro.errors import ConfigError, ImgproError, ServerUnreachable
from imgpro.forms import show_bytes
from imgpro.settings import MIB
from imgpro.sources import Loaded
from imgpro.store import layout
from imgpro.store.holder import holder

_UNPACKED_BYTES: Final = 200 * MIB
_PROPERTIES: Final = (
    "LoadState",
    "ActiveState",
    "NotifyAccess",
    "KillMode",
    "Type",
    "User",
    "Result",
    "ExecMainStatus",
    "ProtectSystem",
    "ReadWritePaths",
)


def service_checks(loaded: Loaded, data: Path) -> list[Check]:
    """Return a line for each of these."""
    unit = _unit()
    checks = [_supervision(unit), *_config_file(loaded, unit), *_backups(loaded, unit)]
    checks += [*_certificate(loaded), *_base_url(loaded, data)]
    return [*checks, *_temporary_files()]


def _unit() -> dict[str, str]:
    """Return what systemd says of the service; nothing where there is no systemd or no service."""
    try:
        found = systemd.show(units.SERVICE, *_PROPERTIES)
    except (ImgproError, OSError):
        return {}
    return found if found["LoadState"] == "loaded" else {}


def _supervision(unit: dict[str, str]) -> Check:
    if not unit:
        return Check("service", "green", "no service of systemd")
    state = unit["ActiveState"]
    words = f"{units.SERVICE} is {state}, as {unit['User'] or 'root'}"
    wrong: list[str] = []
    if unit["Type"] == "notify" and unit["NotifyAccess"] != "all":
        wrong.append(f"NotifyAccess={unit['NotifyAccess']} should be all: one file is two processes")
    if unit["KillMode"] != "mixed":
        wrong.append(f"KillMode={unit['KillMode']} should be mixed: otherwise a stop is asked for twice")
    if unit["User"] in ("", "root"):
        wrong.append("User= should be one of its own")
    if state == "failed":
        reason = f"{unit['Result']}, exit code {unit['ExecMainStatus']}"
        return Check("service", "red", f"{words} ({reason}): journalctl -u {units.SERVICE}")
    return Check("service", "yellow" if wrong else "green", "; ".join([words, *wrong]))


def _config_file(loaded: Loaded, unit: dict[str, str]) -> Iterator[Check]:
    """Say whether the service may read the file that this user reads."""
    path, user = loaded.config_file, unit.get("User")
    if path is None or not user:
        return
    try:
        blocked = _unreadable_for(user, path)
    except (KeyError, OSError):
        return
    if blocked is not None:
        yield Check("config", "red", f"{user} may not read {path}: chgrp {user} {blocked}")
    else:
        yield Check("config", "green", f"{user} may read {path}")


def _backups(loaded: Loaded, unit: dict[str, str]) -> Iterator[Check]:
    """Say whether the service may write where backups go: systemd lets it write to few places."""
    place = placing.backups_of(loaded.settings)
    if place is None or unit.get("ProtectSystem") != "strict":
        return
    open_to_it = [PurePosixPath(word.lstrip("-+")) for word in _words(unit["ReadWritePaths"])]
    if any(place.is_relative_to(path) for path in open_to_it):
        yield Check("backups", "green", f"the service may write to {place}")
    else:
        yield Check("backups", "red", f"the service may not write to {place}: sudo imgpro service install")


def _words(text: str) -> list[str]:
    """Return the words of a list as systemd shows it."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _unreadable_for(user: str, path: Path) -> Path | None:
    """Return the first file or directory on the way that keeps a user from reading; by modes, not by access lists."""
    entry = pwd.getpwnam(user)
    groups = set(os.getgrouplist(user, entry.pw_gid))
    for place in [*reversed(path.absolute().parents), path]:
        found = place.stat()
        read, enter = (stat.S_IRUSR, stat.S_IXUSR)
        if found.st_uid != entry.pw_uid:
            read, enter = (stat.S_IRGRP, stat.S_IXGRP) if found.st_gid in groups else (stat.S_IROTH, stat.S_IXOTH)
        if not found.st_mode & (read if place == path else enter):
            return place
    return None


def _certificate(loaded: Loaded) -> Iterator[Check]:
    server = loaded.settings.server
    findings = advice.certificate(server)
    if findings:
        state: State = "red" if any(each.level == "error" for each in findings) else "yellow"
        yield Check("certificate", state, "; ".join(each.text for each in findings))
    elif server.tls_cert:
        yield Check("certificate", "green", f"{server.tls_cert} is valid")


def _base_url(loaded: Loaded, data: Path) -> Iterator[Check]:
    """Ask the address that links begin with who answers there."""
    url = loaded.settings.server.base_url
    if not url:
        yield Check("base_url", "green", "not set: links begin with the address that each visitor uses")
        return
    try:
        own = ids.instance_mark(layout.read_marker(data).instance_id)
        runs = holder(data) is not None
    except (ImgproError, OSError):
        own, runs = "", False
    try:
        reply = asking.ask(asking.parse_target(url), "/healthz")
    except (ServerUnreachable, ConfigError) as problem:
        state = f"{problem.message} Links do not open from this machine" if runs else "no server runs to answer there"
        yield Check("base_url", "yellow", state)
        return
    mark = reply.body.get("instance")
    if reply.status != 200 or not isinstance(mark, str):
        yield Check("base_url", "red", f"{url}: what answers ({reply.status}) is no imgpro of this version")
    elif own and mark != own:
        yield Check("base_url", "red", f"{url}: another imgpro answers, with other data")
    else:
        yield Check("base_url", "green", f"{url} leads here")


def _temporary_files() -> Iterator[Check]:
    """Say whether the one file can unpack itself the next time, too."""
    if frozen.unpacked() is None:
        return
    folder = Path(tempfile.gettempdir())
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if found.f_flag & os.ST_NOEXEC:
        yield Check("tmpdir", "red", f"{folder} runs no programs (noexec): set TMPDIR to a directory that does")
    elif free < _UNPACKED_BYTES:
        yield Check("tmpdir", "yellow", f"{folder}: {show_bytes(free)} free; each start unpacks about 100 MB there")
    else:
        yield Check("tmpdir", "green", f"{folder}: {show_bytes(free)} free, runs programs")
