"""What readers of hosts with a database have in common: it is staged when first needed, and forgotten when read."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from imgpro.movers.found import Found, LeftOut
from imgpro.movers.host_database import HostDatabase


class HostSource(ABC):
    """A `Source`; `pictures` is the staged table that is counted."""

    pictures: ClassVar[str]

    def __init__(self, name: str) -> None:
        self.name = name
        self._held: HostDatabase | None = None

    def count(self) -> int | None:
        """Return how many rows there are of pictures. Raises SourceUnusable."""
        return self._database().count(self.pictures)

    def read(self) -> Iterator[Found | LeftOut]:
        """Yield every picture. Raises SourceUnusable."""
        database = self._database()
        try:
            yield from self._found(database)
        finally:
            database.close()
            self._held = None

    def _database(self) -> HostDatabase:
        if self._held is None:
            self._held = self._open()
        return self._held

    @abstractmethod
    def _open(self) -> HostDatabase:
        """Stage the database. Raises SourceUnusable."""

    @abstractmethod
    def _found(self, database: HostDatabase) -> Iterator[Found | LeftOut]:
        """Yield every picture."""
