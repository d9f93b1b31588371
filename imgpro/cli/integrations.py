"""`imgpro integrations`: what other programs need to send to a server, on standard output or as files.

The server and its key are those of `imgpro login`. What is written to a file gets a key of its own that can do nothing
but upload, where the key of the login may make one. What stands beside a server, a proxy or Avahi, gets no key; its
address is that of the server's own settings.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from imgpro.cli.words import note, plain
from imgpro.errors import Action, ConfigError
from imgpro.integrations.lines import avahi
from imgpro.integrations.programs import BY_NAME, PROGRAMS
from imgpro.integrations.proxies import PROXIES, PROXY_BY_NAME
from imgpro.integrations.target import Piece, Target

if TYPE_CHECKING:
    from imgpro.cli.remote import Server
    from imgpro.integrations.target import Program

NO_KEY: Final = "YOUR_KEY"
_AVAHI: Final = "avahi"
_SECRET: Final = 0o600
_NO_SECRET: Final = 0o644  # the daemons that read it run as users of their own

# For completion, which takes the names down when it is written.
_name_argument = click.argument("name", shell_complete=lambda *_: [*BY_NAME, *PROXY_BY_NAME, _AVAHI])
_server_option = click.option("--server", metavar="URL", help="Server to send to [env: IMGPRO_SERVER].")
_key_option = click.option(
    "--key", "key_source", metavar="-", help="'-' reads the API key from standard input [env: IMGPRO_KEY]."
)


_listen_option = click.option(
    "--listen", metavar="ADDRESS", help="Where imgpro listens for a proxy; absent: as in its settings."
)


@click.group()
def integrations() -> None:
    """Get the file or line that connects ShareX, Obsidian and others, or a reverse proxy.

    Example: imgpro integrations write flameshot --to ~/.local/bin/
    """


@integrations.command("list")
def list_programs() -> None:
    """List what can be connected.

    Example: imgpro integrations list
    """
    for program in PROGRAMS:
        click.echo(f"{program.name:<10} {program.title}: {program.about}")
    for proxy in PROXIES:
        click.echo(f"{proxy.name:<10} {proxy.title}: {proxy.about}")
    click.echo(f"{_AVAHI:<10} Avahi: announces a server on the local network.")


@integrations.command()
@_name_argument
@_server_option
@_key_option
@_listen_option
def show(name: str, server: str | None, key_source: str | None, listen: str | None) -> None:
    """Print what a program needs, and how it is put in place. Holds the key of the login, if there is one.

    Example: imgpro integrations show curl
    """
    beside = _beside(name, server, listen)
    if beside is not None:
        _print_pieces(*beside)
        return
    program = _program(name)
    chosen = _server(server, key_source, key_needed=False)
    if chosen.key is None:
        note(f"no key is known, so {NO_KEY} stands in its place; imgpro login keeps one")
    target = _target(chosen, chosen.key)
    _print_pieces(program.steps_for(target), program.pieces(target))


@integrations.command()
@_name_argument
@click.option("--to", "to", metavar="PATH", help="File or folder to write to, '-' for standard output; absent: here.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@_server_option
@_key_option
@_listen_option
def write(
    name: str, to: str | None, server: str | None, key_source: str | None, listen: str | None, *, force: bool
) -> None:
    """Write a program's file, with a key in it that can only upload, and print where it is.

    Example: imgpro integrations write sharex
    """
    beside = _beside(name, server, listen)
    if beside is not None:
        steps, pieces = beside
        _check_has_file(name, pieces)
        _put([piece for piece in pieces if piece.name], to, force=force, mode=_NO_SECRET)
        _print_steps(steps, to_error=True)
        return
    program = _program(name)
    chosen = _server(server, key_source, key_needed=True)
    _check_has_file(name, program.pieces(_target(chosen, NO_KEY)))
    _check_free(program, chosen, to, force=force)
    target = _target(chosen, _upload_key(chosen, program))
    _put([piece for piece in program.pieces(target) if piece.name], to, force=force)
    _print_steps(program.steps_for(target), to_error=True)


def _program(name: str) -> "Program":
    program = BY_NAME.get(name)
    if program is None:
        raise ConfigError(f"There is no program {plain(name)!r}.", Action("fix", label="imgpro integrations list"))
    return program


def _beside(name: str, server: str | None, listen: str | None) -> tuple[list[str], tuple[Piece, ...]] | None:
    """Return steps and pieces of what stands beside a server, None for a program that sends to it."""
    if name != _AVAHI and name not in PROXY_BY_NAME:
        return None
    from imgpro.cli import own_address

    if name == _AVAHI:
        return [], (avahi(Target(own_address.announced(server), NO_KEY, "imgpro")),)
    front, known = own_address.front(server, listen)
    if not known:
        note(f"server.base_url is not set, so {front.base} stands for it; --server URL names your address")
    proxy = PROXY_BY_NAME[name]
    return proxy.steps_for(front), proxy.pieces(front)


def _check_has_file(name: str, pieces: Sequence[Piece]) -> None:
    if not any(piece.name for piece in pieces):
        label = f"imgpro integrations show {name}"
        raise ConfigError(f"{name} needs no file.", Action("fix", label=label))


def _server(option: str | None, key_source: str | None, *, key_needed: bool) -> "Server":
    from imgpro.cli import login_file, remote

    if key_source not in (None, "-"):
        raise click.BadParameter("use --key - and standard input: others can see arguments.", param_hint="--key")
    found = login_file.chosen(option)
    key = remote.check_key(sys.stdin.readline()) if key_source == "-" else found.key
    if key is None and key_needed:
        label = f"imgpro login {found.base}, with a key from {found.base}/dashboard/account"
        raise ConfigError(f"No key for {found.base} is known.", Action("fix", label=label))
    return remote.Server(found.base, key)


def _target(server: "Server", key: str | None) -> Target:
    return Target(server.base, key or NO_KEY, "imgpro")  # what the server calls itself is not asked for


def _upload_key(server: "Server", program: "Program") -> str:
    """Return a fresh key that can only upload, or the one at hand where that may make none and so may do no more."""
    from imgpro.cli import remote

    assert server.key is not None
    outcome = server.new_key(program.title, ("upload",))
    made = outcome.answer.get("key")
    if outcome.verdict == "sent" and isinstance(made, str):
        return remote.check_key(made)
    if outcome.status == 403 and outcome.answer.get("error") == "forbidden":
        return server.key
    raise outcome.problem


def _check_free(program: "Program", server: "Server", to: str | None, *, force: bool) -> None:
    """Refuse before a key is made for files that cannot be written."""
    pieces = [piece for piece in program.pieces(_target(server, NO_KEY)) if piece.name]
    for path in _paths(pieces, to):
        if path is not None and path.exists() and not force:
            raise _there_already(path)


def _paths(pieces: list[Piece], to: str | None) -> list[Path | None]:
    """Return where each file goes; None: to standard output."""
    if to == "-":
        return [None for _ in pieces[:1]]
    place = Path(to or ".").expanduser()
    if place.is_dir() or (to or "").endswith("/"):
        return [place / piece.name for piece in pieces]
    return [place, *(place.parent / piece.name for piece in pieces[1:])]


def _put(pieces: list[Piece], to: str | None, *, force: bool, mode: int = _SECRET) -> None:
    for piece, path in zip(pieces, _paths(pieces, to), strict=False):
        if path is None:
            click.echo(piece.content, nl=False)
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
            bits = 0o700 if piece.executable else mode
            with os.fdopen(os.open(path, flags, bits), "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), bits)
                file.write(piece.content)
        except FileExistsError:
            raise _there_already(path) from None
        except OSError as error:
            label = "Choose another place with --to"
            raise ConfigError(f"{path} cannot be written: {error.strerror}.", Action("fix", label=label)) from None
        click.echo(path)


def _there_already(path: Path) -> ConfigError:
    return ConfigError(f"{path} is there already.", Action("fix", label="--force to write over it, or --to PATH"))


def _print_pieces(steps: Sequence[str], pieces: Sequence[Piece]) -> None:
    """Print everything; of what is one piece and speaks for itself, that alone."""
    if not steps:
        click.echo("".join(piece.content for piece in pieces), nl=False)
        return
    _print_steps(steps, to_error=False)
    for piece in pieces:
        if piece.part:
            click.echo(f"\n== {piece.part} ==")
        label = f"{piece.label} ({piece.name})" if piece.name else piece.label
        click.echo(f"\n{label}:\n{piece.content.rstrip()}")


def _print_steps(steps: Sequence[str], *, to_error: bool) -> None:
    for number, step in enumerate(steps, 1):
        click.echo(f"{number}. {step}", err=to_error)
