"""`imgpro man` and `imgpro completion`: the manual page and completion for shells, from the commands themselves."""

import click


@click.command("man")
def man() -> None:
    """Under construction."""


@click.command("completion")
def completion() -> None:
    """Under construction."""
