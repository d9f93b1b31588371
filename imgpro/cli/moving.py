"""One import from beginning to end: read there, ask what is here already, send the rest a few at a time, tell."""

import json
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from imgpro.cli.moving_carrier import Body, Carrier, Refused
from imgpro.cli.moving_files import PictureFile
from imgpro.cli.moving_judge import Fitted, Judge, with_way_out
from imgpro.cli.moving_line import Line, Waiting
from imgpro.cli.moving_report import Report
from imgpro.cli.options import data_dir
from imgpro.cli.progress import ProgressLine
from imgpro.cli.taking_over import Taking
from imgpro.errors import OperatorError, SourceUnusable, StorageFault
from imgpro.movers.found import Found, LeftOut, Source
from imgpro.sources import load
from imgpro.store.seen_keys import SeenKeys

AT_ONCE: Final = 4
INTERRUPTED: Final = 130
BATCH: Final = 100
BATCH_BYTES: Final = 40_000  # of a question; the server reads 64 KB
SHOWN_CHARS: Final = 200
PAUSES_S: Final = (1.0, 3.0, 10.0, 30.0, 60.0)
LONGEST_PAUSE_S: Final = 300.0
_CHANGED: Final = "Its bytes are no longer those that were exported."
_LATER: Final = ("429", "503", "slowly")


class Stopped(BaseException):
    """The import was broken off. A BaseException, so that nothing takes it for a fault of the connection."""


def run(source: Source, taking: Taking) -> None:
    """Bring what a source has. Raises DoneInPart where something was left out, and what stops it."""
    loaded = load({"storage.data": taking.data}, taking.config)
    with Report(taking) as report, ProgressLine(quiet=taking.quiet) as show:
        try:
            with Carrier(loaded, data_dir(loaded)) as carrier:
                Moving(source, taking, carrier, report, show).go()
        except KeyboardInterrupt:
            show.clear()
            report.break_off()
            sys.exit(INTERRUPTED)
        except OperatorError:
            show.clear()
            if report.done:
                report.break_off()
            raise
        show.clear()
        report.finish()


