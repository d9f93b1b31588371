"""What an import tells: a line of JSON for each picture, and in words what was left out and why."""

import json
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any, Final, Literal, Self

import click

from imgpro.cli.taking_over import Taking
from imgpro.cli.words import hint, note
from imgpro.errors import Action, DoneInPart, OperatorError

Outcome = Literal["brought", "would_bring", "there", "left_out"]

MAX_REASONS: Final = 40
MAX_NAMES: Final = 5
MAX_SHOWN_CHARS: Final = 200


class Report:
    """Counts, writes and names, from any thread; for the length of a `with`. Raises OperatorError, DoneInPart."""

    def __init__(self, taking: Taking) -> None:
        self._taking = taking
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        self._reasons: dict[str, list[str]] = {}
        self._reason_counts: dict[str, int] = {}
        self.counts: dict[Outcome, int] = dict.fromkeys(("brought", "would_bring", "there", "left_out"), 0)
        self.changed = self.twins = 0

    def __enter__(self) -> Self:
        if self._taking.report is not None:
            try:
                self._file = self._taking.report.open("w", 1, encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                raise OperatorError(f"{self._taking.report} cannot be written: {error.strerror}.") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def done(self) -> int:
        """How many pictures nothing more is to be done about."""
        return sum(self.counts.values())

    def brought(self, item: str, image_id: str, notes: Sequence[str]) -> None:
        """Take note of one that is stored."""
        self._tell("brought", item, notes, id=image_id)

    def would_bring(self, item: str, notes: Sequence[str], *, twin: bool) -> None:
        """Take note of one that nothing is known against."""
        with self._lock:
            self.twins += twin
        self._tell("would_bring", item, notes, **({"same_bytes": True} if twin else {}))

    def there(self, item: str, image_id: str) -> None:
        """Take note of one that had come before."""
        self._tell("there", item, (), id=image_id)

    def left_out(self, item: str, reason: str) -> None:
        """Take note of one that does not come."""
        with self._lock:
            kept = reason if reason in self._reasons or len(self._reasons) < MAX_REASONS else "For other reasons."
            self._reason_counts[kept] = self._reason_counts.get(kept, 0) + 1
            names = self._reasons.setdefault(kept, [])
            if len(names) < MAX_NAMES:
                names.append(item)
        self._tell("left_out", item, (), reason=reason)

    def finish(self) -> None:
        """Say how it went. Raises DoneInPart where something was left out."""
        counts, dry = self.counts, self._taking.dry_run
        words = [f"{counts['would_bring']:,} would be brought" if dry else f"{counts['brought']:,} brought"]
        words += [f"{counts['there']:,} there already"] if counts["there"] else []
        words += [f"{counts['left_out']:,} left out"] if counts["left_out"] else []
        words += [f"{self.changed:,} changed to fit"] if self.changed else []
        words += [f"{self.twins:,} of them with the bytes of another"] if self.twins else []
        said = "pictures: " + ", ".join(words)
        if self._taking.as_json:
            click.echo(json.dumps({"summary": {**counts, "changed": self.changed}}))
            hint(said)
        else:
            click.echo(said)
        if self.changed and self._taking.report is None and not self._taking.as_json:
            hint("--report FILE tells what was changed.")
        if counts["left_out"]:
            self._name_left_out()

    def break_off(self) -> None:
        """Say how far it came."""
        stored = (
            f"{self.counts['brought']:,} pictures were brought" if not self._taking.dry_run else "nothing was stored"
        )
        note(f"broken off: {stored}; the same command goes on where it was")

    def _name_left_out(self) -> None:
        for reason, names in self._reasons.items():
            count = self._reason_counts[reason]
            more = f" and {count - len(names):,} more" if count > len(names) else ""
            note(f"left out: {', '.join(map(_short, names))}{more}: {reason}")
        given = self._taking.report is not None or self._taking.as_json
        raise DoneInPart(
            f"{self.counts['left_out']:,} of {self.done:,} files and pictures were left out.",
            None
            if given
            else Action("fix", label="--report FILE to have all of them named, with --dry-run if need be"),
        )

    def _tell(self, outcome: Outcome, item: str, notes: Sequence[str], **more: Any) -> None:
        line = json.dumps({"item": item, "outcome": outcome, **more, **({"notes": list(notes)} if notes else {})})
        with self._lock:
            self.counts[outcome] += 1
            self.changed += bool(notes)
            if self._file is not None:
                self._file.write(line + "\n")
            if self._taking.as_json:
                click.echo(line)


def _short(item: str) -> str:
    return item if len(item) <= MAX_SHOWN_CHARS else f"{item[:MAX_SHOWN_CHARS]}…"
