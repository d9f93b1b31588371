"""`imgpro rebuild`: make a lost database again from the journal beside the pictures."""

import click


@click.command("rebuild")
def rebuild() -> None:
    """Make a lost database again from the journal beside the pictures.

    Example: imgpro rebuild --help
    """
