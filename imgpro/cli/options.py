"""Options that many commands share."""

from pathlib import Path

import click

from imgpro.sources import Loaded, default_data_dir

config_option = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file with settings [env: IMGPRO_CONFIG]."
)
data_option = click.option("--data", metavar="DIR", help="Data directory [env: IMGPRO_DATA].")


def data_dir(loaded: Loaded) -> Path:
    """Return the data directory in force."""
    chosen = loaded.settings.storage.data
    return Path(chosen).expanduser() if chosen else default_data_dir()
