"""How log lines look: text for people and the journal, JSON for machines. No line breaks from outside, no secrets."""

import json
import logging
import os
import sys

from imgpro.flows.log_lines import Level, LogLine, LogLines
from imgpro.settings import Log


def wants_json(settings: Log) -> bool:
    """Tell whether lines are JSON: by setting, or because nobody reads along."""
    if settings.format == "auto":
        return not sys.stderr.isatty() and "JOURNAL_STREAM" not in os.environ
    return settings.format == "json"


def set_up_logging(settings: Log) -> LogLines:
    """Send the log to standard error in the wanted form; return its last lines, kept in memory."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if wants_json(settings) else _TextLines())
    root = logging.getLogger()
    lines = LogLines()
    root.handlers[:] = [handler, _Keep(lines)]
    root.setLevel(settings.level.upper())
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    return lines


class _Keep(logging.Handler):
    def __init__(self, lines: LogLines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.exc_info:
                text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
        except Exception:  # noqa: BLE001 - as the library has it: a bad line ends nothing
            self.handleError(record)
        else:
            self._lines.add(LogLine(record.created, _level(record.levelno), record.name, text))


def _level(number: int) -> Level:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"


class _TextLines(logging.Formatter):
    def __init__(self) -> None:
        stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
        super().__init__(stamp + "%(levelname)s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.exc_info else text.replace("\n", " ").replace("\r", " ")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)
