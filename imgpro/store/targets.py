"""Which place for backups a setting or an option means."""

import os
from pathlib import Path
from typing import Final

from imgpro import frozen
from imgpro.errors import Action, TargetFault
from imgpro.settings import Backup
from imgpro.store.target import Target
from imgpro.store.target_directory import DirectoryTarget

S3_SCHEME: Final = "s3://"
OWN_FOLDER: Final = "repository"  # in `backups/` of the data directory


def target_of(settings: Backup, data: Path, place: str | None = None) -> Target:
    """Return the target at `place` (as on the command line), else where the settings say; `data` is the data directory.

    Nothing is read or written yet. Raises TargetFault.
    """
    wanted = (place or settings.to).strip()
    if wanted.startswith(S3_SCHEME):
        return _object_store(wanted, settings)
    own = own_place(data)
    if not wanted:
        return DirectoryTarget(own, links=True)
    path = Path(os.path.abspath(Path(wanted).expanduser()))
    if path == own:
        return DirectoryTarget(own, links=True)
    if path.is_relative_to(data.absolute()):
        raise TargetFault(
            f"{path} lies in the data directory.",
            Action("fix", label=f"Name a directory elsewhere, or none: then backups go to {own}"),
        )
    return DirectoryTarget(path)


def own_place(data: Path) -> Path:
    """Return where backups go that lie in the data directory itself."""
    return data.absolute() / "backups" / OWN_FOLDER


def _object_store(wanted: str, settings: Backup) -> Target:
    try:
        frozen.unfold(frozen.OBJECT_STORES)
    except OSError as error:
        raise TargetFault(
            f"What talks to object stores cannot be unpacked: {error.strerror}.",
            Action("fix", label="Make room where TMPDIR leads"),
        ) from None
    try:
        from imgpro.store.target_s3 import S3Target  # its library is an extra
    except ImportError:
        raise TargetFault(
            f"{wanted} is an object store, and this imgpro was installed without what talks to them.",
            Action("fix", label="pip install 'imgpro[s3]', or name a directory"),
        ) from None
    target: Target = S3Target(wanted, settings)
    return target
