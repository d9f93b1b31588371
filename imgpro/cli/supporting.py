"""`imgpro support-bundle`: what a person who helps needs to know, and nothing that is secret."""

import contextlib
import io
import os
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from imgpro.cli.disk import fault
from imgpro.cli.options import config_option, data_option
from imgpro.cli.words import hint
from imgpro.errors import Action, OperatorError
from imgpro.sources import gather

_README: Final = """\
What somebody needs to see who helps with this imgpro. Look through it before you send it.

There are no pictures in it, and no keys, passwords or links. Mail addresses, network addresses, hosts, names of
pictures, tags and people are replaced by stand-ins; the same stand-in is the same thing throughout. What cannot be
recognised by a program may still be there: paths that you chose, or words in the log.

"""


@click.command("support-bundle")
@click.option("--to", metavar="FILE", help="Where to put it; - for standard output. Else into this directory.")
@data_option
@config_option
def support_bundle(to: str | None, data: str | None, config: Path | None) -> None:
    """Gather what a person who helps needs: versions, settings, checks, counts, the end of the log.

    No pictures, names, addresses, keys or links. Works with the server down and the configuration broken.

    Example: imgpro support-bundle --to bundle.tar.gz
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = f"imgpro-support-{stamp}"
    path = None if to == "-" else Path(to or f"{folder}.tar.gz")
    if path is not None and path.exists():
        raise OperatorError(f"{path} is there already.", Action("fix", label="--to another file"))
    from imgpro.cli.bundle import Bundle  # loads the decoders, to tell their versions

    parts = Bundle(gather({"storage.data": data}, config), os.environ).parts()
    words = _README + "\n".join(f"{part.name:<15} {part.about}" for part in parts) + "\n"
    content = _packed(folder, [("README.txt", words), *((part.name, part.text) for part in parts)])
    listing = [f"{part.name:<15} {len(part.text.encode()):>8,} bytes  {part.about}" for part in parts]
    if path is None:
        sys.stdout.buffer.write(content)
        for line in listing:
            hint(line)
        return
    _write(path, content)
    click.echo(path)
    for line in listing:
        click.echo(f"  {line}")
    hint(f"Look before you send it: tar -xzf {path}")


def _packed(folder: str, files: Sequence[tuple[str, str]]) -> bytes:
    """Return a .tar.gz of text files that says nothing of who made it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, text in files:
            body = text.encode("utf-8", "backslashreplace")
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode, entry.mtime = len(body), 0o644, int(time.time())
            tar.addfile(entry, io.BytesIO(body))
    return file.getvalue()


def _write(path: Path, content: bytes) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise fault(error, f"writing {path}") from error
    try:
        with open(fd, "wb") as file:
            file.write(content)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise fault(error, f"writing {path}") from error
