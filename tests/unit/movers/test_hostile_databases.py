"""Databases that somebody tampered with: a sentence or fewer pictures, never a traceback, never a file from elsewhere."""

import random
import sqlite3
from pathlib import Path

import pytest

from imgpro.errors import SourceUnusable
from imgpro.movers.chevereto import Chevereto
from imgpro.movers.found import Found
from imgpro.movers.lychee import Lychee
from imgpro.movers.picsur import Picsur
from imgpro.movers.xbackbone import XBackBone
from imgpro.movers.zipline import Zipline

DATABASES = Path(__file__).resolve().parents[2] / "data" / "moving"
ROUNDS = 60
CASES = {
    "zipline/zipline-4.sql": Zipline,
    "zipline/zipline-4-export.json": Zipline,
    "zipline/zipline-3-export.json": Zipline,
    "chevereto/chevereto-4.sql": Chevereto,
    "xbackbone/xbackbone-mysql.sql": XBackBone,
    "lychee/lychee-7-postgres.sql": Lychee,
    "picsur/picsur.sql": lambda files, database: Picsur(database),
}
WORDS = [
    b"\\N",
    b"\t",
    b"\n",
    b"\\.",
    b"'",
    b"\\",
    b"(",
    b")",
    b",",
    b";",
    b"NULL",
    b"../",
    b"\x00",
    b"\xff",
    b'"',
    b"{",
]


@pytest.mark.parametrize("name", CASES)
def test_tampered_with(tmp_path, name):
    files = tmp_path / "files"
    for inside in ("a1B2c3.png", "2024/05/01/beach.jpg", "a1B/RoMiNa.png", "original/ab/cd/0123456789abcdef.jpg"):
        (files / inside).parent.mkdir(parents=True, exist_ok=True)
        (files / inside).write_bytes(b"x")
    whole = (DATABASES / name).read_bytes()
    chance = random.Random(name)
    database = tmp_path / "dump"
    outcomes = set()
    for _ in range(ROUNDS):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(data) or 1)
            end = at + chance.choice((0, 1, 5, 400, len(data)))
            data[at:end] = chance.choice(WORDS) * chance.choice((0, 1, 3))
        database.write_bytes(data)
        outcomes.add(read_whole(CASES[name](files, database), files))
    assert {"read", "refused"} <= outcomes


def read_whole(source, files):
    try:
        for each in source.read():
            if isinstance(each, Found):
                assert not each.path or Path(each.path).is_relative_to(files.resolve())
                for _ in each.pieces() if each.pieces else ():
                    pass
    except SourceUnusable:
        return "refused"
    return "read"


def test_values_of_every_type_and_of_any_length_in_sqlite(tmp_path):
    path = tmp_path / "host.db"
    with sqlite3.connect(path) as conn:
        conn.executescript((DATABASES / "xbackbone" / "xbackbone-sqlite.sql").read_text())
        odd = [1, 2.5, b"\xff\x00", "x" * 3_000_000, None, "\ud7ff", "a\x1fb"]
        conn.execute("DELETE FROM uploads")
        rows = [(1, str(number), value, value, value, value) for number, value in enumerate(odd) if value is not None]
        conn.executemany(
            "INSERT INTO uploads (user_id, code, filename, storage_path, published, timestamp) VALUES (?,?,?,?,?,?)",
            rows,
        )
        conn.execute("UPDATE users SET user_code = CAST(x'ff2e2e2f' AS TEXT), username = x'00ff'")
    conn.close()
    found = list(XBackBone(tmp_path, path).read())
    assert len(found) == len(rows)
    assert not any(isinstance(each, Found) for each in found)
