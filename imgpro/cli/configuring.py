"""`imgpro config` and `imgpro paths`: what is set, where it came from, what can be set, and where everything lies."""

import grp
import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from imgpro import forms, units
from imgpro.cli import advice
from imgpro.cli.config_schema import schema as json_schema
from imgpro.cli.disk import fault
from imgpro.cli.example import example
from imgpro.cli.options import config_option, data_option
from imgpro.cli.places import Place, places
from imgpro.cli.words import hint, plain
from imgpro.errors import Action, ConfigError, OperatorError
from imgpro.settings import Settings
from imgpro.sources import CONFIG_NAME, Finding, Loaded, config_folders, gather

_HIDDEN: Final = "(set, not shown)"
_LEVELS: Final = {"error": "error", "unknown": "error", "renamed": "warning", "unwise": "warning"}


@click.group("config")
def config() -> None:
    """Check, show and write settings.

    Example: imgpro config check
    """


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@config_option
def check(file: Path | None, as_json: bool, config: Path | None) -> None:
    """Find every mistake in the settings, as a start would read them, and what is legal and unwise.

    Names that are not known are mistakes here; a start only warns of them. Exits 78 if there is a mistake.

    Example: imgpro config check /etc/imgpro/config.toml
    """
    found = gather({}, file or config)
    findings = [*found.findings]
    settings = found.loaded.settings
    if not found.errors:
        findings += [*advice.certificate(settings.server), *advice.unwise(settings)]
    findings = [_placed(one, found.loaded) for one in findings]
    mistakes = sum(_LEVELS[one.level] == "error" for one in findings)
    if as_json:
        click.echo(json.dumps([_row(one) for one in findings], indent=2, ensure_ascii=False))
    else:
        for one in findings:
            place = f"{one.place}: " if one.source else ""
            click.echo(plain(f"{place}{_LEVELS[one.level]}: {one.what}{f': {one.fix}' if one.fix else ''}"))
        where = found.loaded.config_file or "no configuration file"
        hint(f"imgpro: {where}: {mistakes or 'no'} mistake{'' if mistakes == 1 else 's'}")
    if mistakes:
        sys.exit(ConfigError.exit_code)


@config.command()
@click.option("--all", "everything", is_flag=True, help="Show what is at its default too.")
@click.option("--sources", is_flag=True, help="Say where each value came from.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, with the sources.")
@data_option
@config_option
def show(everything: bool, sources: bool, as_json: bool, data: str | None, config: Path | None) -> None:
    """Show the settings in force, in the form of a configuration file. Secrets are not shown.

    Example: imgpro config show --all --sources
    """
    found = gather({"storage.data": data}, config)
    loaded = found.loaded
    shown = [field for field in forms.fields() if everything or loaded.sources[field.path] != "default"]
    if as_json:
        click.echo(json.dumps(shown_as_json(loaded, shown), indent=2, ensure_ascii=False))
    else:
        lines = list(shown_as_toml(loaded, shown, sources=sources))
        click.echo("".join(f"{line}\n" for line in lines), nl=False)
        if not lines:
            hint("imgpro: everything is at its default; --all shows it")
    if found.errors:
        raise ConfigError(
            "The settings have mistakes; those are shown at their defaults.", Action("fix", label="imgpro config check")
        )


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, allow_dash=True))
def init(file: Path | None) -> None:
    """Write a configuration file in which every setting is explained, none set. Never over one that is there.

    Without FILE it goes to where a start would look; - prints it.

    Example: imgpro config init /etc/imgpro/config.toml
    """
    if file is not None and str(file) == "-":
        click.echo(example(), nl=False)
        return
    path = file or _default_file(os.environ)
    _write_new(path, example())
    click.echo(path)


