"""A clock of a server's own: the true time and as many seconds as a test says, at any moment. Needs a C compiler."""

import email.utils
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest

from tests.servers import ROOT, Server

SLACK_S = 60


def clock_library(folder: Path) -> Path:
    """Compile the library that moves a program's clocks; skips where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    made = folder / "wall_clock.so"
    source = ROOT / "tests/crash/wall_clock.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(source)], check=True)
    return made


class Clock:
    """What a server takes for the time: the true one and so many seconds."""

    def __init__(self, folder: Path, library: Path, ahead_s: int = 0) -> None:
        self._file = folder / "ahead"
        self._library = library
        self._write(ahead_s)

    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "CLOCK_AHEAD_FILE": str(self._file)}

    def _write(self, ahead_s: int, gone_s: int = 0) -> None:
        file = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.pwrite(file, struct.pack("=qq", ahead_s, gone_s), 0)
        finally:
            os.close(file)

    def set(self, server: Server, ahead_s: int) -> None:
        """Set the wall clock alone, and see that the server goes by it."""
        self._write(ahead_s)
        self._check(server, ahead_s)

    def let_pass(self, server: Server, ahead_s: int) -> None:
        """Let so much time have gone by since the beginning: every clock is that far ahead."""
        self._write(ahead_s, ahead_s)
        self._check(server, ahead_s)

    def _check(self, server: Server, ahead_s: int) -> None:
        said = email.utils.parsedate_to_datetime(server.get("/healthz").headers["Date"]).timestamp()
        assert abs(said - time.time() - ahead_s) < SLACK_S, "the server's clock was not moved"
