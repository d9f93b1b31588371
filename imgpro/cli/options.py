"""Options that many commands share."""

import os
from pathlib import Path

import click
import platformdirs

from imgpro.errors import Action, ConfigError, TargetFault
from imgpro.forms import without_login
from imgpro.sense import wrong_with_place
from imgpro.sources import Loaded, default_data_dir
from imgpro.store.known import KnownData

config_option = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file with settings [env: IMGPRO_CONFIG]."
)
data_option = click.option("--data", metavar="DIR", help="Data directory [env: IMGPRO_DATA].")


def data_dir(loaded: Loaded) -> Path:
    """Return the data directory in force."""
    chosen = loaded.settings.storage.data
    return Path(chosen).expanduser() if chosen else default_data_dir()


def known_data(data: Path) -> KnownData | None:
    """Return what this machine remembers of a data directory; None where it can keep nothing outside of it.

    In the service's own directories, else in the user's. A home directory that is not there is not made.
    """
    root = Path(os.path.abspath(data))
    for name in ("STATE_DIRECTORY", "CACHE_DIRECTORY"):
        folder = Path(os.environ.get(name, "").split(":")[0])
        if folder.is_absolute() and not folder.is_relative_to(root):
            return KnownData(folder, root)
    if os.environ.get("STATE_DIRECTORY"):
        return None
    folder = Path(platformdirs.user_state_dir("imgpro", appauthor=False))
    known = "XDG_STATE_HOME" in os.environ or Path("~").expanduser().is_dir()
    return KnownData(folder, root) if known and not folder.is_relative_to(root) else None


def whole_place(place: str | None) -> str | None:
    """Return a place as a server in another directory understands it."""
    if place is None:
        return None
    if wrong := wrong_with_place(place):
        raise ConfigError(
            f"{without_login(place)} {wrong.partition('; ')[0]}.",
            Action("fix", label=(wrong.partition("; ")[2] or "name a directory, or s3://bucket/folder").capitalize()),
        )
    if place.startswith("s3://"):
        return place
    if not place.strip():
        raise TargetFault("The place for backups is empty.", Action("fix", label="Name a directory"))
    return os.path.abspath(Path(place).expanduser())
