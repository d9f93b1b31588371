"""The manual page imgpro(1), written from the commands, the settings and the errors, so that it cannot go stale.

What has no source in the code (files, signals, variables of the system) stands in tables here, which tests hold against
a running server. Prints nothing.
"""

import datetime
import inspect
import itertools
import os
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

import click
import msgspec

from imgpro import __version__, forms
from imgpro.exit_codes import EXIT_CODES
from imgpro.settings import Settings
from imgpro.sources import variables_of

_FILES: Final = (
    ("/etc/imgpro/config.toml", "Settings of the service; also found as ~/.config/imgpro/config.toml."),
    ("/etc/imgpro/imgpro.env", "Variables for the service, one NAME=value in a line."),
    ("~/.config/imgpro/client.toml", "Server and key that `imgpro login` keeps for `imgpro upload`."),
    ("/var/lib/imgpro", "The service's data directory, unless `storage.data` says otherwise."),
    (
        "~/.local/state/imgpro/known-data/",
        "Which data directories were used here: one whose disk is not mounted is refused. Of a service: in its cache.",
    ),
    ("~/.local/share/imgpro", "The data directory where neither a setting nor systemd names one."),
)
_DATA_FILES: Final = (
    ("imgpro.db", "The database, with imgpro.db-wal and imgpro.db-shm beside it while it is open."),
    ("blobs/", "The pictures as they were uploaded, named by their digest. Never changed once they are there."),
    ("cache/", "Derivatives: pictures made from those in blobs/. May be deleted, needs no backup."),
    ("tmp/", "Uploads on their way. Emptied at the start."),
    ("backups/", "Copies of the database from before it was migrated; backups, if backup.to names no other place."),
    ("restoring/", "What a restore that is under way, or was broken off, has gathered."),
    ("RESTORING", "There while a restore takes the place of what was there; no server starts meanwhile."),
    ("replaced-*/", "What was there before a restore. May be deleted."),
    ("FORMAT", "What makes the directory imgpro's, and which instance it is."),
    ("journal/", "What the database knows, as plain lines; imgpro rebuild makes a lost one again from it."),
    ("quarantine/", "Originals that the disk has damaged. They are not served."),
    ("secret.key", "Signs links and sessions. Without it all of them end."),
    ("imgpro.lock", "Locked while a server works on the directory."),
    ("admin.sock", "Where the operator's commands reach the running server."),
    (".ballast", "Room that is given up so that pictures can be deleted on a full disk."),
)
_SIGNALS: Final = (
    (
        "SIGTERM, SIGINT",
        "`imgpro run` takes no new requests, finishes those under way and exits 0. A second one ends it.",
    ),
    ("SIGHUP", "`imgpro run` reads its settings again. Invalid ones change nothing and are logged."),
)
_VARIABLES: Final = (
    ("IMGPRO_<SECTION>_<NAME>", "One setting; see SETTINGS."),
    ("IMGPRO_<SECTION>_<NAME>_FILE", "A file that holds the value. Setting both is an error."),
    ("IMGPRO_CONFIG", "The TOML file with settings."),
    ("IMGPRO_SERVER, IMGPRO_KEY", "Server and key for `imgpro upload`, before those of `imgpro login`."),
    ("CONFIGURATION_DIRECTORY, STATE_DIRECTORY, CACHE_DIRECTORY", "Set by systemd: the service's own directories."),
    ("LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID", "Set by systemd: sockets that are handed over."),
    ("NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID", "Set by systemd: where to say that the server is there, and alive."),
    ("JOURNAL_STREAM", "Set by systemd: log lines need no time of their own."),
    ("TMPDIR", "Where the one-file executable unpacks itself at each start: some 80 MB, and not mounted noexec."),
)


