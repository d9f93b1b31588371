"""`imgpro retention`: rules by which pictures end."""

import click


@click.group("retention")
def retention() -> None:
    """Rules by which pictures end.

    Example: imgpro retention --help
    """
