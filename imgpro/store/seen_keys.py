"""Remembers which of very many numbers have been met, in a file without a name once memory does not do."""

import sqlite3
import threading
from typing import Final

from imgpro.errors import StorageFault

_CACHE_KIB: Final = 16_000


class SeenKeys:
    """A set of numbers of 64 bits that may outgrow memory. From any thread; to be closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._conn = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            self._conn.execute(f"PRAGMA {setting}")
        self._conn.execute("CREATE TABLE seen (key INTEGER PRIMARY KEY) STRICT")
        self._conn.execute("BEGIN")  # what is written need not survive anything

    def close(self) -> None:
        """Forget everything."""
        self._conn.close()

    def add(self, key: int) -> bool:
        """Take a number in, and return whether it is new. Raises StorageFault if there is no room."""
        try:
            with self._lock:
                return self._conn.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount > 0
        except sqlite3.Error as error:
            raise StorageFault(f"What was seen cannot be remembered: {error}. Is TMPDIR full?") from None
