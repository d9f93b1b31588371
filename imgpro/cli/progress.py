"""One line on a terminal that says how long work goes on, and is gone afterwards."""

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, Self

import click

from imgpro.forms import show_bytes

WIDTH: Final = 24
EVERY_S: Final = 0.1


class ProgressLine:
    """Draws how an errand stands on standard error, if that is a terminal, for the length of a `with`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._stage = ""
        self._began_s = self._drawn_s = 0.0
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._draw("")

    def __call__(self, report: Mapping[str, Any]) -> None:
        """Show how it stands."""
        now_s = time.monotonic()
        if report["stage"] != self._stage:
            self._stage, self._began_s, self._drawn_s = report["stage"], now_s, 0.0
        if self._shown and now_s - self._drawn_s >= EVERY_S:
            self._drawn_s = now_s
            self._draw(_words(report, now_s - self._began_s))

    def clear(self) -> None:
        """Take the line away before something else is said; the next report draws it again."""
        self._draw("")

    def _draw(self, text: str) -> None:
        if not self._shown or (not text and not self._width):
            return
        columns = shutil.get_terminal_size().columns - 1
        text = text[:columns]
        click.echo("\r" + text.ljust(self._width) + ("\r" if not text else ""), nl=False, err=True)
        self._width = len(text)


def _words(report: Mapping[str, Any], seconds: float) -> str:
    done, total = report["done"], report["total"]
    show = show_bytes if report["unit"] == "bytes" else "{:,}".format
    if not total:
        return f"{report['stage']}  {show(done)}" if done else report["stage"]
    share = min(1.0, done / total)
    bar = ("#" * round(share * WIDTH)).ljust(WIDTH, ".")
    words = f"{report['stage']}  {bar}  {show(done)} of {show(total)}"
    if seconds > 2 and 0 < share < 1:
        words += f", {_span(seconds / share - seconds)} left"
    return words


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
