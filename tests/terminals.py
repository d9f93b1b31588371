"""People at a computer: a home, the command, and a real pseudo-terminal of a wanted size where one is wanted."""

import contextlib
import fcntl
import os
import pty
import random
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.load import small_png
from tests.servers import ROOT

DICE = random.Random(11)
IMGPRO = [sys.executable, "-m", "imgpro"]


class Person:
    """Somebody at a computer of their own: a home, pictures, and the command."""

    def __init__(self, home: Path) -> None:
        self.home = home
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("IMGPRO_", "XDG_"))}
        self.env = {
            **kept,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "PYTHONPATH": str(ROOT),
        }

    def run(self, *args: Any, env: Mapping[str, str] | None = None, **more: Any) -> "subprocess.CompletedProcess[Any]":
        """Run a command to its end, with nothing on standard input unless said otherwise."""
        more = {"text": True, **more}
        if "input" not in more:
            more["stdin"] = subprocess.DEVNULL
        return subprocess.run(
            [*IMGPRO, *args],
            env={**self.env, **(env or {})},
            cwd=self.home,
            capture_output=True,
            timeout=60,
            check=False,
            **more,
        )

    def picture(self, name: str, content: bytes | None = None) -> Path:
        """Put a file into the home; without `content` a picture like no other."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small_png(DICE) if content is None else content)
        return path

    @property
    def login_file(self) -> Path:
        return self.home / "config" / "imgpro" / "client.toml"


class AtTerminal:
    """A running command whose standard error (and input) is a terminal; its standard output is a pipe or that, too."""

    def __init__(self, process: "subprocess.Popen[bytes]", fd: int) -> None:
        self.process = process
        self._fd = fd
        self.screen = b""

    @property
    def text(self) -> str:
        return self.screen.decode("utf-8", "replace").replace("\r\n", "\n")

    def read(self, seconds: float = 0.1) -> bool:
        """Take in what the command shows; False once it has closed the terminal."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return True
        try:
            more = os.read(self._fd, 65_536)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.screen += more
        return bool(more)

    def read_until(self, shown: Callable[[str], bool], timeout_s: float = 30.0) -> bool:
        """Take in what is shown until it is what is waited for."""
        deadline = time.monotonic() + timeout_s
        while not shown(self.text):
            if time.monotonic() > deadline or not self.read():
                return shown(self.text)
        return True

    def write(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def finish(self, timeout_s: float = 60.0) -> tuple[int, str]:
        """Wait for the end; return the exit code and what came on standard output, if that is a pipe."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read()
        while select.select([self._fd], [], [], 0.1)[0] and self.read():
            pass
        if self.process.poll() is None:
            self.process.kill()  # it did not end: reading on would wait for ever
        out = self.process.stdout.read().decode() if self.process.stdout else ""
        return self.process.wait(5), out


def heed_signals() -> None:
    """Let Ctrl+C end this process, as for a person: whoever runs the tests in the background ignores it."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _sit_down() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    heed_signals()


@contextlib.contextmanager
def at_terminal(
    command: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    *,
    rows: int = 24,
    columns: int = 100,
    stdout: bool = False,
) -> Iterator[AtTerminal]:
    """Start a command at a terminal of its own; with `stdout` its output goes there, too."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        command,
        env={"TERM": "xterm-256color", **env},
        cwd=cwd,
        stdin=theirs,
        stderr=theirs,
        stdout=theirs if stdout else subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_sit_down,
    )
    os.close(theirs)
    try:
        yield AtTerminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        if process.stdout:
            process.stdout.close()
