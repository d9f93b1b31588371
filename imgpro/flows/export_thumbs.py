"""Small pictures for the gallery of an export: from the cache where it has one, else made by a worker.

Every browser shows them, and they stand still. Knows neither the database nor who asks.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from imgpro.errors import ImgproError
from imgpro.flows.export_index import Exported
from imgpro.imaging.pool import Pool
from imgpro.model import RenderJob
from imgpro.recipes import ALL, OutputFormat, Recipe, Size, resolve
from imgpro.store.export_folder import ExportFolder
from imgpro.store.flush import KeyedLocks

ORIGINAL: Final = "original"
NAME_CHARS: Final = 24  # of a digest: enough to tell apart all that one export can hold
_THUMBS: Final = "gallery/thumbs"
_VIEWS: Final = "gallery/views"  # large ones, of what browsers do not show themselves
_ENDINGS: Final = ("webp", "jpeg", "png")
_SHOWN: Final = frozenset({"jpeg", "png", "gif", "webp", "svg", "bmp", "ico"})  # by every browser
_SELDOM_SHOWN: Final = frozenset({"heic"})
_SMALL_BYTES: Final = 100_000  # a picture of few pixels and bytes needs no smaller one
_AT_ONCE: Final = 2  # for each worker: one at work, one that waits


class Thumbs:
    """Makes small pictures. `original(digest)` is where the bytes of a picture lie, `cache` where derivatives do."""

    def __init__(
        self,
        folder: ExportFolder,
        original: Callable[[str], Path],
        cache: Path,
        pool: Pool,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._folder = folder
        self._original = original
        self._cache = cache
        self._pool = pool
        self._threads = threads
        self._making = KeyedLocks()
        self._places = asyncio.Semaphore(pool.status().wanted * _AT_ONCE)

    def there(self, picture: Exported) -> str | None:
        """Return what shows a picture in small: an ending, or ORIGINAL. None: it has to be made. Blocking."""
        if picture.format == "svg":
            return ORIGINAL
        smaller = resolve(ALL["webp", "s"], picture.format, picture.width, picture.height)
        is_small = smaller is None or smaller.size == "o"
        if is_small and picture.frames == 1 and picture.format in _SHOWN and picture.bytes <= _SMALL_BYTES:
            return ORIGINAL
        return self._found(picture.digest, _THUMBS)

    def view_there(self, picture: Exported) -> str | None:
        """Return the ending of what is shown in place of a picture; nothing for one that browsers show. Blocking."""
        return self._found(picture.digest, _VIEWS) if picture.format in _SELDOM_SHOWN else ""

    async def make(self, picture: Exported) -> str:
        """Put a small picture in place and return its ending; where none can be made, ORIGINAL or nothing."""
        made = await self._obtain(picture, _recipes(picture, "s"), _THUMBS)
        return made or (ORIGINAL if picture.format in _SHOWN else "")

    async def make_view(self, picture: Exported) -> str:
        """Put a large picture in place of one that browsers do not show; return its ending, or nothing."""
        return await self._obtain(picture, _recipes(picture, "l"), _VIEWS)

    def forget(self, digest: str) -> None:
        """Remove the small pictures of bytes that the export holds no more. Blocking."""
        for folder in (_THUMBS, _VIEWS):
            for ending in _ENDINGS:
                if self._folder.look(_path(digest, ending, folder)) is not None:
                    self._folder.remove(_path(digest, ending, folder))

    def _found(self, digest: str, folder: str) -> str | None:
        for ending in _ENDINGS:
            found = self._folder.look(_path(digest, ending, folder))
            if found is not None and found.st_size:
                return ending
        return None

    async def _obtain(self, picture: Exported, recipes: list[Recipe], folder: str) -> str:
        """Put one in place, from the cache or made now, and return its ending; nothing if neither is possible."""
        run = partial(asyncio.get_running_loop().run_in_executor, self._threads)
        async with self._making.hold(picture.digest):  # several pictures may have the same bytes
            if there := await run(self._found, picture.digest, folder):
                return there
            found = await run(self._cached, picture.digest, recipes)
            if found is None and recipes:
                found = recipes[0], await self._made(picture, recipes[0])
            if found is None or not found[1]:
                return ""
            ending = found[0].format
            await run(self._folder.write, _path(picture.digest, ending, folder), found[1])
        return ending

    def _cached(self, digest: str, recipes: list[Recipe]) -> tuple[Recipe, bytes] | None:
        for recipe in recipes:
            with contextlib.suppress(OSError):
                path = self._cache / digest[:2] / digest / recipe.key
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                with open(fd, "rb") as file:
                    if data := file.read():
                        return recipe, data
        return None

    async def _made(self, picture: Exported, recipe: Recipe) -> bytes:
        async with self._places:
            try:
                source = os.open(self._original(picture.digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                return b""
            out = os.memfd_create("imgpro", os.MFD_CLOEXEC)
            try:
                made = await self._pool.render(source, out, RenderJob(format=picture.format, recipe=recipe))
                return os.pread(out, made.length, 0)
            except ImgproError:
                return b""
            finally:
                os.close(source)
                os.close(out)


def _path(digest: str, ending: str, folder: str) -> str:
    return f"{folder}/{digest[:2]}/{digest[:NAME_CHARS]}.{ending}"


def _recipes(picture: Exported, size: Size) -> list[Recipe]:
    """Return the recipes that would do, the one to make first. A film stands still only as JPEG or PNG."""
    formats: tuple[OutputFormat, ...]
    if picture.frames > 1:
        formats = ("png", "jpeg") if picture.has_alpha else ("jpeg", "png")
    else:
        formats = ("webp", "jpeg", "png") if size == "s" or picture.has_alpha else ("jpeg", "webp", "png")
    found = [resolve(ALL[kind, size], picture.format, picture.width, picture.height) for kind in formats]
    return list(dict.fromkeys(recipe for recipe in found if recipe is not None))
