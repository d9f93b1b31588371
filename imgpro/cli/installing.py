"""The steps of `imgpro service install` and `uninstall`, in their order. Everything here needs root and systemd."""

import contextlib
import os
import re
import shlex
import stat
import subprocess
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from imgpro import __version__, frozen, units
from imgpro.cli import placing, sockets, systemd
from imgpro.cli.words import hint, note, plain
from imgpro.errors import Action, ConfigError, ImgproError, OperatorError, StorageFault
from imgpro.integrations.lines import avahi
from imgpro.integrations.target import Target
from imgpro.sense import Listen, as_answered, parse_listen
from imgpro.settings import Settings
from imgpro.sources import load
from imgpro.store.layout import DATABASE_NAME

UNITS: Final = Path("/etc/systemd/system")
SERVICE_FILE: Final = UNITS / units.SERVICE
SOCKET_FILE: Final = UNITS / units.SOCKET
SERVICE_DROP_IN: Final = UNITS / f"{units.SERVICE}.d" / "data.conf"
SOCKET_DROP_IN: Final = UNITS / f"{units.SOCKET}.d" / "listen.conf"
SYSUSERS_FILE: Final = Path("/etc/sysusers.d/imgpro.conf")
CONFIG: Final = Path("/etc/imgpro/config.toml")
AVAHI: Final = Path("/etc/avahi/services/imgpro.service")
CACHE: Final = Path("/var/cache/imgpro")
_CHOICE: Final = re.compile(r"^# Written by `imgpro service install (.*)`;", re.MULTILINE)


class Choice(msgspec.Struct, frozen=True):
    """What the operator said at the installation; the drop-in keeps it for the next one."""

    data: str = units.STATE_DIRECTORY
    listen: tuple[str, ...] = ()  # empty: what server.listen says
    socket: bool = True

    def words(self) -> str:
        """Return it as options of the command line."""
        words = ["--data", self.data, *(word for address in self.listen for word in ("--listen", address))]
        return shlex.join(words if self.socket else [*words, "--no-socket"])


class Place(msgspec.Struct, frozen=True):
    """Where a service listens: what its socket unit is told, or what the server itself is told."""

    addresses: tuple[Listen, ...]
    stream: tuple[str, ...] = ()  # for the socket unit; empty where there is none
    tls: bool = False


def earlier() -> Choice | None:
    """Return what was chosen at the last installation; None if there was none."""
    try:
        found = _CHOICE.search(SERVICE_DROP_IN.read_text())
    except OSError:
        return None
    words = shlex.split(found[1]) if found else []
    pairs = [(words[n], words[n + 1]) for n in range(len(words) - 1)]
    data = next((value for name, value in pairs if name == "--data"), units.STATE_DIRECTORY)
    listen = tuple(value for name, value in pairs if name == "--listen")
    return Choice(data, listen, socket="--no-socket" not in words)


def choose(data: str | None, listen: Sequence[str], socket: bool | None) -> Choice:
    """Return what was said now, completed by what was said the last time. Raises ConfigError."""
    before = earlier() or Choice()
    for text in (data or "", *listen):
        if not text.isprintable():  # a line break would begin another line of a unit
            raise ConfigError(f"{text!r} has characters that no unit of systemd can hold.")
    return Choice(
        data=os.path.abspath(data) if data else before.data,
        listen=tuple(listen) or before.listen,
        socket=before.socket if socket is None else socket,
    )


def settings_of_service() -> Settings:
    """Return the settings that a service reads from its file. Raises ConfigError."""
    return load({}, CONFIG, {}).settings if CONFIG.is_file() else Settings()


def place_of(choice: Choice, settings: Settings) -> Place:
    """Return where a service listens. Raises ConfigError, OperatorError."""
    addresses = tuple(_parse(text) for text in choice.listen or settings.server.listen)
    if not choice.socket:
        return Place(addresses)
    stream = [_stream(address) for address in addresses]
    over_tls = {address.tls for address in addresses}
    if None in stream or len(over_tls) > 1:
        raise OperatorError(
            "One socket unit cannot hold these addresses: it takes numbers, no names, and all with TLS or none.",
            Action("fix", label="--no-socket, where a restart refuses connections for a moment"),
        )
    return Place(addresses, tuple(text for text in stream if text), tls=over_tls == {True})


