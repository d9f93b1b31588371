"""The options that all kinds of `imgpro import` share, and the run that they ask for."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from imgpro.cli.options import config_option, data_option
from imgpro.movers.found import Source

_OPTIONS: Final = (
    click.option("--to", metavar="EMAIL", help="The account that the pictures will belong to."),
    click.option("--nobody", is_flag=True, help="They will belong to nobody: no tags, no namespace, no end."),
    click.option(
        "--map", "owners", metavar="OWNER=EMAIL", multiple=True, help="Pictures of this owner there go to this account."
    ),
    click.option("--add-accounts", is_flag=True, help="Make accounts that are not there, verified."),
    click.option("--namespace", metavar="NAME", help="Put all of them into this namespace."),
    click.option("--tag", "tags", metavar="TAG", multiple=True, help="Give all of them this tag, too."),
    click.option("--private/--public", "private", default=None, help="All private, or all public."),
    click.option("--dry-run", is_flag=True, help="Store nothing; say what would be brought and left out."),
    click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each picture."),
    click.option(
        "--report", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write those lines here."
    ),
    click.option("--quiet", is_flag=True, help="No progress bar."),
    data_option,
    config_option,
)


class Taking(msgspec.Struct, frozen=True, kw_only=True):
    """What the shared options say."""

    to: str | None = None
    nobody: bool = False
    owners: dict[str, str] = {}
    add_accounts: bool = False
    namespace: str | None = None
    tags: tuple[str, ...] = ()
    private: bool | None = None
    keep_links: bool = False
    dry_run: bool = False
    as_json: bool = False
    report: Path | None = None
    quiet: bool = False
    data: str | None = None
    config: Path | None = None

    def need_owner(self) -> None:
        """Raise UsageError unless it is said whose the pictures will be, for sources that do not know."""
        if not self.to and not self.nobody:
            raise click.UsageError("Say whose the pictures will be: --to EMAIL, or --nobody.")

    def run(self, source: Source, *, keep_links: bool | None = None) -> None:
        """Bring what the source has; `keep_links` instead of what the options say.

        Raises DoneInPart where something was left out, and what stops it.
        """
        from imgpro.cli.moving import run  # loads what a look at --help does not wait for

        run(source, self if keep_links is None else msgspec.structs.replace(self, keep_links=keep_links))


def taking_over(*, keeps_links: bool | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the shared options; it is called with `taking` besides its own.

    `keeps_links`: whether addresses of before are kept unless told otherwise; None: there are none.
    """
    more = () if keeps_links is None else (_keep_links_option(default=keeps_links),)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def called(**values: Any) -> None:
            own = {name: values.pop(name) for name in list(values) if name not in Taking.__struct_fields__}
            command(**own, taking=_taking(values))

        for option in reversed((*more, *_OPTIONS)):
            called = option(called)
        return called

    return decorate


def _keep_links_option(*, default: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    words = "Addresses that pictures had there lead to them here, or not."
    return click.option("--keep-links/--no-keep-links", default=default, show_default=True, help=words)


def _taking(values: dict[str, Any]) -> Taking:
    if values["to"] and values["nobody"]:
        raise click.UsageError("--to and --nobody do not go together.")
    owners: dict[str, str] = {}
    for pair in values["owners"]:
        owner, equals, email = pair.rpartition("=")
        if not equals or not owner or not email:
            raise click.BadParameter(f"{pair!r} is not OWNER=EMAIL.", param_hint="--map")
        owners[owner] = email
    return Taking(**{**values, "owners": owners})
