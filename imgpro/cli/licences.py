"""`imgpro licenses`: under which terms the parts of this program come."""

import click


@click.command("licenses")
def licenses() -> None:
    """Under construction."""
