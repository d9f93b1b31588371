"""`imgpro retention`: rules by which pictures end, rehearsed before they are made."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from imgpro import forms
from imgpro.cli.accounts import perform
from imgpro.cli.options import config_option, data_option
from imgpro.cli.words import hint, plain

_AGE: Final = forms.Field("retention", "older_than_s", int, None, "")
_SIZE: Final = forms.Field("retention", "larger_than_bytes", int, None, "")


class _Amount(click.ParamType[int]):
    """A time such as 180d, or a size such as 10 MB."""

    def __init__(self, name: str, field: forms.Field) -> None:
        self.name = name
        self._field = field

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds or bytes."""
        try:
            found: int = forms.parse_value(self._field, value)
        except ValueError:
            self.fail(f"{value} is not {forms.describe_form(self._field)}.", param, ctx)
        return found


def _which(*, age_needed: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that say which pictures a rule is about."""
    options = (
        click.option(
            "--older-than", "older_than_s", type=_Amount("time", _AGE), required=age_needed, help="Such as 180d or 36h."
        ),
        click.option("--account", metavar="EMAIL", help="Only pictures of this account."),
        click.option("--anonymous", is_flag=True, help="Only pictures uploaded without an account."),
        click.option("--namespace", metavar="NAME", help="Only pictures in it."),
        click.option("--tag", metavar="TAG", help="Only pictures that have it."),
        click.option("--except-tag", metavar="TAG", help="No pictures that have it."),
        click.option("--format", metavar="FORMAT", help="Only pictures stored as jpeg, png, gif, webp, ..."),
        click.option("--larger-than", type=_Amount("size", _SIZE), help="Only larger originals, such as 10 MB."),
    )

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.group("retention")
def retention() -> None:
    """Rules by which pictures end: list, rehearse, add and remove them.

    Example: imgpro retention rehearse --older-than 180d --namespace drafts
    """


@retention.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@data_option
@config_option
def list_rules(as_json: bool, data: str | None, config: Path | None) -> None:
    """List the rules, and what each deletes.

    Example: imgpro retention list
    """
    rules = perform(data, config, "retention-list", {})["rules"]
    if as_json:
        click.echo(json.dumps(rules, indent=2))
        return
    for rule in rules:
        waits = "  WAITS: look at it again with imgpro retention resume" if rule["waits"] else ""
        begins = f"  from {_moment(rule['begins_at'])}" if rule["begins_at"] > time.time() else ""
        click.echo(plain(f"{rule['name']}  deletes {rule['deletes']}{begins}{waits}"))
    if not rules:
        hint("There are no rules: pictures are kept as long as their owners and the plans say.")


@retention.command()
@click.argument("name", required=False)
@_which(age_needed=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, the sum last.")
@data_option
@config_option
def rehearse(name: str | None, as_json: bool, data: str | None, config: Path | None, **which: Any) -> None:
    """List the pictures that a rule would delete now; nothing is deleted.

    Either the NAME of a rule, or the options of one that is not made yet.

    Example: imgpro retention rehearse --older-than 180d --namespace drafts --except-tag keep
    """
    values = _wanted(name, which)
    found = perform(data, config, "retention-rehearse", values)
    for picture in _pictures(data, config, values):
        if as_json:
            click.echo(json.dumps(picture))
        else:
            owner = picture["owner"] or picture["network"] or "nobody"
            words = (
                picture["id"],
                _moment(picture["created_at"]),
                forms.show_bytes(picture["stored_bytes"]),
                owner,
                picture["link"],
                picture["name"],
            )
            click.echo(plain("  ".join(words)))
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo(plain(f"{_counted(found)} would be deleted: {found['deletes']}"))


@retention.command()
@click.argument("name")
@_which(age_needed=True)
@click.option("--now", is_flag=True, help="Begin to delete at once, not tomorrow.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@config_option
def add(name: str, now: bool, yes: bool, data: str | None, config: Path | None, **which: Any) -> None:
    """Make a rule, after showing how many pictures it would delete now. It begins tomorrow, or with --now at once.

    Example: imgpro retention add old-drafts --older-than 180d --namespace drafts
    """
    found = perform(data, config, "retention-rehearse", _wanted(None, which))
    begins = "with the next hour" if now else "tomorrow"
    if not yes:
        click.echo(plain(f"This rule would delete {_counted(found)} now: {found['deletes']}."), err=True)
        click.confirm(f"Make the rule {name}? It deletes them for good, from {begins} on", abort=True, err=True)
    values = {**which, "name": name, "now": now, "expected": found["count"]}
    made = perform(data, config, "retention-add", values)
    click.echo(plain(f"{made['name']} deletes {made['deletes']}, from {_moment(made['begins_at'])} on"))
    hint(f"imgpro retention remove {name} takes it back.")


@retention.command()
@click.argument("name")
@data_option
@config_option
def remove(name: str, data: str | None, config: Path | None) -> None:
    """Remove a rule: it deletes nothing more, from this moment.

    Example: imgpro retention remove old-drafts
    """
    click.echo(plain(f"{perform(data, config, 'retention-remove', {'rule': name})['name']} is removed"))


@retention.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@config_option
def resume(name: str, yes: bool, data: str | None, config: Path | None) -> None:
    """Let a rule go on that waits, because it matched far more pictures than when it was looked at last.

    Example: imgpro retention resume old-drafts
    """
    found = perform(data, config, "retention-rehearse", {"rule": name})
    if not yes:
        click.echo(plain(f"The rule would delete {_counted(found)} now: {found['deletes']}."), err=True)
        hint(f"imgpro retention rehearse {name} lists them.")
        click.confirm("Let it delete them", abort=True, err=True)
    perform(data, config, "retention-resume", {"rule": name, "expected": found["count"]})
    click.echo(plain(f"{name} goes on"))


def _wanted(name: str | None, which: Mapping[str, Any]) -> dict[str, Any]:
    given = {option: value for option, value in which.items() if value not in (None, False)}
    if name is None and "older_than_s" not in given:
        raise click.UsageError("Name a rule, or say --older-than.")
    if name is not None and given:
        raise click.UsageError("Either the name of a rule or the options of a new one.")
    return {"rule": name} if name is not None else given


def _pictures(data: str | None, config: Path | None, values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what a rule matches, asked for in pages."""
    after: list[int] | None = []
    while after is not None:
        page = perform(data, config, "retention-page", {**values, "after": after or None})
        yield from page["pictures"]
        after = page["next"]


def _counted(found: Mapping[str, Any]) -> str:
    return f"{forms.counted(found['count'], 'picture')} ({forms.show_bytes(found['bytes'])})"


def _moment(at_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))
