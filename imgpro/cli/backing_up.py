"""`imgpro backup`: copies of database and pictures: make, list, try out, thin out, restore."""

import click


@click.group("backup")
def backup() -> None:
    """Copies of database and pictures: make, list, try out, thin out, restore.

    Example: imgpro backup --help
    """
