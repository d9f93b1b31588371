"""Small public pictures in memory, by the very path they are asked for with.

A hit here answers a request with one dictionary look-up: access was judged when the entry was made, and an
entry is dropped in the same step as the record it came from. Only canonical paths are keys, so that unknown
query parameters cannot fill the memory.
"""

from collections import OrderedDict

from imgpro.model import Image


class HotPicture:
    """The body and what its headers need. `expires_ms` is 0 for a picture without an end.

    `ready` belongs to whoever answers: the headers it made last and the second they were made in, since most
    of them are the same from one hit to the next.
    """

    __slots__ = ("body", "content_type", "etag", "expires_ms", "image_id", "ready", "ready_s")

    def __init__(self, body: bytes, content_type: str, etag: str, image_id: str, expires_ms: int) -> None:
        self.body = body
        self.content_type = content_type
        self.etag = etag
        self.image_id = image_id
        self.expires_ms = expires_ms
        self.ready: object = None
        self.ready_s = -1


class HotPictures:
    """A byte-bounded LRU of ready answers."""

    def __init__(self, max_bytes: int, max_item_bytes: int) -> None:
        self._bytes = 0
        self._pictures: OrderedDict[str, HotPicture] = OrderedDict()
        self._paths: dict[str, set[str]] = {}
        self.resize(max_bytes, max_item_bytes)

    def resize(self, max_bytes: int, max_item_bytes: int) -> None:
        """Take other bounds; what is beyond them goes, the oldest first."""
        self.max_item_bytes = min(max_item_bytes, max_bytes)
        self._max_bytes = max_bytes
        while self._bytes > self._max_bytes:
            self._discard(next(iter(self._pictures)))

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies held now."""
        return self._bytes

    def get(self, path: str) -> HotPicture | None:
        """Return the entry for a raw request path and make it the most recent."""
        hot = self._pictures.get(path)
        if hot is not None:
            self._pictures.move_to_end(path)
        return hot

    def put(self, path: str, image: Image, body: bytes, content_type: str, etag: str) -> None:
        """Keep an answer if the picture is public and the body small enough."""
        if not image.public or len(body) > self.max_item_bytes:
            return
        self._discard(path)
        self._pictures[path] = HotPicture(body, content_type, etag, image.id, image.expires_ms or 0)
        self._paths.setdefault(image.id, set()).add(path)
        self._bytes += len(body)
        while self._bytes > self._max_bytes:
            self._discard(next(iter(self._pictures)))

    def forget(self, image_id: str) -> None:
        """Drop everything of one image, at once."""
        for path in tuple(self._paths.get(image_id, ())):
            self._discard(path)

    def clear(self) -> None:
        """Drop everything, after a change that concerns many images."""
        for path in tuple(self._pictures):
            self._discard(path)

    def _discard(self, path: str) -> None:
        hot = self._pictures.pop(path, None)
        if hot is None:
            return
        self._bytes -= len(hot.body)
        paths = self._paths[hot.image_id]
        paths.discard(path)
        if not paths:
            del self._paths[hot.image_id]


def canonical_path(image_id: str, extension: str, size: str) -> str:
    """Return the raw path under which a picture may be kept, e.g. `/t/AbC.webp?size=m`."""
    return f"/t/{image_id}.{extension}" + (f"?size={size}" if size != "o" else "")
