"""`imgpro export`: write pictures as files with their names, an index, and a gallery that opens from disk."""

import click


@click.command("export")
def export_pictures() -> None:
    """Write pictures as files with their names, an index, and a gallery that opens from disk.

    Example: imgpro export --help
    """
