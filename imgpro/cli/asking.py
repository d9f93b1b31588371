"""`imgpro health`: is the server there; for containers and timers."""

import click


@click.command("health")
def health() -> None:
    """Under construction."""