class Moving:
    """An import under way: this thread reads and asks, others send."""

    def __init__(self, source: Source, taking: Taking, carrier: Carrier, report: Report, show: ProgressLine) -> None:
        self._source = source
        self._taking = taking
        self._carrier = carrier
        self._report = report
        self._show = show
        self._judge = Judge(source.name, taking, carrier.ask)
        self._line = Line()
        self._faults: list[BaseException] = []
        self._total = 0
        self._max_bytes = 0
        self._digests = SeenKeys()  # of what a dry run has seen
        self._links = SeenKeys()

    def go(self) -> None:
        """Do it. Raises what stops it."""
        self._judge.check_accounts()
        self._draw("counting")
        self._total = self._source.count() or 0
        # As daemons: whoever presses Ctrl+C does not wait for an answer.
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        try:
            for batch in batches(self._source.read()):
                self._ask_about(batch)
                self._draw()
                if self._faults:
                    break
            self._line.end()
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.1)
                self._draw()
        except BaseException:
            self._carrier.stopped.set()
            self._line.end(at_once=True)
            raise
        if self._faults:
            raise self._faults[0]

    def _draw(self, stage: str = "") -> None:
        words = stage or ("looking" if self._taking.dry_run else "bringing")
        self._show({"stage": words, "done": self._report.done, "total": self._total, "unit": ""})

    def _ask_about(self, batch: list[Found | LeftOut]) -> None:
        """Ask what of it is here already; put the rest into the line."""
        fitted: list[Fitted] = []
        for found in batch:
            result = self._judge.fit(found) if isinstance(found, Found) else found
            if isinstance(result, LeftOut):
                self._report.left_out(result.item, result.reason)
            else:
                fitted.append(result)
        if not fitted:
            return
        answer = self._carrier.ask(
            "bring-in-look", {"source": self._source.name, "items": [_asked(one) for one in fitted]}
        )
        self._max_bytes = answer["max_bytes"]
        if not answer["fetches"] and any(one.incoming.url for one in fitted):
            raise OperatorError("This server fetches no addresses: imports.enabled is off.")
        self._link([one for one, row in zip(fitted, answer["items"], strict=True) if row["there"]])
        for one, row in zip(fitted, answer["items"], strict=True):
            self._sort(one, row)

    def _link(self, there: list[Fitted]) -> None:
        """Have addresses lead to pictures that came before these were asked for."""
        asked = [_asked(one) for one in there if one.incoming.old_links]
        if asked and not self._taking.dry_run:
            self._carrier.ask("bring-in-links", {"source": self._source.name, "items": asked})

    def _sort(self, one: Fitted, row: dict[str, Any]) -> None:
        item, account = one.incoming.item, one.incoming.account
        if row["problem"] and not (account and self._judge.settle(account, row["problem"])):
            self._report.left_out(item, with_way_out(row["problem"]))
        elif row["there"]:
            self._report.there(item, row["there"])
        elif self._taking.dry_run:
            self._line.put(msgspec.structs.replace(one, notes=(*one.notes, *row["notes"], *self._twice(one))))
        else:
            self._line.put(one)

    def _twice(self, one: Fitted) -> Iterator[str]:
        """Yield what a dry run finds about addresses that two pictures claim."""
        for link in one.incoming.old_links:
            if not self._links.add(hash(link.path)):
                yield f"{link.path} leads to another picture already."

    # In the threads that send

    def _work(self) -> None:
        try:
            while (waiting := self._line.take()) is not None:
                if not self._settle(waiting):
                    self._line.done(waiting)
        except Stopped:
            pass
        except BaseException as fault:  # noqa: BLE001  # raised again where it is seen
            self._faults.append(fault)
            self._line.end(at_once=True)

    def _settle(self, waiting: Waiting) -> bool:
        """Bring one, or say why not; return whether it was put back."""
        one = waiting.fitted
        try:
            if self._taking.dry_run:
                self._rehearse(one)
            else:
                answer = self._bring(one)
                notes = (*one.notes, *answer["notes"])
                if answer["outcome"] == "there":
                    self._report.there(one.incoming.item, answer["id"])
                else:
                    self._report.brought(one.incoming.item, answer["id"], notes)
        except SourceUnusable as problem:
            self._report.left_out(one.incoming.item, problem.message)
        except Refused as problem:
            if problem.status == 507:
                raise StorageFault(problem.message) from None
            pause_s = _pause_s(problem, waiting.tries)
            if pause_s is not None:
                self._line.again(waiting, pause_s)
                return True
            self._report.left_out(one.incoming.item, problem.message)
        return False

    def _bring(self, one: Fitted) -> dict[str, Any]:
        if one.incoming.url:
            return self._carrier.bring(one.incoming, (0, lambda: ()))
        incoming = one.incoming
        if one.found.pieces is not None:
            pieces = one.found.pieces
            return self._carrier.bring(_dated(one), (None, lambda: self._watched(pieces())))
        with PictureFile(one.found.path) as file:
            self._look_at(file)
            if one.found.digest and file.digest() != one.found.digest:
                raise SourceUnusable(_CHANGED)
            incoming = _dated(one)
            body: Body = (file.size, lambda: self._watched(file.chunks()))
            return self._carrier.bring(incoming, body)

    def _rehearse(self, one: Fitted) -> None:
        twin = False
        if one.found.path:
            with PictureFile(one.found.path) as file:
                self._look_at(file)
                digest = file.digest()
                if one.found.digest not in ("", digest):
                    raise SourceUnusable(_CHANGED)
                twin = self._is_twin(one, digest)
        self._report.would_bring(one.incoming.item, one.notes, twin=twin)

    def _is_twin(self, one: Fitted, digest: str) -> bool:
        """Tell whether a picture of the same bytes is here, or came before in this source."""
        if not self._digests.add(int(digest[:15], 16)):
            return True
        item = {"item": one.incoming.item, "account": one.incoming.account, "digest": digest}
        row = self._carrier.ask("bring-in-look", {"source": self._source.name, "items": [item]})["items"][0]
        return bool(row["known"])

    def _look_at(self, file: PictureFile) -> None:
        """Raise SourceUnusable for what the server would not take, as far as a look at it tells."""
        if not file.size:
            raise SourceUnusable("The file is empty.")
        file.format()
        if file.size > self._max_bytes:
            raise SourceUnusable(f"It is larger than {self._max_bytes // 1_048_576} MB (uploads.max_bytes).")

    def _watched(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self._carrier.stopped.is_set():
                raise Stopped
            yield chunk


def batches(found: Iterable[Found | LeftOut]) -> Iterator[list[Found | LeftOut]]:
    """Yield what a source yields, some at a time: as many as one question may be about."""
    batch: list[Found | LeftOut] = []
    size = 0
    for one in found:
        weight = _weight(one)
        if weight > BATCH_BYTES:
            batch.append(LeftOut(one.item[:SHOWN_CHARS], "What is said of it is too long: its path, or its addresses."))
            continue
        if len(batch) >= BATCH or size + weight > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += weight
    if batch:
        yield batch


def _weight(one: Found | LeftOut) -> int:
    """Return how many bytes of a question a picture takes at most."""
    if isinstance(one, LeftOut):
        return 0
    texts = [one.item, one.id, one.digest, one.owner, *(link.path for link in one.old_links)]
    return sum(len(json.dumps(text)) + 40 for text in texts)


def _asked(one: Fitted) -> dict[str, Any]:
    incoming = one.incoming
    return {
        "item": incoming.item,
        "account": incoming.account,
        "id": incoming.id,
        "digest": one.found.digest,
        "links": [msgspec.structs.asdict(link) for link in incoming.old_links],
    }


def _dated(one: Fitted) -> Any:
    """Return what is said of a picture, with the date that its file tells."""
    created_ms = one.found.dated() if one.found.dated is not None else None
    return one.incoming if created_ms is None else msgspec.structs.replace(one.incoming, created_ms=created_ms)


def _pause_s(problem: Refused, tries: int) -> float | None:
    """Return how long to wait before another try, None where it makes no sense."""
    if tries >= len(PAUSES_S):
        return None
    if problem.error == "busy":
        return PAUSES_S[tries]
    if problem.details.get("answered") not in _LATER:
        return None
    pause_s = max(PAUSES_S[tries], float(problem.details.get("wait_s", "0")))
    return pause_s if pause_s <= LONGEST_PAUSE_S else None
