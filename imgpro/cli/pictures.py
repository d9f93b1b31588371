"""Files to be sent: found and looked at before the first request, read piece by piece while they go out."""

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from imgpro.errors import Action, OperatorError

MAX_SPOOLED_BYTES: Final = 1_073_741_824  # of what has no length before it ends
SPOOL_CHUNK_BYTES: Final = 262_144
CONTENT_TYPES: Final = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), "image/jpeg"),
    **{kind: f"image/{kind}" for kind in ("png", "gif", "webp", "avif", "heic", "heif", "bmp")},
    "svg": "image/svg+xml",
    "ico": "image/x-icon",
}


class PictureChanged(OperatorError):
    """A file is no longer what it was when its sending began."""


class Picture(msgspec.Struct, frozen=True):
    """A file that is to be sent. `label` is what messages call it, `name` what the server is told.

    `spooled` holds the bytes of what is no file on the disk; all others are opened by `path`.
    """

    path: str
    label: str
    name: str
    size: int
    spooled: BinaryIO | None = None

    @property
    def content_type(self) -> str:
        """What the extension promises; the server looks for itself."""
        return CONTENT_TYPES.get(extension(self.path), "application/octet-stream")

    def close(self) -> None:
        """Let go of what was spooled."""
        if self.spooled is not None:
            self.spooled.close()

    def chunks(self, chunk_bytes: int) -> Iterator[bytes]:
        """Yield the file's bytes, exactly `size` of them. Raises PictureChanged."""
        try:
            fd = (
                os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                if self.spooled is None
                else os.dup(self.spooled.fileno())
            )
        except OSError as error:
            raise PictureChanged(f"It can no longer be read: {error.strerror}.") from None
        try:
            at = 0
            while at < self.size:
                # By position: a second try reads the same spooled file from its beginning.
                chunk = os.pread(fd, min(chunk_bytes, self.size - at), at)
                if not chunk:
                    raise PictureChanged("It became shorter while it was sent.", Action("fix", label="Send it again"))
                at += len(chunk)
                yield chunk
        except OSError as error:
            raise PictureChanged(f"It can no longer be read: {error.strerror}.") from None
        finally:
            os.close(fd)


def extension(path: str) -> str:
    """Return the extension of a file's name, in lower case, without the dot."""
    return os.path.splitext(path)[1][1:].lower()


def is_picture_name(name: str) -> bool:
    """Tell whether a file is a picture by its name, and not hidden."""
    return not name.startswith(".") and extension(name) in CONTENT_TYPES


def gather(arguments: Sequence[str], *, recursive: bool, name: str | None, standard_input: BinaryIO) -> list[Picture]:
    """Return what the arguments name, in their order; `-` is standard input, a folder all pictures in it.

    Raises OperatorError for the first that cannot be read: nothing is sent before all were found.
    """
    pictures: list[Picture] = []
    for argument in arguments:
        if argument == "-":
            pictures.append(_spool(standard_input, "standard input", name or ""))
        elif os.path.isdir(argument):
            pictures += _in_folder(argument, recursive=recursive)
        else:
            pictures.append(_look(argument, name))
    return pictures


def open_picture(path: str, name: str | None = None) -> Picture:
    """Return a file of this size now. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return Picture(path, shown(path), name or shown(os.path.basename(path)), os.fstat(fd).st_size)
    finally:
        os.close(fd)


def shown(path: str) -> str:
    """Return a path as text, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", "replace")


def _look(argument: str, name: str | None) -> Picture:
    try:
        if not stat.S_ISREG(os.stat(argument).st_mode):
            with Path(argument).open("rb") as stream:
                return _spool(stream, shown(argument), name or "")
        picture = open_picture(argument, name)
    except FileNotFoundError:
        raise OperatorError(f"There is no file {shown(argument)}. Nothing was sent.") from None
    except OSError as error:
        raise OperatorError(f"{shown(argument)} cannot be read: {error.strerror}. Nothing was sent.") from None
    if not picture.size:
        raise OperatorError(f"{shown(argument)} is empty. Nothing was sent.")
    return picture


def _in_folder(folder: str, *, recursive: bool) -> list[Picture]:
    if not recursive:
        raise OperatorError(
            f"{shown(folder)} is a folder.",
            Action("fix", label="--recursive to send all pictures in it, or --watch for those to come"),
        )
    found: list[str] = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(where, name) for name in sorted(names) if is_picture_name(name)]
    if not found:
        raise OperatorError(f"There are no pictures in {shown(folder)}.")
    return [_look(path, None) for path in found]


def _spool(stream: BinaryIO, label: str, name: str) -> Picture:
    """Keep what comes out of a pipe in a file without a name, so that it can be sent twice and has a length."""
    spooled = tempfile.TemporaryFile()  # noqa: SIM115  # closed by the picture
    size = 0
    while chunk := stream.read(SPOOL_CHUNK_BYTES):
        size += len(chunk)
        if size > MAX_SPOOLED_BYTES:
            break
        spooled.write(chunk)
    spooled.flush()
    if 0 < size <= MAX_SPOOLED_BYTES:
        return Picture("", label, name, size, spooled)
    spooled.close()
    raise OperatorError(
        f"More than 1 GB came from {label}. Nothing was sent." if size else f"Nothing came from {label}."
    )
