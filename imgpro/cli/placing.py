"""What `imgpro service install` puts onto the disk besides units: the program, and a data directory of the right owner.

Raises OperatorError, DataDirMissing and StorageFault for a person to read.
"""

import contextlib
import filecmp
import os
import pwd
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from imgpro import frozen, units
from imgpro.cli import reaching, systemd
from imgpro.cli.words import note
from imgpro.errors import Action, DataDirMissing, OperatorError, StorageFault
from imgpro.settings import Settings
from imgpro.store.known import FOLDER as KNOWN_FOLDER
from imgpro.store.layout import DATABASE_NAME, OWN_NAMES, REPLACED

PROGRAM: Final = Path(units.PROGRAM)
FOLDER: Final = Path("/usr/local/lib/imgpro")
# Where a package of the distribution keeps its units: those are the package's to change.
_PACKAGE_UNITS: Final = (Path("/usr/lib/systemd/system") / units.SERVICE, Path("/lib/systemd/system") / units.SERVICE)
# Directories that belong to the system, and those that no longer hold after the next start of it.
_NO_DATA_IN: Final = ("/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/tmp", "/usr")  # noqa: S108
_NO_DATA_AT: Final = ("/", "/home", "/media", "/mnt", "/opt", "/root", "/srv", "/var", "/var/lib", "/var/cache")


class Program(msgspec.Struct, frozen=True):
    """The program that a service starts: its words, and what has to be put into their place."""

    words: tuple[str, ...]
    source: Path | None = None  # a file or a folder to copy; None where it stays where it is
    packaged: bool = False  # its units come with it, from a package


def this_program() -> Program:
    """Return how a service would start this very program. Raises OperatorError where a package stands in the way."""
    words = tuple(frozen.command())
    by_package = is_packaged()
    own = Path(sys.executable).resolve()
    if frozen.is_frozen() and own.is_relative_to("/usr") and not own.is_relative_to("/usr/local"):
        return Program(words, packaged=by_package)
    if by_package:
        raise OperatorError(
            "imgpro is installed here as a package, whose service this would be in the way of.",
            Action("fix", label="sudo apt install ./imgpro_*.deb, then: sudo imgpro service install --data DIR"),
        )
    if not frozen.is_frozen():
        return Program(words)
    source = own if frozen.unpacked() is not None else own.parent
    return Program((units.PROGRAM,), None if own in (PROGRAM, FOLDER / own.name) else source)


def is_packaged() -> bool:
    """Tell whether a package brought the units."""
    return any(path.exists() for path in _PACKAGE_UNITS)


@contextlib.contextmanager
def staged(program: Program) -> Iterator[tuple[tuple[str, ...], Callable[[], bool]]]:
    """Copy the program beside its place; yield words that start the copy, and a function that moves it into place.

    That one returns whether anything is different from before. Whoever runs meanwhile has either the old or the new.
    """
    source = program.source
    if source is None:
        yield program.words, lambda: False
        return
    target = FOLDER if source.is_dir() else PROGRAM
    new = target.with_name(f".{target.name}.new")
    with _reported(f"copying the program to {target}"):
        _remove(new)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, new, symlinks=True)
        else:
            shutil.copyfile(source, new)
            _sync(new)
        new.chmod(0o755)
    try:
        yield (str(new / Path(sys.executable).name if source.is_dir() else new),), lambda: _move(new, target)
    finally:
        _remove(new)


def _move(new: Path, target: Path) -> bool:
    with _reported(f"replacing {target}"):
        if new.is_dir():
            old = target.with_name(f".{target.name}.old")
            _remove(old)
            if target.exists():
                target.rename(old)
            new.rename(target)
            _remove(old)
            link = PROGRAM.with_name(f".{PROGRAM.name}.new")
            _remove(link)
            link.symlink_to(target / Path(sys.executable).name)
            link.rename(PROGRAM)
            return True
        if target.is_file() and not target.is_symlink() and filecmp.cmp(new, target, shallow=False):
            return False
        new.rename(target)
        _sync(target.parent)
    return True


def remove_program() -> None:
    """Take the program away, where `staged` has put it."""
    with _reported("removing the program"):
        if PROGRAM.is_symlink() and not PROGRAM.resolve().is_relative_to(FOLDER):
            return  # somebody else's
        _remove(PROGRAM)
        _remove(FOLDER)


def check_data_path(path: Path) -> None:
    """Raise OperatorError for a place that cannot be a data directory of a service."""
    real = Path(os.path.realpath(path))
    if any(real.is_relative_to(place) for place in (*_NO_DATA_IN, "/var/tmp")) or str(real) in _NO_DATA_AT:  # noqa: S108
        raise OperatorError(
            f"{path} belongs to the system; pictures need a directory of their own that lasts.",
            Action("fix", label="--data /srv/img"),
        )


def make_data_directory(path: Path, user: pwd.struct_passwd) -> None:
    """Make `path` if it is not there, and the user's if it is empty.

    Raises DataDirMissing for one with other content, OperatorError for one whose content is somebody else's, and
    StorageFault.
    """
    with _reported(f"making {path}"):
        try:
            held = reaching.opened(path, make=True)
        except NotADirectoryError:
            raise DataDirMissing(
                f"{path} is not a directory.", Action("fix", label="name another with --data")
            ) from None
        try:
            check_data_path(reaching.path_of(held))
            _make_own(held, path, user)
        finally:
            os.close(held)
    if not _may_write(path, user):
        raise OperatorError(
            f"The user {user.pw_name} cannot write to {path}: a directory above it is closed to others, or its disk "
            "is mounted read-only.",
            Action("fix", label=f"namei -l {path}"),
        )


