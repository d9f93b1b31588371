"""The work behind `imgpro backup restore`: locks, what is there already, and a restore that was broken off.

Loads all that it needs when it is loaded itself: its process may become another user afterwards.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from imgpro.cli.options import known_data
from imgpro.cli.words import note
from imgpro.errors import StorageFull
from imgpro.sources import Loaded
from imgpro.store import layout, restoring, swapping
from imgpro.store.known import KnownData
from imgpro.store.quiet_threads import Stop
from imgpro.store.repository import Repository
from imgpro.store.schema import packaged_migrations
from imgpro.store.swapping import Swap
from imgpro.store.targets import target_of

_SERVICE_FOLDERS: Final = (Path("/var/lib/imgpro"), Path("/var/cache/imgpro"))

Show = Callable[[dict[str, Any]], None]


class RestoreWork:
    """One restore into the data directory at `root`, from `place` or where the settings say."""

    def __init__(self, loaded: Loaded, root: Path, place: str | None) -> None:
        self._root = root
        self._home = Path(os.path.abspath(Path(loaded.settings.storage.database_dir or root).expanduser()))
        self._target = target_of(loaded.settings.backup, root, place)
        self._repository = Repository(self._target)
        self._supported = packaged_migrations()[-1].version

    def rehearse(self, name: str | None, show: Show) -> dict[str, Any]:
        """Say what `restore` would do. Raises BackupUnusable, DataDirMissing, DataUnusable, TargetFault."""
        with contextlib.closing(self._target), tempfile.TemporaryDirectory(prefix="imgpro-") as scratch:
            holds = restoring.holds_data(self._root, self._home)
            found, manifest = self._repository.find(name)
            done = self._work(show, fast=True).rehearse(found, manifest, Path(scratch))
            return {**msgspec.to_builtins(done), "place": self._repository.place, "replaces": holds}

    def restore(self, name: str | None, show: Show, *, force: bool, fast: bool) -> dict[str, Any]:
        """Restore a backup by name, else the newest; one that was broken off half-way in is brought to its end first.

        Raises BackupUnusable, DataDirLocked, DataDirMissing, DataUnusable, TargetFault, StorageFull, StorageFault, and
        OperatorError where something is there and `force` was not said.
        """
        with contextlib.ExitStack() as held:
            held.enter_context(contextlib.closing(self._target))
            swap = swapping.under_way(self._root)
            if swap is not None:
                held.enter_context(layout.held(self._root, Path(swap.home)))
                return _go_on(self._root, swap)
            if restoring.holds_data(self._root, self._home) and not force:
                raise restoring.refuse_what_is_there(self._root)
            found, manifest = self._repository.find(name)
            held.enter_context(self._target.lock("reading", shared=True))
            held.enter_context(layout.held(self._root, self._home))
            with self._told_of_leftovers():
                done = self._work(show, fast=fast).restore(found, manifest)
            _remember(self._root, manifest.instance_id)
            return {**msgspec.to_builtins(done), "place": self._repository.place}

    def _work(self, show: Show, *, fast: bool) -> restoring.Restoring:
        return restoring.Restoring(
            self._repository, self._root, self._home, self._supported, Stop(), _teller(show), fast=fast
        )

    @contextlib.contextmanager
    def _told_of_leftovers(self) -> Iterator[None]:
        try:
            yield
        except StorageFull:
            for folder in {self._root, self._home}:  # on a full disk it would be in everybody's way
                swapping.clear_stage(folder)
            raise
        except BaseException:
            stage = self._root / layout.STAGE
            if stage.exists() and swapping.under_way(self._root) is None:
                note(f"What was fetched lies in {stage}; the same command goes on from there.")
            raise


def _go_on(root: Path, swap: Swap) -> dict[str, Any]:
    asides = swapping.finish(root, swap)
    _remember(root, layout.read_marker(root).instance_id)
    return {
        "backup": swap.backup,
        "place": swap.place,
        "missing_blobs": swap.missing,
        "missing": [],
        "replaced": [str(aside) for aside in asides],
    }


def _teller(show: Show) -> Callable[[str, int], None]:
    report: dict[str, Any] = {"stage": "", "done": 0, "total": 0, "unit": ""}

    def tell(stage: str, count: int) -> None:
        if stage:
            report.update(stage=stage, done=0, total=count)
        else:
            report["done"] += count
        show(report)

    return tell


def _remember(root: Path, instance_id: str) -> None:
    """Where this machine remembers another instance at this path, it is told: this one was put there on purpose."""
    memories = [known_data(root), *(KnownData(folder, root) for folder in _SERVICE_FOLDERS)]
    for memory in memories:
        if memory is not None and memory.instance_id() is not None:
            memory.remember(instance_id)