@config.command()
def schema() -> None:
    """Print a JSON Schema of the configuration file, for editors that check TOML.

    Example: imgpro config schema > imgpro.schema.json
    """
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@click.command("paths")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@data_option
@config_option
def paths(as_json: bool, data: str | None, config: Path | None) -> None:
    """Print every path that counts: configuration, data, what is in it, temporary files.

    Example: imgpro paths --data /srv/img
    """
    found = list(places(gather({"storage.data": data}, config).loaded, os.environ))
    if as_json:
        click.echo(json.dumps([place.as_dict() for place in found], indent=2, ensure_ascii=False))
    else:
        click.echo("".join(f"{line}\n" for line in place_lines(found)), nl=False)


def place_lines(found: list[Place]) -> Iterator[str]:
    """Yield a line for each path, in columns."""
    width = max(len(place.name) for place in found)
    for place in found:
        who = f"{place.mode} {place.owner}" if place.mode else place.state
        yield plain(f"{place.name:<{width}}  {place.path}  ({who})")


def shown_as_json(loaded: Loaded, fields: list[forms.Field]) -> dict[str, Any]:
    """Return settings by dotted name: the value as a person writes it, and where it came from."""
    found = {}
    for field in fields:
        value = _value(loaded.settings, field)
        shown: Any = forms.plain_value(field, value)
        if field.secret:
            shown = _HIDDEN if value else ""
        found[field.path] = {"value": shown, "source": loaded.sources[field.path]}
    return found


def shown_as_toml(loaded: Loaded, fields: list[forms.Field], *, sources: bool) -> Iterator[str]:
    """Yield the lines of a configuration file that says the same; a secret is a comment in it."""
    for section, group in itertools.groupby(fields, key=lambda field: field.section):
        yield f"[{section}]"
        for field in group:
            value = _value(loaded.settings, field)
            if field.secret and value:
                line = f"# {field.name} = {_HIDDEN}"
            else:
                line = f"{field.name} = {forms.show_value(field, value)}"
            yield plain(f"{line}  # {loaded.sources[field.path]}" if sources else line)


def _value(settings: Settings, field: forms.Field) -> Any:
    return getattr(getattr(settings, field.section), field.name)


def _placed(finding: Finding, loaded: Loaded) -> Finding:
    """Return a finding with the place of its setting, where it has none and the setting has one."""
    source = loaded.sources.get(finding.setting, "default")
    if finding.source or source == "default":
        return finding
    path, _, line = source.rpartition(":")
    if path == str(loaded.config_file):
        return msgspec.structs.replace(finding, source=path, line=int(line))
    return msgspec.structs.replace(finding, source=source)


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "level": _LEVELS[finding.level],
        "setting": finding.setting or None,
        "message": finding.what,
        "fix": finding.fix or None,
        "source": finding.source or None,
        "line": finding.line,
        "column": finding.column,
    }


def _default_file(environ: Mapping[str, str]) -> Path:
    """Return where a start would look first, of the places that this user should write to."""
    if environ.get("IMGPRO_CONFIG"):
        return Path(environ["IMGPRO_CONFIG"])
    folders = config_folders(environ)
    if not environ.get("CONFIGURATION_DIRECTORY") and os.geteuid() == 0:
        return folders[-1] / CONFIG_NAME
    return folders[0] / CONFIG_NAME


def _write_new(path: Path, text: str) -> None:
    """Write a file that must not be there, for its owner and group. Raises OperatorError, StorageFault."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            os.fchmod(fd, 0o640)
            _give_to_service(fd, path)
            with open(fd, "w", encoding="utf-8", closefd=False) as file:
                file.write(text)
            os.fsync(fd)
        finally:
            os.close(fd)
    except FileExistsError:
        raise OperatorError(
            f"{path} is there already, and stays as it is.", Action("fix", label="imgpro config init OTHER_FILE")
        ) from None
    except OSError as error:
        raise fault(error, f"writing {path}") from error


def _give_to_service(fd: int, path: Path) -> None:
    """Let the service read what root wrote for it."""
    if os.geteuid() != 0 or path.parent != config_folders({})[-1]:
        return
    try:
        group = grp.getgrnam(units.USER)
    except KeyError:
        return  # there is no service yet
    os.fchown(fd, -1, group.gr_gid)