def manual_page(root: click.Command) -> str:
    """Return the page as roff for man(1). Dated by SOURCE_DATE_EPOCH where that is set, else undated."""
    stamp = os.environ.get("SOURCE_DATE_EPOCH", "")
    date = datetime.datetime.fromtimestamp(int(stamp), datetime.UTC).date().isoformat() if stamp.isdigit() else ""
    lines = [
        '.\\" Written by `imgpro man`.',
        f'.TH IMGPRO 1 "{date}" "imgpro {__version__}" "User Commands"',
        *_section("NAME", "imgpro \\- a self\\-hosted image host in one executable"),
        *_section("SYNOPSIS", ".B imgpro", r"\fICOMMAND\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]"),
        *_section("DESCRIPTION", *_paragraphs(inspect.getdoc(root.callback) or "")),
        ".PP",
        *_text(
            "Every command explains itself with `--help`. Standard output holds data only; words for people go to "
            "standard error."
        ),
        *_section("COMMANDS", *_commands(root, ("imgpro",), None)),
        *_section("SETTINGS", *_settings()),
        *_section("ENVIRONMENT", *_table(_VARIABLES)),
        *_section("FILES", *_table(_FILES), ".PP", "In the data directory:", *_table(_DATA_FILES)),
        *_section("SIGNALS", *_table(_SIGNALS)),
        *_section("EXIT STATUS", *_table((str(code), " ".join(words)) for code, words in EXIT_CODES.items())),
        *_section("SEE ALSO", r"\fBsystemd.service\fR(5), \fBsystemctl\fR(1), \fBjournalctl\fR(1)"),
    ]
    return "\n".join(lines) + "\n"


def _section(title: str, *lines: str) -> Iterator[str]:
    yield f".SH {title}"
    yield from lines


def _commands(command: click.Command, path: tuple[str, ...], parent: click.Context | None) -> Iterator[str]:
    """Yield a heading and a text for each command that does something by itself."""
    context = click.Context(command, info_name=path[-1], parent=parent)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _commands(child, (*path, name), context)
        return
    usage = " ".join(command.collect_usage_pieces(context))
    yield rf".SS {_escaped(' '.join(path))} \fI{_escaped(usage)}\fR"
    yield from _paragraphs(inspect.getdoc(command.callback) or command.help or "")
    for param in command.get_params(context):
        if isinstance(param, click.Option) and not param.hidden and "--help" not in param.opts:
            yield from _option(param, context)


def _option(option: click.Option, context: click.Context) -> Iterator[str]:
    names, help_text = option.get_help_record(context) or ("", "")
    flags, _, value = names.partition(" ")
    yield ".TP"
    yield rf"\fB{_escaped(flags)}\fR" + (rf" \fI{_escaped(value)}\fR" if value else "")
    yield from _text(help_text)


def _settings() -> Iterator[str]:
    """Yield every setting, under the heading of its section."""
    yield from _text(
        "Flags win over the environment, that over the TOML file, that over the defaults that are shown here. Sizes "
        "take units (500 MB, 2 GB), times too (30s, 10m, 2d)."
    )
    kinds = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    for section, fields in itertools.groupby(forms.fields(), key=lambda field: field.section):
        yield f".SS [{_escaped(section)}]"
        yield from _text((inspect.getdoc(kinds[section]) or "").split("\n\n", maxsplit=1)[0])
        for field in fields:
            yield ".TP"
            yield rf"\fB{_escaped(field.name)}\fR = {_escaped(forms.show_value(field, field.default))}"
            yield from _text(f"{field.description} ({forms.describe_form(field)})")
            yield ".br"
            yield _escaped(", ".join(variables_of(field)))


def _table(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, words in rows:
        yield ".TP"
        yield rf"\fB{_escaped(name)}\fR"
        yield from _text(words)


def _paragraphs(text: str) -> Iterator[str]:
    """Turn a command's help into roff: examples and what is marked so keep their lines."""
    for number, paragraph in enumerate(text.split("\n\n")):
        lines = paragraph.strip("\n").split("\n")
        if number:
            yield ".PP"
        if lines[0] == "\b" or lines[0].startswith("Example:"):
            kept = lines[1:] if lines[0] == "\b" else lines
            yield from (".nf", *(_escaped(line) for line in kept), ".fi")
        else:
            yield from _text(paragraph)


def _text(text: str) -> Iterator[str]:
    """Yield one paragraph; what stands between backticks is bold."""
    parts = re.split(r"`([^`]+)`", " ".join(text.split()))
    shown = "".join(rf"\fB{_escaped(part)}\fR" if number % 2 else _escaped(part) for number, part in enumerate(parts))
    for line in textwrap.wrap(shown, 78, break_long_words=False, break_on_hyphens=False):
        yield rf"\&{line}" if line.startswith(".") else line


_ESCAPES: Final = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq"}


def _escaped(text: str) -> str:
    """Return text that roff shows as it is, wherever it stands."""
    shown = "".join(_ESCAPES.get(char, char if char.isascii() else rf"\[u{ord(char):04X}]") for char in text)
    return rf"\&{shown}" if shown.startswith(".") else shown
