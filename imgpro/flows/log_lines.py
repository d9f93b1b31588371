"""The last lines of the log, in memory, for the operator's page. Holds what whoever writes the log hands on."""

import contextlib
from collections import deque
from typing import Final, Literal

import msgspec

MAX_LINES: Final = 500
MAX_CHARS: Final = 2_000  # of one line, so that all of them together stay small

Level = Literal["debug", "info", "warning", "error"]


class LogLine(msgspec.Struct, frozen=True):
    """One line: when (Unix seconds), how severe, which part of the program, its words, and for which request."""

    at_s: float
    level: Level
    name: str
    text: str
    request_id: str = ""

    @property
    def grave(self) -> bool:
        """Tell whether it is a warning or worse."""
        return self.level in ("warning", "error")


class LogLines:
    """A bounded tail. May be added to from any thread: that is one operation on a deque."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque(maxlen=MAX_LINES)

    def add(self, line: LogLine) -> None:
        """Take a line; the oldest one goes when there are too many."""
        if len(line.text) > MAX_CHARS:
            # The end of a traceback says what went wrong.
            half = MAX_CHARS // 2
            line = msgspec.structs.replace(line, text=f"{line.text[:half]} [...] {line.text[-half:]}")
        self._lines.append(line)

    def forget(self, words: str) -> None:
        """Drop the lines that have these words."""
        for line in tuple(self._lines):
            if words in line.text:
                with contextlib.suppress(ValueError):
                    self._lines.remove(line)

    def newest(self, *, grave_only: bool = False) -> list[LogLine]:
        """Return the lines, the newest first."""
        found = [line for line in tuple(self._lines) if line.grave or not grave_only]
        return found[::-1]
