"""How log lines look: text for people and the journal, JSON for machines. No line breaks from outside, no secrets.

Every line names the request that it belongs to.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any, Final

from imgpro.cli.log_writer import LogWriter
from imgpro.flows.log_lines import Level, LogLine, LogLines
from imgpro.ids import REQUEST
from imgpro.settings import Log
from imgpro.web.access import AccessLog

STDERR: Final = 2
MAX_TRACEBACK_CHARS: Final = 20_000  # the journal cuts longer lines
# What others write at their lowest level is for their authors, and shows what they were called with.
OWN_LOGGERS: Final = ("imgpro", "root")


class Logs:
    """Where the log goes. One for the process that serves."""

    def __init__(self, settings: Log) -> None:
        self.lines = LogLines()
        self._writer = LogWriter(STDERR)
        self._journal = is_journal()
        self._handler = logging.StreamHandler(self._writer)
        self._handler.addFilter(_is_meant)
        keep = _Keep(self.lines)
        keep.addFilter(_is_meant)
        root = logging.getLogger()
        root.handlers[:] = [self._handler, keep]
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
        self.apply(settings)

    def apply(self, settings: Log) -> None:
        """Write in this form from now on, and what is severe enough."""
        formatter: logging.Formatter = _JsonLines() if wants_json(settings) else _TextLines(with_time=not self._journal)
        self._handler.setFormatter(_WithPriority(formatter) if self._journal else formatter)
        logging.getLogger().setLevel(settings.level.upper())

    def access(self, settings: Log) -> AccessLog:
        """Return where requests are noted, in the same form."""
        return AccessLog(as_json=wants_json(settings), stream=self._writer, journal=self._journal)

    def close(self) -> None:
        """Wait, but not long, until all lines are written."""
        self._writer.close()


def set_up_logging(settings: Log) -> Logs:
    """Send the log to standard error in the wanted form; its last lines are kept in memory."""
    return Logs(settings)


def wants_json(settings: Log) -> bool:
    """Tell whether lines are JSON: by setting, or because nobody reads along."""
    if settings.format == "auto":
        return not (sys.stderr is not None and sys.stderr.isatty()) and not is_journal()
    return settings.format == "json"


def is_journal() -> bool:
    """Tell whether standard error leads to systemd's journal: the variable alone is inherited by much that does not."""
    try:
        found = os.fstat(STDERR)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def in_one_line(text: str) -> str:
    """Return a text without anything that could end its line, move a cursor or turn letters round."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _is_meant(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.INFO or record.name.partition(".")[0] in OWN_LOGGERS


class _Keep(logging.Handler):
    def __init__(self, lines: LogLines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = in_one_line(record.getMessage())
            if record.exc_info:
                text = "\n".join((text, *_traceback(record)))
        except Exception:  # noqa: BLE001 - as the library has it: a bad line ends nothing
            self.handleError(record)
        else:
            self._lines.add(LogLine(record.created, _level(record.levelno), record.name, text, REQUEST.get()))


def _level(number: int) -> Level:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"


def _traceback(record: logging.LogRecord) -> Iterator[str]:
    """Yield the lines of a traceback; what an exception says may hold anything from outside."""
    assert record.exc_info
    text = logging.Formatter().formatException(record.exc_info)
    if len(text) > MAX_TRACEBACK_CHARS:
        half = MAX_TRACEBACK_CHARS // 2
        text = f"{text[:half]}\n[...]\n{text[-half:]}"
    for line in text.split("\n"):
        yield in_one_line(line)


class _TextLines(logging.Formatter):
    """One line of text; a traceback follows, indented, so that no line of it passes for one of ours."""

    def __init__(self, *, with_time: bool) -> None:
        super().__init__()
        self._with_time = with_time

    def format(self, record: logging.LogRecord) -> str:
        stamp = f"{self.formatTime(record, '%H:%M:%S')} " if self._with_time else ""
        request = f" (request {REQUEST.get()})" if REQUEST.get() else ""
        line = f"{stamp}{record.levelname} {record.name}: {in_one_line(record.getMessage())}{request}"
        if not record.exc_info:
            return line
        return "\n    ".join((line, *_traceback(record)))


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if REQUEST.get():
            fields["request_id"] = REQUEST.get()
        if record.exc_info:
            fields["exception"] = "\n".join(_traceback(record))
        return json.dumps(fields)


class _WithPriority(logging.Formatter):
    """What the journal sorts by: `journalctl -p warning`. It takes each line for an entry of its own."""

    _PRIORITIES: Final = {"error": 3, "warning": 4, "info": 6, "debug": 7}

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{self._PRIORITIES[_level(record.levelno)]}>"
        return "\n".join(mark + line for line in self._inner.format(record).split("\n"))
