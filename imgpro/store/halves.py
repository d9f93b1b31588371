"""Whether a data directory is all there: a part that is gone makes the others useless, or has them swept away."""

import shlex
from pathlib import Path

from imgpro.errors import Action, DataDirMissing, DataUnusable
from imgpro.store import journal_format


def check(root: Path, database: Path, key_file: Path, *, accept: bool, used: bool) -> None:
    """Refuse when a part is gone. `used`: a server has run on it, so that there has been a database.

    Raises DataDirMissing, DataUnusable. Changes nothing.
    """
    blobs = root / "blobs"
    if database.exists():
        if not blobs.is_dir():
            raise DataDirMissing(
                f"{blobs} is missing, but the database is there.",
                Action("fix", label="Mount the disk that holds the pictures, or restore them from a backup"),
            )
        if not key_file.exists() and not accept:
            raise DataUnusable(
                f"{key_file} is missing: every link that was signed with it would stop working.",
                Action("fix", label="Restore it from a backup. To go on with a new one: imgpro run --accept-data"),
            )
    elif blobs.is_dir() and any(blobs.iterdir()):
        raise DataUnusable(f"{database} is missing, but {blobs} holds pictures.", _way_back(root))
    elif used or (journal_format.is_there(root / "journal") and not accept):
        raise DataUnusable(
            f"{database} is missing, but was there at the last start.",
            Action("fix", label=f"Mount its disk. {_way_back(root).label}. To begin anew: imgpro run --accept-data"),
        )


def _way_back(root: Path) -> Action:
    here = shlex.quote(str(root))
    ways = [f"imgpro rebuild --data {here}"] if journal_format.is_there(root / "journal") else []
    ways += [f"imgpro backup restore --force --data {here}", "name the database's place with --db-dir"]
    return Action("fix", label=", or ".join(ways))
