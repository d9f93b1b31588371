"""`imgpro import`: take pictures over from a folder, a list of addresses or another image host."""

import click


@click.group("import")
def import_pictures() -> None:
    """Take pictures over from a folder, a list of addresses or another image host.

    Example: imgpro import --help
    """
