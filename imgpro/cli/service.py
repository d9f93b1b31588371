"""`imgpro service`: make this program a service of systemd, look at it, take it away."""

import click


@click.group("service")
def service() -> None:
    """Under construction."""
