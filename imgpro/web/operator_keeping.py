"""How the operator's page shows whether pictures are kept well, and the buttons that begin a backup or a trial."""

import contextlib
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.errors import OperatorError, ValidationError
from imgpro.flows.errands import Report
from imgpro.flows.keeping import Kept
from imgpro.forms import show_bytes
from imgpro.web import respond
from imgpro.web.operator_door import OperatorDoor

# What a button asks for: the errand, and what the page says when it has begun.
WORK: Final[Mapping[str, str]] = {"backup": "backup-create", "verify": "backup-verify"}
_DOING: Final = {
    "backup-create": "Backing up",
    "backup-verify": "Trying the newest backup out",
    "scrub": "Reading originals again",
}


class KeepingPart:
    """The part of the operator's page, and its form at `/operator/backups`."""

    def __init__(self, appliance: Appliance, door: OperatorDoor) -> None:
        self._appliance = appliance
        self._door = door

    def routes(self) -> list[web.RouteDef]:
        """Return the route of the form."""
        return [web.post("/operator/backups", self.post)]

    async def post(self, request: web.Request) -> web.Response:
        """Begin a backup, or trying the newest one out."""
        _, form = await self._door.sent(request)
        wanted = form.get("do", "")
        if wanted not in WORK:
            raise ValidationError("Choose to back up, or to try the newest backup out.")
        with contextlib.suppress(OperatorError):  # it is being done already, and the page shows how far it is
            self._appliance.errands.start(WORK[wanted], {})
        return respond.see_other("../operator#backups")

    async def shown(self) -> dict[str, Any]:
        """Return what the template needs."""
        kept = await self._appliance.keeping.look()
        under_way = [report for kind in _DOING if (report := self._appliance.errands.under_way(kind)) is not None]
        return {
            "kept": kept,
            "there": _there(kept, self._appliance.settings.backup.keep),
            "under_way": [_progress(report) for report in under_way],
            "last": _last(kept),
        }


def _progress(report: Report) -> dict[str, Any]:
    show = show_bytes if report.unit == "bytes" else "{:,}".format
    words = report.stage
    if report.total:
        words = f"{words}, {show(report.done)} of {show(report.total)}".lstrip(", ")
    return {
        "kind": report.kind,
        "doing": _DOING[report.kind],
        "words": words,
        "done": min(report.done, report.total),
        "total": report.total,
    }


def _there(kept: Kept, keep: int) -> str:
    """Return how many there are after older ones have gone, and how many are kept."""
    run = kept.backups.run
    count = run.details.get("kept") if run is not None else None
    if count is None:
        return f"{keep} are kept"
    return f"{min(count, keep)} of at most {keep} are there"


def _last(kept: Kept) -> str:
    """Return in words what the last backup holds."""
    run = kept.backups.run
    if run is None or "images" not in run.details:
        return ""
    images, size, new = (run.details.get(name, 0) for name in ("images", "bytes", "new_bytes"))
    pictures = "1 picture" if images == 1 else f"{images:,} pictures"
    return f"{pictures}, {show_bytes(size)}; {show_bytes(new) if new else 'nothing'} of it was new"