def backups_of(settings: Settings) -> PurePosixPath | None:
    """Return the directory that backups go to, where the settings name one outside the data directory."""
    to = settings.backup.to.strip()
    return PurePosixPath(to) if to.startswith("/") else None


def make_backup_directory(settings: Settings, user: pwd.struct_passwd) -> None:
    """Make the last part of the directory that backups go to; say where the service could not write to it.

    It stops nothing: pictures are served without backups, and a disk for them may not be there at the moment.
    """
    found = backups_of(settings)
    if found is None:
        return
    path = Path(found)
    try:
        _make_and_give(path, user)
    except FileExistsError:
        pass
    except OperatorError as problem:
        note(f"{path}, where backups go, was not made: {problem.message}")
        return
    except FileNotFoundError:
        note(f"{path.parent}, where backups go, is not there: mount it, then `sudo imgpro service install` again")
        return
    except OSError as error:
        note(f"{path}, where backups go, cannot be made: {error.strerror}")
        return
    if not _may_write(path, user):
        note(f"backups will fail: the user {user.pw_name} cannot write to {path}: sudo chown {user.pw_name}: {path}")


def _make_and_give(path: Path, user: pwd.struct_passwd) -> None:
    """Make a directory for the user. Whoever owns the one above may put another thing in its place meanwhile."""
    above = reaching.opened(path.parent)
    try:
        os.mkdir(path.name, 0o700, dir_fd=above)
        made = os.open(path.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    finally:
        os.close(above)
    try:
        if not os.listdir(made):
            os.fchown(made, user.pw_uid, user.pw_gid)
    finally:
        os.close(made)


def _make_own(held: int, path: Path, user: pwd.struct_passwd) -> None:
    names = sorted(set(os.listdir(held)) - {"lost+found"})
    if not names:
        os.fchown(held, user.pw_uid, user.pw_gid)
    elif not is_ours(names):
        raise DataDirMissing(
            f"{path} is not empty and was not made by imgpro.",
            Action("fix", label="name an empty or new directory with --data"),
        )
    else:
        _check_owner(path, names, user)


def is_ours(names: Collection[str]) -> bool:
    """Tell by the names in a directory whether it is a data directory, or holds the database of one."""
    return "FORMAT" in names or DATABASE_NAME in names


def _check_owner(path: Path, names: list[str], user: pwd.struct_passwd) -> None:
    for found in (path, *(path / name for name in names)):
        if found.lstat().st_uid != user.pw_uid:
            raise OperatorError(
                f"{found} belongs to {_name_of(found.lstat().st_uid)}, and the service runs as {user.pw_name}.",
                Action("fix", label=f"sudo chown -R {user.pw_name}: {path}"),
            )


def empty_data_directory(path: Path) -> list[str]:
    """Delete what imgpro keeps in a data directory, and the directory if nothing else was in it; return what was."""
    with _reported(f"emptying {path}"):
        try:
            held = reaching.opened(path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            names = os.listdir(held)
            for name in names if is_ours(names) else ():
                if name in OWN_NAMES or name.startswith((DATABASE_NAME, REPLACED)):
                    _remove_from(held, name)
            left = sorted(set(os.listdir(held)) - {"lost+found"})
        finally:
            os.close(held)
    if not left:
        with contextlib.suppress(OSError):  # a disk is mounted at it
            path.rmdir()
    return [str(path / name) for name in left]


def forget_data_directories(path: Path) -> None:
    """Delete from the service's own directory what it remembered of data directories."""
    with _reported(f"emptying {path}"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        held = reaching.opened(path)
        try:
            _remove_from(held, KNOWN_FOLDER)
        finally:
            os.close(held)


def _remove_from(held: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=held)
    except IsADirectoryError:
        shutil.rmtree(name, dir_fd=held)


def find_user() -> pwd.struct_passwd | None:
    """Return the user that the service runs as, None where there is none yet."""
    try:
        return pwd.getpwnam(units.USER)
    except KeyError:
        return None


def make_user(file: Path) -> pwd.struct_passwd:
    """Return the user that the service runs as, made from a file of sysusers.d. Raises OperatorError."""
    done = systemd.run("systemd-sysusers", str(file))
    user = find_user()
    if user is None or user.pw_uid == 0:
        raise OperatorError(
            f"The user {units.USER} could not be made: {done.stderr.strip() or 'it is root'}.",
            Action("fix", label=f"sudo useradd --system --home-dir {units.STATE_DIRECTORY} {units.USER}"),
        )
    return user


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _may_write(path: Path, user: pwd.struct_passwd) -> bool:
    """Tell whether the user can, by being it for a moment. Homes are looked into from inside the service only."""
    if units.is_in_a_home(PurePosixPath(path)):
        return True
    child = os.fork()
    if child == 0:
        good = False
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            good = os.access(path, os.W_OK | os.X_OK)
        os._exit(0 if good else 1)
    return os.waitpid(child, 0)[1] == 0


def write(path: Path, text: str, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> bool:
    """Write a file of the system at once as a whole; return whether it was different before. Raises StorageFault.

    Nobody sees more of it on the way than afterwards. `owner`: user and group.
    """
    with _reported(f"writing {path}"):
        with contextlib.suppress(FileNotFoundError):
            if path.read_text() == text:
                return False
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(text)
            os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
        _sync(new)
        new.rename(path)
    return True


def remove(path: Path) -> None:
    """Remove a file, a link or a folder; nothing there is fine. Raises StorageFault."""
    with _reported(f"removing {path}"):
        _remove(path)


@contextlib.contextmanager
def _reported(deed: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise StorageFault(
            f"{deed[0].upper()}{deed[1:]} failed: {error.strerror or error}{where}.",
            Action("fix", label="look at the disk: df, mount"),
        ) from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
