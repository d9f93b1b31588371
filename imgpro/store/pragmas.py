"""How each connection to the database is set up, and why. Knows no table."""

from typing import Final

BUSY_TIMEOUT_MS: Final = 10_000

# Why only the writer ever checkpoints. SQLite 3.7.0 to 3.51.2 (Debian 12 has 3.40.1) can lose committed pages when
# one connection starts a checkpoint while another one commits a transaction that restarts the log: the checkpoint
# then publishes, for the new log, how far it had copied the old one, and a later checkpoint skips those frames
# (sqlite.org/wal.html, "The WAL-reset bug"; fixed in 3.51.3). It takes two connections, one that checkpoints and one
# that writes. Here both jobs belong to one connection in one thread, where they cannot overlap. The readers
# cannot checkpoint, by accident neither: they are opened `mode=ro`, which makes a checkpoint fail, also the one that
# SQLite attempts when the last connection is closed.
WRITER_PRAGMAS: Final = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",  # NORMAL loses acknowledged rows at a power cut
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -32000",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA secure_delete = ON",  # what is deleted is overwritten; Debian's SQLite does so anyway, others do not
    "PRAGMA wal_autocheckpoint = 0",  # the writer does it itself, after the callers have their answers
)
READER_PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
    "PRAGMA query_only = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16000",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA wal_autocheckpoint = 0",
)
