"""`imgpro scrub`: read all originals again and find bytes that the disk has changed."""

import click


@click.command("scrub")
def scrub() -> None:
    """Read all originals again and find bytes that the disk has changed.

    Example: imgpro scrub --help
    """
