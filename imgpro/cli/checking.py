"""`imgpro check`: hold database, originals and cache against each other."""

import click


@click.command("check")
def check() -> None:
    """Hold database, originals and cache against each other.

    Example: imgpro check --help
    """