def _parse(text: str) -> Listen:
    try:
        address = parse_listen(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no address: {error}.", Action("fix", label="--listen :8080")) from None
    if address.kind == "fd" or (address.kind == "tcp" and address.port == 0):
        raise ConfigError(
            f"{text!r} is no address for a service: it needs one that stays.", Action("fix", label="--listen :8080")
        )
    return address


def _stream(address: Listen) -> str | None:
    """Return an address as ListenStream= wants it, None where it cannot be said there."""
    if address.kind == "unix":
        return address.path if address.path.startswith("/") else None
    if not address.host:
        return str(address.port)
    if ":" in address.host:
        return f"[{address.host}]:{address.port}"
    return f"{address.host}:{address.port}" if re.fullmatch(r"[0-9.]+", address.host) else None


def texts(choice: Choice, settings: Settings, command: Sequence[str]) -> dict[Path, str]:
    """Return every file of the service by its path. Raises ConfigError, OperatorError."""
    place = place_of(choice, settings)
    database = settings.storage.database_dir
    mine = units.service_drop_in(
        PurePosixPath(choice.data),
        PurePosixPath(database) if database else None,
        () if choice.socket else choice.listen,
        program=PurePosixPath(command[0]),
        backups=placing.backups_of(settings),
        choice=choice.words(),
    )
    found = {SYSUSERS_FILE: units.sysusers(), SERVICE_FILE: units.service(command), SERVICE_DROP_IN: mine}
    if choice.socket:
        found[SOCKET_FILE] = units.socket()
        if place.stream != (str(units.PORT),) or place.tls:
            found[SOCKET_DROP_IN] = units.socket_drop_in(place.stream, tls=place.tls)
    return found


def install(choice: Choice) -> None:
    """Make this program a service that runs, or bring the one that is there up to date. Raises OperatorError."""
    settings = settings_of_service()
    before = earlier()
    program = placing.this_program()
    files = texts(choice, settings, program.words)
    if program.packaged:
        files = {path: text for path, text in files.items() if path in (SERVICE_DROP_IN, SOCKET_DROP_IN)}
    _check_free(place_of(choice, settings), settings)
    directories = [Path(choice.data)]
    if settings.storage.database_dir:
        directories.append(Path(settings.storage.database_dir))
    for directory in directories:
        placing.check_data_path(directory)
    if SYSUSERS_FILE in files:
        placing.write(SYSUSERS_FILE, files.pop(SYSUSERS_FILE))
        user = placing.make_user(SYSUSERS_FILE)
    else:
        found = placing.find_user()
        if found is None:
            raise OperatorError(f"The user {units.USER} is missing.", Action("fix", label="install the package again"))
        user = found
    for directory in directories:
        placing.make_data_directory(directory, user)
    with placing.staged(program) as (words, move):
        if any((directory / DATABASE_NAME).exists() for directory in directories):
            _check_upgrade(words, choice, user.pw_uid, user.pw_gid)
        placing.make_backup_directory(settings, user)
        if not CONFIG.exists():
            placing.write(CONFIG, _first_config(choice), 0o640, (0, user.pw_gid))
        elif settings.storage.data not in ("", choice.data):
            _correct_config(choice)
        changed = _write_units(files)
        changed = move() or changed
    if AVAHI.parent.is_dir():
        placing.write(AVAHI, _avahi(place_of(choice, settings), settings))
    _start(choice, changed=changed)
    if before is not None and before.data != choice.data:
        note(f"until now it served {before.data}; what lies there was left, and is not served from {choice.data}")
    if not frozen.is_frozen():
        note(f"the service starts {shlex.join(program.words)}, which must stay where it is")


def _check_free(place: Place, settings: Settings) -> None:
    """Raise StorageFault where somebody else has the address; the service that runs goes on as it was."""
    before = earlier() or Choice(listen=(f":{units.PORT}",))  # as a package starts it
    own: tuple[Listen, ...] = ()
    if systemd.is_active(units.SERVICE) or systemd.is_active(units.SOCKET):
        own = place_of(before, settings).addresses
    # The same port elsewhere is given up before it is taken again.
    ports = {address.port for address in own if address.kind == "tcp"}
    for address in place.addresses:
        if address.kind == "tcp" and address.port not in ports:
            try:
                sockets.bind(address).close()
            except StorageFault as problem:
                raise StorageFault(problem.message, Action("fix", label="--listen :8090")) from None


def _check_upgrade(words: Sequence[str], choice: Choice, uid: int, gid: int) -> None:
    """Ask the new program, as the service's user, whether it would start on the data. Raises OperatorError."""
    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
    if CACHE.is_dir() and CACHE.stat().st_uid == uid:
        environment["TMPDIR"] = str(CACHE)
    if not frozen.is_frozen():
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    config = ["--config", str(CONFIG)] if CONFIG.exists() else []
    done = subprocess.run(  # noqa: S603 - our own program
        [*words, "upgrade-check", "--data", choice.data, *config],
        env=environment,
        user=uid,
        group=gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    if done.returncode != 0:
        said = "\n".join(filter(None, (done.stdout.strip(), done.stderr.strip().removeprefix("imgpro: "))))
        problem = OperatorError(f"This version would not start on {choice.data}; nothing was changed.\n{said}")
        problem.exit_code = done.returncode if done.returncode > 0 else 1
        raise problem


def _first_config(choice: Choice) -> str:
    from imgpro.cli.example import example

    data = f"data = {msgspec.json.encode(choice.data).decode()}"
    return re.sub(r"^#data = .*$", lambda _: data, example(), count=1, flags=re.MULTILINE)


def _correct_config(choice: Choice) -> None:
    """Let the settings name the same data as the service: the operator's commands look there. All else stays."""
    text = CONFIG.read_text()
    data = f"data = {msgspec.json.encode(choice.data).decode()}"
    corrected = re.sub(r"^\s*data\s*=.*$", lambda _: data, text, count=1, flags=re.MULTILINE)
    try:
        agreed = tomllib.loads(corrected).get("storage", {}).get("data") == choice.data
    except tomllib.TOMLDecodeError:
        agreed = False
    if not agreed:
        note(f"{CONFIG} names another data directory; commands need --data {shlex.quote(choice.data)}")
        return
    status = CONFIG.stat()
    placing.write(CONFIG, corrected, stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid))


def _avahi(place: Place, settings: Settings) -> str:
    addresses = as_answered(place.addresses, settings.server)
    found = next((address for address in addresses if address.kind == "tcp"), Listen("tcp", port=units.PORT))
    return avahi(Target(f"{'https' if found.tls else 'http'}://localhost:{found.port}", "none", "imgpro")).content


def _write_units(files: dict[Path, str]) -> bool:
    """Write what differs, remove what is no longer meant, and say so to systemd; return whether anything was done."""
    if SOCKET_FILE not in files and SOCKET_FILE.exists():
        systemd.systemctl("disable", "--now", units.SOCKET, check=False)
    socket_before = [path.read_text() if path.exists() else None for path in (SOCKET_FILE, SOCKET_DROP_IN)]
    changed = [placing.write(path, text) for path, text in files.items()]
    for path in (SOCKET_FILE, SOCKET_DROP_IN):
        if path not in files and path.exists():
            placing.remove(path)
            changed.append(True)
    if socket_before != [path.read_text() if path.exists() else None for path in (SOCKET_FILE, SOCKET_DROP_IN)]:
        # Its addresses are bound when it starts, which it does only while the service does not run.
        systemd.systemctl("stop", units.SOCKET, units.SERVICE, check=False)
    systemd.systemctl("daemon-reload")
    return any(changed)


def _start(choice: Choice, *, changed: bool) -> None:
    """Let the service run as it is now written, without refusing a connection if its socket is there already."""
    wanted = [units.SOCKET, units.SERVICE] if choice.socket else [units.SERVICE]
    systemd.systemctl("enable", "--quiet", *wanted)
    running = systemd.is_active(units.SERVICE)
    if running and not changed and (not choice.socket or systemd.is_active(units.SOCKET)):
        hint("It runs already, and nothing has changed.")
        return
    systemd.systemctl("reset-failed", *wanted, check=False)
    since = time.time() - 1
    if choice.socket and not systemd.is_active(units.SOCKET):
        systemd.systemctl("stop", units.SERVICE)
        if not _did("start", units.SOCKET):
            raise _not_started(units.SOCKET, since)
    if not _did("restart", units.SERVICE):
        raise _not_started(units.SERVICE, since)


def _did(verb: str, unit: str) -> bool:
    return systemd.run("systemctl", verb, unit).returncode == 0


def _not_started(unit: str, since: float) -> OperatorError:
    """Return what went wrong, in the service's own words and with its own exit code."""
    lines = systemd.last_words(unit, since)
    found = systemd.show(unit, "ExecMainStatus", "ExecMainCode")
    said = "\n".join(f"  {plain(line)}" for line in lines)
    fix = "`--listen :8090`, if something else has the port" if unit == units.SOCKET else f"journalctl -u {unit}"
    problem = OperatorError(f"{unit} did not start:\n{said}", Action("fix", label=fix))
    if found["ExecMainCode"] == "1" and found["ExecMainStatus"] not in ("", "0"):  # CLD_EXITED
        problem.exit_code = int(found["ExecMainStatus"])
    return problem


def uninstall() -> None:
    """Stop the service and take its files away, but for pictures, settings, user and program. Raises OperatorError."""
    if placing.is_packaged():
        raise OperatorError("imgpro is installed as a package here.", Action("fix", label="sudo apt remove imgpro"))
    wanted = [unit for unit, path in ((units.SOCKET, SOCKET_FILE), (units.SERVICE, SERVICE_FILE)) if path.exists()]
    if wanted:
        systemd.systemctl("disable", "--now", "--quiet", *wanted)
    for path in (SERVICE_FILE, SOCKET_FILE, SERVICE_DROP_IN, SOCKET_DROP_IN, SYSUSERS_FILE, AVAHI, CACHE):
        placing.remove(path)
    for folder in (SERVICE_DROP_IN.parent, SOCKET_DROP_IN.parent):
        if folder.is_dir() and not any(folder.iterdir()):  # an operator's own drop-ins stay
            placing.remove(folder)
    systemd.systemctl("daemon-reload")
    systemd.systemctl("reset-failed", *wanted, check=False)


def purge(choice: Choice, database_dir: str) -> list[str]:
    """Delete pictures, settings and the user; return the names of what was not imgpro's and so is left."""
    left: list[str] = []
    for folder in {choice.data, database_dir} - {""}:
        left += placing.empty_data_directory(Path(folder))
    placing.forget_data_directories(Path(units.STATE_DIRECTORY))
    with contextlib.suppress(OSError):
        os.rmdir(units.STATE_DIRECTORY)  # which systemd has made; pictures in it are not those that were named
    placing.remove(CONFIG.parent)
    if placing.find_user() is not None:
        systemd.run("userdel", units.USER)
    return left


def summary(choice: Choice) -> list[str]:
    """Return what to tell whoever installed it: where it is, how to claim it, and what to do next."""
    from imgpro.cli import banner, office  # the last needs asyncio

    settings = settings_of_service()
    lines = [f"imgpro {__version__} runs as a service and starts with this machine"]
    for at in as_answered(place_of(choice, settings).addresses, settings.server):
        where = [f"unix:{at.path}"]
        if at.kind == "tcp":
            where = banner.addresses_at(at.host or "::", at.port, tls=at.tls)
        lines += [f"  open      {address}" for address in where]
    lines.append(f"  data      {choice.data}")
    named = "" if settings.storage.data == choice.data else f" --data {shlex.quote(choice.data)}"
    with contextlib.suppress(ImgproError):  # it is claimed already
        answer = office.perform(load({}, CONFIG, {}), Path(choice.data), "setup-link", {})
        lines.append(f"  set up    {answer['link']}")
        lines.append(
            f"            makes the operator's account; once, for {answer['minutes']} minutes; "
            f"again: sudo imgpro setup-link{named}"
        )
    lines.append(f"  settings  {CONFIG}; then: sudo systemctl reload imgpro")
    lines.append("  look      imgpro service status; journalctl -u imgpro")
    return lines
