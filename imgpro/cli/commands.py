"""The commands. Each one is thin: options in, a call below, words out. aiohttp is loaded by `run` alone."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from imgpro import __version__
from imgpro.cli.accounts import accounts, setup_link
from imgpro.cli.asking import health
from imgpro.cli.backing_up import backup
from imgpro.cli.bringing_in import import_pictures
from imgpro.cli.checking import check
from imgpro.cli.configuring import config, paths
from imgpro.cli.hang_ups import HangUps
from imgpro.cli.integrations import integrations
from imgpro.cli.licences import licenses
from imgpro.cli.manual import completion, man
from imgpro.cli.options import config_option, data_dir, data_option
from imgpro.cli.rebuilding import rebuild
from imgpro.cli.retaining import retention
from imgpro.cli.scrubbing import scrub
from imgpro.cli.sending import login, logout, upload
from imgpro.cli.service import service
from imgpro.cli.supporting import support_bundle
from imgpro.cli.taking_out import export_pictures
from imgpro.cli.upgrading import upgrade_check
from imgpro.cli.words import plain
from imgpro.errors import ImgproError
from imgpro.sources import load


class _Group(click.Group):
    """Turns imgpro's errors into a sentence, a hint and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ImgproError as problem:
            # Words of another machine may be among them: a terminal would obey its control characters.
            said = f"imgpro: {' '.join([problem.message, *problem.details.values()])}"
            if problem.action.type == "fix" and problem.action.label:
                said += f"\nTry: {problem.action.label}"
            click.echo("\n".join(map(plain, said.split("\n"))), err=True)
            ctx.exit(problem.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="imgpro")
def cli() -> None:
    """A self-hosted image host: upload a picture, get a link, resize by changing the link."""


@cli.command()
@data_option
@click.option("--db-dir", metavar="DIR", help="Directory of the database, where the data is on a network disk.")
@click.option("--listen", metavar="ADDR", multiple=True, help="Address to listen on, e.g. :8080 [env: IMGPRO_LISTEN].")
@click.option("--base-url", metavar="URL", help="Address that links start with [env: IMGPRO_BASE_URL].")
@click.option(
    "--accept-data", is_flag=True, help="Take the data directory as it is, though it is empty or another one now."
)
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]), help="How log lines are written.")
@config_option
def run(
    data: str | None,
    db_dir: str | None,
    listen: tuple[str, ...],
    base_url: str | None,
    accept_data: bool,
    log_format: str | None,
    config: Path | None,
) -> None:
    """Start the server.

    Example: imgpro run --data /srv/img --listen :8080
    """
    hang_ups = HangUps()
    flags = {
        "storage.data": data,
        "storage.database_dir": db_dir,
        "server.listen": listen or None,
        "server.base_url": base_url,
        "log.format": log_format,
    }
    loaded = load(flags, config)
    for warning in loaded.warnings:
        click.echo(f"imgpro: warning: {warning}", err=True)
    from imgpro.cli.serve import serve  # other commands start without the server's imports

    serve(loaded, data_dir(loaded), lambda: load(flags, config), hang_ups, accept=accept_data)


@cli.command()
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@config_option
def doctor(data: str | None, as_json: bool, config: Path | None) -> None:
    """Report on this machine: engine, codecs, sandbox, SQLite, disk. Exits 1 if anything is red.

    Example: imgpro doctor --data /srv/img
    """
    loaded = load({"storage.data": data}, config)
    from imgpro.cli.doctor import examine, print_report  # loads the decoders

    checks = examine(loaded, data_dir(loaded))
    if as_json:
        click.echo(json.dumps([check.as_dict() for check in checks], indent=2))
    else:
        print_report(checks)
    if any(check.state == "red" for check in checks):
        sys.exit(1)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, with the parts' versions.")
def version(as_json: bool) -> None:
    """Print the version, and with --json those of all parts.

    Example: imgpro version --json
    """
    if not as_json:
        click.echo(f"imgpro {__version__}")
        return
    from imgpro.cli.doctor import versions  # loads the decoders

    click.echo(json.dumps(versions(), indent=2))


cli.add_command(setup_link)
cli.add_command(accounts)
cli.add_command(login)
cli.add_command(logout)
cli.add_command(upload)
cli.add_command(integrations)
cli.add_command(config)
cli.add_command(paths)
cli.add_command(upgrade_check)
cli.add_command(support_bundle)
cli.add_command(health)
cli.add_command(service)
cli.add_command(licenses)
cli.add_command(man)
cli.add_command(completion)
cli.add_command(backup)
cli.add_command(scrub)
cli.add_command(check)
cli.add_command(rebuild)
cli.add_command(import_pictures)
cli.add_command(export_pictures)
cli.add_command(retention)
