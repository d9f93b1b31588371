"""`imgpro support-bundle`: what a person who helps needs to know, and nothing that is secret."""

import click


@click.command("support-bundle")
def support_bundle() -> None:
    """Under construction."""
