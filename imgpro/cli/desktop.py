"""The desktop that a command runs on, as far as it lets itself be used: clipboard and notifications."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from imgpro.frozen import system_environment

DEADLINE_S: Final = 5.0


def copy(text: str, environ: Mapping[str, str] | None = None) -> bool:
    """Put text on the clipboard by the first program that can; False if none does."""
    env = os.environ if environ is None else environ
    return any(_run(command, text, env) for command in _clipboards(env))


def notify(title: str, text: str, environ: Mapping[str, str] | None = None) -> bool:
    """Show a notification; False if this desktop has none."""
    return _run(["notify-send", "--app-name=imgpro", "--", title, text], "", os.environ if environ is None else environ)


def _clipboards(env: Mapping[str, str]) -> Iterator[Sequence[str]]:
    if env.get("WAYLAND_DISPLAY"):
        yield ["wl-copy"]
    if env.get("DISPLAY"):
        yield ["xclip", "-selection", "clipboard"]
        yield ["xsel", "--clipboard", "--input"]
    yield ["pbcopy"]
    yield ["clip.exe"]


def _run(command: Sequence[str], text: str, env: Mapping[str, str]) -> bool:
    program = shutil.which(command[0], path=env.get("PATH"))
    if program is None:
        return False
    try:
        # Clipboard programs stay behind to serve what they hold: with a pipe of ours they would hold us up too.
        done = subprocess.run(  # noqa: S603  # a program of the user's own path, its arguments as they are
            [program, *command[1:]],
            input=text.encode(),
            env=system_environment(env),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
