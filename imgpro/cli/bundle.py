"""What goes into a support bundle, each part on its own, so that one that cannot be made does not cost the others.

Everything passes the redactor on its way in.
"""

import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from imgpro import __version__, forms, units
from imgpro.cli import asking, doctor, office, systemd
from imgpro.cli.configuring import place_lines
from imgpro.cli.options import data_dir
from imgpro.cli.places import places
from imgpro.cli.redacting import Redactor
from imgpro.settings import Settings
from imgpro.sources import Gathered, variables_of
from imgpro.store import census, layout

LOG_LINES: Final = 500
MAX_METRICS_CHARS: Final = 1_000_000
_SERVICE_USERS: Final = frozenset({"root", units.USER, "nobody"})
# Settings of free text that say nothing of whose server this is. The values of all others are left out.
_TELLING: Final = frozenset(
    {
        "server.base_url",
        "server.api_url",
        "server.src_url",
        "server.tls_cert",
        "server.tls_key",
        "storage.data",
        "storage.database_dir",
        "mail.ca_file",
        "metrics.listen",
        "header_sign_in.user_header",
        "header_sign_in.groups_header",
    }
)


class Part(msgspec.Struct, frozen=True):
    """One file of the bundle: its name, what it is for, and what it says."""

    name: str
    about: str
    text: str


class Bundle:
    """Gathers everything. Raises nothing: what goes wrong stands in the part that it kept from being made."""

    def __init__(self, gathered: Gathered, environ: Mapping[str, str]) -> None:
        self._gathered = gathered
        self._environ = environ
        self._data = Path(os.path.abspath(data_dir(gathered.loaded)))
        home = gathered.loaded.settings.storage.database_dir
        self._database = Path(os.path.abspath(Path(home or self._data).expanduser())) / layout.DATABASE_NAME
        self._redactor = Redactor(
            _secrets(gathered, environ),
            {*_people(self._data), *_hosts(gathered.loaded.settings)},
            census.personal(self._database),
        )

    def parts(self) -> list[Part]:
        """Return all parts."""
        wanted: list[tuple[str, str, Callable[[], str]]] = [
            ("versions.json", "versions of imgpro, its parts and this system", self._versions),
            ("settings.txt", "settings with their sources; secrets, names and hosts left out", self._settings),
            ("doctor.txt", "what `imgpro doctor` says", self._doctor),
            ("paths.txt", "where everything lies, owners and modes", self._paths),
            ("data.json", "counts, sizes, schema, soundness, free space; nothing of what is in it", self._statistics),
            ("readiness.json", "what the server that runs says of itself", self._readiness),
            ("log.txt", f"the last {LOG_LINES} lines of the log, without names, addresses and secrets", self._log),
        ]
        if self._gathered.loaded.settings.metrics.enabled:
            wanted.append(("metrics.txt", "the numbers of /metrics", self._metrics))
        return [Part(name, about, self._made(make)) for name, about, make in wanted]

    def _made(self, make: Callable[[], str]) -> str:
        """Return what `make` has to say, redacted; only what the server said may quote its users."""
        try:
            text = make()
        except Exception as error:  # noqa: BLE001 - whatever is broken is why somebody asks for help
            text = f"This could not be found out: {type(error).__name__}: {error}"
        redact = self._redactor.quoting if make in (self._log, self._readiness) else self._redactor.text
        return redact(text).rstrip() + "\n"

    def _versions(self) -> str:
        return _json({**doctor.versions(), **_system()})

    def _settings(self) -> str:
        loaded = self._gathered.loaded
        lines = [f"configuration file: {loaded.config_file or 'none'}"]
        # A value that is wrong may be anything, a password in the wrong place too.
        lines += [f"{one.level}: {one.place} {one.setting}" for one in self._gathered.findings]
        names = sorted(name for name in self._environ if name.startswith("IMGPRO_"))
        lines += [f"in the environment: {', '.join(names) or 'nothing'}", ""]
        for field in forms.fields():
            value = getattr(getattr(loaded.settings, field.section), field.name)
            lines.append(f"{field.path} = {_shown(field, value)}  # {loaded.sources[field.path]}")
        return "\n".join(lines)

    def _doctor(self) -> str:
        checks = doctor.examine(self._gathered.loaded, self._data)
        return "\n".join(f"{check.state:<7} {check.name:<11} {check.found}" for check in checks)

    def _paths(self) -> str:
        return "\n".join(place_lines(list(places(self._gathered.loaded, self._environ))))

    def _statistics(self) -> str:
        folders = {"data": self._data, "database": self._database.parent, "backups": self._data / "backups"}
        found: dict[str, Any] = {"disks": census.disks(folders)}
        if self._database.exists():
            found["database"] = census.database(self._database)
        backups = self._data / "backups"
        if backups.is_dir():
            found["backups"] = sorted(f"{entry.name}, {entry.stat().st_size} bytes" for entry in backups.iterdir())
        return _json(found)

    def _readiness(self) -> str:
        found = office.ask_about(self._data, "readyz")
        return "no server runs here" if found is None else _json(found)

    def _log(self) -> str:
        found = office.ask_about(self._data, "log") if self._data.is_dir() else None
        if found is not None:
            return "\n".join(
                f"{_stamp(row['at_s'])} {row['level']} {row['name']}: {row['text']}"
                for row in found["lines"][-LOG_LINES:]
            )
        return "\n".join(_journal()) or "no server runs here, and the journal has nothing of imgpro"

    def _metrics(self) -> str:
        settings = self._gathered.loaded.settings
        server, listen = settings.server, settings.metrics.listen
        if listen:  # never over TLS
            server = msgspec.structs.replace(server, listen=(listen,), tls_cert="")
        target = asking.own_target(server)
        return asking.fetch(target, "/metrics", asking.DEADLINE_S)[1].decode("utf-8", "replace")[:MAX_METRICS_CHARS]


