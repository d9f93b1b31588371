"""`imgpro service`: make this program a service of systemd, look at it, take it away."""

import json
import os
import shlex
from collections.abc import Sequence
from typing import Any

import click

from imgpro import frozen, units
from imgpro.cli.words import hint, note, plain
from imgpro.errors import OperatorError, ServerUnreachable

_HEADINGS = {"service": units.SERVICE, "socket": units.SOCKET, "sysusers": "imgpro.sysusers.conf"}


@click.group("service")
def service() -> None:
    """Run imgpro as a service of systemd: install, look, take away.

    Example: sudo imgpro service install --data /srv/img
    """


data_option = click.option(
    "--data", metavar="DIR", help="Data directory of the service [default: the last one, else /var/lib/imgpro]."
)
listen_option = click.option(
    "--listen", metavar="ADDR", multiple=True, help="Address to listen on, e.g. :80 [default: what server.listen says]."
)
socket_option = click.option(
    "--socket/--no-socket",
    default=None,
    help="Let systemd hold the address, so that a restart refuses no connection [default: --socket].",
)


@service.command("print")
@click.argument("what", type=click.Choice([*_HEADINGS, "all"]), default="all")
@data_option
@listen_option
@socket_option
def print_units(what: str, data: str | None, listen: tuple[str, ...], socket: bool | None) -> None:
    """Print the units as `install` would write them; it changes nothing.

    Example: imgpro service print --data /srv/img
    """
    from imgpro.cli import installing

    command = [units.PROGRAM] if frozen.is_frozen() else frozen.command()
    if what != "all":
        text = {"service": units.service(command), "socket": units.socket(), "sysusers": units.sysusers()}[what]
        click.echo(text, nl=False)
        return
    choice = installing.choose(data, listen, socket)
    files = installing.texts(choice, installing.settings_of_service(), command)
    click.echo("\n".join(f"# {path}\n{text}" for path, text in files.items()), nl=False)


@service.command()
@data_option
@listen_option
@socket_option
def install(data: str | None, listen: tuple[str, ...], socket: bool | None) -> None:
    """Make this program a service and start it; with a newer program, upgrade it.

    Copies the program to /usr/local/bin, makes the user imgpro, gives it the data directory, writes units and settings.

    Example: sudo ./imgpro service install --data /srv/img --listen :80
    """
    from imgpro.cli import installing, systemd

    systemd.require(_line("install", data=data, listen=listen))
    choice = installing.choose(data, listen, socket)
    installing.install(choice)
    for line in installing.summary(choice):
        click.echo(line)


@service.command()
@click.option("--purge", is_flag=True, help="Delete pictures, settings and the user as well.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def uninstall(purge: bool, yes: bool) -> None:
    """Stop the service and take it away; pictures and settings stay, unless --purge.

    Example: sudo imgpro service uninstall
    """
    from imgpro.cli import installing, placing, systemd

    systemd.require("imgpro service uninstall" + (" --purge" if purge else ""))
    choice = installing.choose(None, (), None)
    database_dir = installing.settings_of_service().storage.database_dir if purge else ""
    if purge and not yes:
        click.echo(f"This deletes every picture in {choice.data}, and /etc/imgpro. Nothing brings them back.", err=True)
        if click.prompt("Type the data directory to go on", err=True) != choice.data:
            raise OperatorError("That was another one; nothing was changed.")
    installing.uninstall()
    left = installing.purge(choice, database_dir) if purge else []
    placing.remove_program()  # the last step: it may be this very one
    for path in left:
        note(f"{path} is not imgpro's and was left")
    if purge and choice.data != units.STATE_DIRECTORY and os.path.isdir(units.STATE_DIRECTORY):
        note(f"{units.STATE_DIRECTORY} was left: what is in it is not of this service, but of an earlier one")
    if purge:
        return
    hint(f"The pictures are in {choice.data} as before, of the user {units.USER}; settings are in /etc/imgpro.")


@service.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(as_json: bool) -> None:
    """Say how the service is: what systemd knows, which version runs, and whether it takes pictures.

    Exits 0 if it does, 69 if no service runs, 1 if it runs and something is wrong.

    Example: imgpro service status
    """
    from imgpro.cli import watch_service

    found = watch_service.look()
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for line in watch_service.lines(found):
            click.echo(plain(line))
    if found["state"] != "active":
        raise ServerUnreachable("The service does not run.", watch_service.remedy(found))
    if not found["ready"]:
        raise OperatorError("The service runs, but does not take pictures.", watch_service.remedy(found))


def _line(command: str, *, data: str | None, listen: Sequence[str]) -> str:
    """Return what was typed, with this very program by its absolute path, because sudo searches elsewhere."""
    words: list[Any] = [*frozen.command(), "service", command, *(["--data", data] if data else [])]
    return shlex.join([*words, *(word for address in listen for word in ("--listen", address))])
