"""Changing and deleting pictures by their owners, one or many, each on its own."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from imgpro.errors import ImgproError, NotFound, ValidationError
from imgpro.flows.events import Events
from imgpro.flows.hot import HotPictures
from imgpro.flows.keyring import still_usable
from imgpro.flows.quota import Quota, check_ability
from imgpro.flows.records import Records
from imgpro.flows.remove import Remove
from imgpro.ids import IMAGE_ID
from imgpro.model import Image, Principal
from imgpro.store import queries
from imgpro.store.db import Database
from imgpro.store.queries import Changes

MAX_BATCH: Final = 100


class Failed(msgspec.Struct, frozen=True):
    """One picture of a batch that could not be changed, and why."""

    id: str
    error: str
    message: str


class Change:
    """Changes and deletes what a principal owns."""

    def __init__(
        self, db: Database, records: Records, hot: HotPictures, remove: Remove, quota: Quota, events: Events
    ) -> None:
        self._db = db
        self._records = records
        self._hot = hot
        self._remove = remove
        self._quota = quota
        self._events = events

    async def image(self, principal: Principal, image_id: str, changes: Changes) -> Image:
        """Change one picture; from then on nothing shows it as it was.

        Raises Forbidden, NotFound, ValidationError.
        """
        check_ability(principal, "write")
        now_ms = time.time_ns() // 1_000_000

        def write(conn: Any) -> Image | None:
            now = still_usable(conn, principal)
            kept_s = self._quota.retention_s(now.account)
            return queries.update_image(conn, image_id, now, changes, now_ms, kept_s)

        try:
            image = await self._db.write(write)
        except ValueError as error:
            raise ValidationError(None, None, {"tags": str(error)}) from None
        finally:
            # Whatever came of it: after a failed commit the database is asked what is true.
            self._records.forget(image_id)
            self._hot.forget(image_id)
        if image is None:
            raise NotFound()
        self._events.changed(image)
        return image

    async def delete(self, principal: Principal, image_id: str) -> None:
        """Delete one picture; an operator may delete any. Raises Forbidden, NotFound."""
        check_ability(principal, "write")
        if not await self._remove.owned([image_id], principal):
            raise NotFound()

    async def images(
        self, principal: Principal, image_ids: Sequence[str], changes: Changes
    ) -> tuple[list[str], list[Failed]]:
        """Change many; return the ids of those that were, and the others with reasons."""
        return await self._each(image_ids, lambda image_id: self.image(principal, image_id, changes))

    async def delete_all(self, principal: Principal, image_ids: Sequence[str]) -> tuple[list[str], list[Failed]]:
        """Delete many; return the ids of those that were, and the others with reasons."""
        return await self._each(image_ids, lambda image_id: self.delete(principal, image_id))

    async def _each(
        self, image_ids: Sequence[str], work: Callable[[str], Awaitable[object]]
    ) -> tuple[list[str], list[Failed]]:
        done, failed = [], []
        for image_id in image_ids:
            try:
                await work(image_id)
                done.append(image_id)
            except ImgproError as problem:
                message = next(iter(problem.details.values()), problem.message)
                failed.append(Failed(image_id, problem.code, message))
        return done, failed


def parse_ids(raw: str) -> tuple[str, ...]:
    """Return the ids of a comma list, each once. Raises ValidationError for none, too many or something else."""
    ids = tuple(dict.fromkeys(part.strip() for part in raw.split(",") if part.strip()))
    if not ids:
        raise ValidationError(None, None, {"ids": "A comma list of picture ids is needed."})
    if len(ids) > MAX_BATCH:
        raise ValidationError(None, None, {"ids": f"At most {MAX_BATCH} pictures at once."})
    bad = next((item for item in ids if not IMAGE_ID.fullmatch(item)), None)
    if bad is not None:
        raise ValidationError(None, None, {"ids": "Each id has 12 letters and digits."})
    return ids
