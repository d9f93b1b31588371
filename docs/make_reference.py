"""Make the pages that repeat what the program knows: settings, commands, exit codes.

python docs/make_reference.py           write them
python docs/make_reference.py --check   write nothing; exit 1 if one is out of date
"""
# ruff: noqa: INP001 - a script, no part of a package

import inspect
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec

from imgpro import forms
from imgpro.cli.commands import cli
from imgpro.exit_codes import EXIT_CODES
from imgpro.flows.live import NEEDS_RESTART
from imgpro.settings import Settings
from imgpro.sources import variables_of

DOCS: Final = Path(__file__).resolve().parent
WIDTH: Final = 100

_SETTINGS: Final = """# Settings

Made by `docs/make_reference.py` from the program itself; `imgpro config show` prints what is in force and where each
value came from, `imgpro config check` finds mistakes, `imgpro config init` writes a commented file to begin with.

A value is looked for in this order: flag, variable, variable with `_FILE` (the value is what that file holds), the
TOML file, default. A variable and its `_FILE` together are an error. The TOML file is the one named by `--config` or
`IMGPRO_CONFIG`, else `$CONFIGURATION_DIRECTORY/config.toml` (set by systemd), `~/.config/imgpro/config.toml`,
`/etc/imgpro/config.toml`: the first that exists.

Sizes are written `500 MB` or `2 GB` (or plain bytes), times `30s`, `10m`, `12h`, `30d`; lists in TOML as lists, in a
variable with commas; where it says so, `unlimited`.

"Changes" says what a changed value needs: `reload` means `systemctl reload imgpro` or `kill -HUP`, which drops no
request. A certificate that is set where there was none, or taken away, needs a restart.
"""

_COMMANDS: Final = """# Commands

Made by `docs/make_reference.py` from the program itself: this is what `--help` prints. Commands that work on a data
directory talk to the running server through its socket there; without a server they take the directory's lock.
`imgpro man` prints a manual page, `imgpro completion bash` (or `zsh`, `fish`) what a shell needs to complete.
"""

_CODES: Final = """# Exit codes

Made by `docs/make_reference.py` from the program itself. The unit of systemd does not restart after 2, 65 and 78:
trying again would change nothing.

| code | meaning | what to do |
| --- | --- | --- |
"""


def settings() -> str:
    """Return the page of all settings."""
    about = {section.name: inspect.getdoc(section.type) or "" for section in msgspec.structs.fields(Settings)}
    lines = [_SETTINGS]
    for section, group in itertools.groupby(forms.fields(), key=lambda field: field.section):
        lines += [f"## [{section}]", "", about[section], ""]
        lines += ["| setting | default | form | meaning | changes |", "| --- | --- | --- | --- | --- |"]
        for field in group:
            default = forms.show_value(field, field.default).replace("|", "\\|")
            names = " ".join(f"`{name}`" for name in variables_of(field))
            words = field.description.replace("|", "\\|")
            form, needs = forms.describe_form(field), "restart" if field.path in NEEDS_RESTART else "reload"
            lines.append(f"| `{field.name}`<br>{names} | `{default}` | {form} | {words} | {needs} |")
        lines.append("")
    return "\n".join(lines)


def commands() -> str:
    """Return the page of all commands."""
    return _COMMANDS + "".join(
        f"\n## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n" for name, command, context in _walk(cli)
    )


def _walk(
    command: click.Command, parent: click.Context | None = None
) -> Iterator[tuple[str, click.Command, click.Context]]:
    context = click.Context(
        command,
        parent,
        command.name if parent else "imgpro",
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _walk(found, context)


def exit_codes() -> str:
    """Return the page of all exit codes."""
    return _CODES + "".join(f"| {code} | {meaning} | {remedy} |\n" for code, (meaning, remedy) in EXIT_CODES.items())


PAGES: Final = {"settings.md": settings, "commands.md": commands, "exit-codes.md": exit_codes}


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` say whether they are up to date."""
    stale = []
    for name, make in PAGES.items():
        path, wanted = DOCS / name, make()
        if path.is_file() and path.read_text("utf-8") == wanted:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.write_text(wanted, "utf-8")
    if stale:
        sys.stdout.write(f"{'out of date' if '--check' in arguments else 'written'}: {', '.join(stale)}\n")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
