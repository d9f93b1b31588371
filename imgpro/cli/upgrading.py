"""`imgpro upgrade-check`: what a start of this version would do to the data, tried on a copy."""

import click


@click.command("upgrade-check")
def upgrade_check() -> None:
    """Under construction."""