def _shown(field: forms.Field, value: Any) -> str:
    if field.secret:
        return "(set, not shown)" if value else "(not set)"
    if field.type is str and value != field.default and field.path not in _TELLING:
        return f"(set, {len(value)} characters)"
    return forms.show_value(field, value)


def _secrets(gathered: Gathered, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield every secret that this process can know of, so that it is found wherever it stands."""
    for field in forms.fields():
        if field.secret:
            yield str(getattr(getattr(gathered.loaded.settings, field.section), field.name))
            for name in variables_of(field):
                yield environ.get(name, "")
    for name, value in environ.items():
        if name.startswith(("IMGPRO_", "AWS_")) and any(
            word in name for word in ("PASSWORD", "SECRET", "TOKEN", "KEY")
        ):
            yield value
            if name.endswith("_FILE"):
                try:
                    yield Path(value).read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError):
                    continue


def _hosts(settings: Settings) -> Iterator[str]:
    """Yield the names by which this server and those around it are known; numbers are recognised as they are."""
    server = settings.server
    urls = (server.base_url, server.api_url, server.src_url, settings.plans.checkout_url)
    found = {platform.node(), settings.mail.host, *(urlsplit(url).hostname or "" for url in urls)}
    yield from (name for name in found - {"localhost"} if re.search("[a-z]", name, re.IGNORECASE) and ":" not in name)


def _people(data: Path) -> Iterator[str]:
    """Yield the names of users of this machine that may come up."""
    import getpass
    import pwd

    found = set()
    try:
        found.add(getpass.getuser())
        found.add(data.owner())
        found.add(pwd.getpwuid(os.geteuid()).pw_name)
    except (OSError, KeyError):
        pass
    yield from found - _SERVICE_USERS


def _system() -> dict[str, Any]:
    """Return what this machine runs."""
    try:
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        distribution = "unknown"
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "distribution": distribution,
        "libc": " ".join(platform.libc_ver()),
        "systemd": _systemd(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "container": any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")),
        "sqlite_options": sorted(census.compile_options()),
        "bundle_made_by": f"imgpro {__version__}, {_stamp(time.time())}",
    }


def _systemd() -> str:
    try:
        return systemd.systemctl("--version", check=False).partition("\n")[0] or "none"
    except Exception:  # noqa: BLE001 - a machine without it is no fault
        return "none"


def _journal() -> Iterator[str]:
    """Yield what the journal has of the service; nothing where there is none."""
    try:
        words = ("-u", units.SERVICE, "-n", str(LOG_LINES), "-o", "json", "--no-pager", "-q")
        text = systemd.run("journalctl", *words).stdout
    except Exception:  # noqa: BLE001 - a machine without it is no fault
        return
    for line in text.splitlines():
        try:
            row = json.loads(line)
            yield f"{_stamp(int(row['__REALTIME_TIMESTAMP']) / 1_000_000)} {row['MESSAGE']}"
        except (ValueError, KeyError, TypeError):
            continue


def _stamp(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
