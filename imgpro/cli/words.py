"""How the command line speaks to people: one line each, nothing in it that a terminal would obey."""

import sys

import click


def plain(text: str) -> str:
    """Return one line without anything that a terminal would obey: names come from strangers."""
    return "".join(char if char.isprintable() else "?" for char in text)


def hint(text: str) -> None:
    """Say something to a person; a script that reads standard error gets nothing on success."""
    if sys.stderr.isatty():
        click.echo(text, err=True)


def note(text: str) -> None:
    """Say on standard error what went another way than it should."""
    click.echo(f"imgpro: {plain(text)}", err=True)
