"""What `imgpro doctor` says of backups and of originals that were read again. Looks only, and asks no other machine."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from imgpro.cli.verdict import Check, State
from imgpro.flows.backup_runs import LATE_S
from imgpro.flows.keeping import show_time
from imgpro.forms import without_login
from imgpro.settings import Backup
from imgpro.sources import Loaded
from imgpro.store import census
from imgpro.store.layout import DATABASE_NAME
from imgpro.store.queries_keeping import Run


def keeping_checks(loaded: Loaded, data: Path) -> Iterator[Check]:
    """Yield a line each for backups, trying them out, and the originals; none where there is no database yet."""
    database = Path(loaded.settings.storage.database_dir or data).expanduser() / DATABASE_NAME
    try:
        runs, damaged, began_ms = census.last_runs(database)
    except OSError:
        return  # another line says why
    yield _backup(loaded.settings.backup, data, runs.get("backup"), began_ms)
    if (trial := runs.get("verify")) is not None:
        state: State = "red" if trial.failed else "green"
        yield Check("verify", state, f"{show_time(trial.ended_ms or trial.began_ms)}: {trial.message or 'under way'}")
    yield _originals(runs.get("scrub"), damaged)


def _backup(settings: Backup, data: Path, run: Run | None, began_ms: int) -> Check:
    made_ms = run.details.get("made_ms") if run is not None else None
    where = without_login(settings.to) or "the data directory"
    if run is not None and run.failed:
        return Check("backup", "red", f"{run.message} Try: imgpro backup create")
    late = settings.daily and time.time() - (made_ms or began_ms) / 1000 > LATE_S
    words = f"the last one {show_time(made_ms)}, to {where}" if made_ms else f"none yet; they go to {where}"
    if late:
        return Check("backup", "red", f"{words}: a daily one is missing. Try: imgpro backup create")
    if not settings.daily:
        words += "; none is made by itself (backup.daily)"
    if _same_disk(settings, data):
        words += "; on the same disk as the pictures, so not against a broken disk: backup.to names another place"
    return Check("backup", "green" if settings.daily or made_ms else "yellow", words)


def _same_disk(settings: Backup, data: Path) -> bool:
    if not settings.to:
        return True
    try:
        return not settings.to.startswith("s3://") and os.stat(settings.to).st_dev == os.stat(data).st_dev
    except OSError:
        return False


def _originals(scrub: Run | None, damaged: int) -> Check:
    if damaged:
        some = "one is" if damaged == 1 else f"{damaged:,} are"
        return Check("originals", "red", f"{some} damaged or missing: imgpro scrub names them, and looks in backups")
    whole_ms = scrub.details.get("whole_round_ms") if scrub is not None else None
    read = f"all read again {show_time(whole_ms)}" if whole_ms else "not all of them have been read again yet"
    return Check("originals", "green", f"no damage known; {read}")
