"""`imgpro config` and `imgpro paths`: what is set, where it came from, what can be set, and where everything lies."""

import click


@click.group("config")
def config() -> None:
    """Under construction."""


@click.command("paths")
def paths() -> None:
    """Under construction."""
