"""Rows out of dumps: values with everything in them, long ones, and many."""

import json
import subprocess
import sys

import pytest

from imgpro.errors import SourceUnusable, StorageFault
from imgpro.movers.dump_mysql import MysqlDump
from imgpro.movers.dump_postgres import PostgresDump, unhex
from imgpro.movers.json_elements import elements
from imgpro.movers.rows import MAX_VALUE_CHARS
from imgpro.store.staged_rows import StagedRows
from tests.servers import ROOT

HEAD, END = b"-- PostgreSQL database dump\n", b"-- PostgreSQL database dump complete\n"


def taken(dump):
    found = {}
    for each in dump.tables():
        found.setdefault(each.table, []).extend(dict(zip(each.columns, row, strict=True)) for row in each.rows)
    return found


def postgres(tmp_path, text, *wanted, **options):
    path = tmp_path / "dump.sql"
    path.write_bytes(HEAD + text + END)
    return taken(PostgresDump(path, wanted, **options))


def mysql(tmp_path, text, *wanted):
    path = tmp_path / "dump.sql"
    path.write_bytes(text)
    return taken(MysqlDump(path, wanted))


def test_each_escape_of_copy(tmp_path):
    line = rb"\N" + b"\t" + rb"a\tb\nc\\d\101\x41\q" + b"\t\t" + rb"\\N" + b"\t" + "ö🏖".encode() + b"\n"
    found = postgres(tmp_path, b'COPY s."My ""t" (a, "B c", d, e, f) FROM stdin;\n' + line + b"\\.\n", 'my "t')
    assert found == {'my "t': [{"a": None, "b c": "a\tb\nc\\dAAq", "d": "", "e": "\\N", "f": "ö🏖"}]}


def test_copy_with_line_ends_of_windows_and_without_rows(tmp_path):
    found = postgres(tmp_path, b"COPY t (a, b) FROM stdin;\r\n1\t2\r\n\\.\r\nCOPY u (a) FROM stdin;\n\\.\n", "t", "u")
    assert found == {"t": [{"a": "1", "b": "2"}], "u": []}


def test_rows_that_nobody_wants_are_passed_over_however_long(tmp_path):
    other = b"COPY other (a) FROM stdin;\nCOPY t (a) FROM stdin;\n" + b"x" * 300_000 + b"\n\\.\n"
    assert postgres(tmp_path, other + b"COPY t (a) FROM stdin;\n1\n\\.\n", "t") == {"other": [], "t": [{"a": "1"}]}


def test_bytes_stay_in_the_dump_until_they_are_asked_for(tmp_path):
    data = bytes(range(256)) * 3_000
    rows = b"1\tx\t\\\\x" + data.hex().encode() + b"\n2\ty\t\\N\n3\tz\t\\\\x00ff\n"
    text = b"COPY files (id, kind, data) FROM stdin;\n" + rows + b"\\.\n"
    found = postgres(tmp_path, text, "files", bytes_of=("files", "data"))["files"]
    assert [row["kind"] for row in found] == ["x", "y", "z"]
    assert found[1]["data"] is None
    assert b"".join(unhex(tmp_path / "dump.sql", found[0]["data"], 1_000)) == data
    assert b"".join(unhex(tmp_path / "dump.sql", found[2]["data"])) == b"\x00\xff"
    with pytest.raises(SourceUnusable):
        list(unhex(tmp_path / "dump.sql", "0:20"))
    with pytest.raises(SourceUnusable, match="not the last column"):
        postgres(tmp_path, b"COPY files (data, id) FROM stdin;\n\\.\n", "files", bytes_of=("files", "data"))


TABLE = b"CREATE TABLE `t` (\n  `id` int(11) NOT NULL,\n  `Text` text COMMENT 'a `tick` (b)',\n  KEY `k` (`id`)\n) ENGINE=x;\n"


def test_each_escape_of_mysqldump_on_one_line_and_on_several(tmp_path):
    text = (
        TABLE + rb"INSERT INTO `t` VALUES (1,'it\'s \"q\" \\ \n\r\t\0\Z\b \% it''s'),(-2.5e3,NULL),(3,_binary 'b\0'),"
    )
    text += b"(4,0x41C3B6),\n(5,'last;(),'),\n  ( 6 , '' );\nINSERT INTO `t` (`Text`, `id`) VALUES ('x',7);\n"
    found = mysql(tmp_path, text, "t")["t"]
    assert [row["text"] for row in found] == [
        "it's \"q\" \\ \n\r\t\0\x1a\b % it's", None, "b\0", "A\u00f6", "last;(),", "", "x",
    ]  # fmt: skip
    assert [row["id"] for row in found] == ["1", "-2.5e3", "3", "4", "5", "6", "7"]


def test_phpmyadmin_and_tables_that_nobody_wants(tmp_path):
    text = b"-- phpMyAdmin SQL Dump\nCREATE TABLE IF NOT EXISTS `db`.`u` (\n  `a` int\n) ENGINE=x;\n"
    text += (
        b"INSERT INTO `u` (`a`) VALUES\n(1),\n(2);\n" + TABLE + b"INSERT INTO `t` (`id`, `Text`) VALUES\n(1, 'a'),\n"
    )
    text += b"(2, 'INSERT INTO `t` VALUES (9)');\n-- end\n"
    assert mysql(tmp_path, text, "t") == {
        "u": [],
        "t": [{"id": "1", "text": "a"}, {"id": "2", "text": "INSERT INTO `t` VALUES (9)"}],
    }


def test_values_longer_than_what_is_read_at_once(tmp_path):
    long = "\\'x".replace("\\", "\\\\") * 1_500_000
    rows = ",".join(f"({number},'{'y' * (number % 700)}')" for number in range(9_000))
    text = TABLE + f"INSERT INTO `t` VALUES (1,'{long.replace(chr(39), chr(92) + chr(39))}'),{rows};\n".encode()
    found = mysql(tmp_path, text, "t")["t"]
    assert len(found) == 9_001
    assert len(found[0]["text"]) > MAX_VALUE_CHARS  # it was cut, but not to less than what is kept
    assert [len(row["text"]) for row in found[1:]] == [number % 700 for number in range(9_000)]


def test_bytes_however_they_are_written(tmp_path):
    rows = rb"(1,x'41C3B6'),(2,_binary 0x42),(3,b'101'),(4,X''),(5,_utf8mb4'z'),(6,_binary '\'')"
    found = mysql(tmp_path, TABLE + b"INSERT INTO `t` VALUES " + rows + b";\r\n", "t")["t"]
    assert [row["text"] for row in found] == ["A\u00f6", "B", "5", "", "z", "'"]


def test_line_ends_of_windows_and_the_line_of_the_sandbox(tmp_path):
    text = b"/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19\n/*!40101 SET NAMES utf8mb4 */;\n"
    text += (
        TABLE + b"INSERT INTO `t` VALUES\n(1,'a\\r\\nb'),\n(2,'INSERT INTO `t` VALUES (9)');\n-- Dump completed on x\n"
    )
    found = mysql(tmp_path, text.replace(b"\n", b"\r\n"), "t")["t"]
    assert [row["text"] for row in found] == ["a\r\nb", "INSERT INTO `t` VALUES (9)"]


def test_phpmyadmin_whose_dump_ends_as_it_should(tmp_path):
    text = b"-- phpMyAdmin SQL Dump\nSTART TRANSACTION;\n" + TABLE + b"INSERT INTO `t` (`id`) VALUES\n(1);\nCOMMIT;\n"
    assert len(mysql(tmp_path, text, "t")["t"]) == 1


def test_a_value_full_of_escapes_takes_little_memory(tmp_path):
    (tmp_path / "dump.sql").write_bytes(TABLE + b"INSERT INTO `t` VALUES (1,'" + rb"\'" * 6_000_000 + b"');\n")
    code = (
        "import sys, pathlib; from imgpro.movers.dump_mysql import MysqlDump\n"
        "seen = [len(row[1]) for each in MysqlDump(pathlib.Path(sys.argv[1]), ['t']).tables() for row in each.rows]\n"
        "most = pathlib.Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]\n"  # ru_maxrss has the parent's
        "print(seen, int(most) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "dump.sql"], cwd=ROOT, capture_output=True, text=True)
    seen, mib = done.stdout.rsplit(maxsplit=1)
    assert seen == "[262144]", done  # it was cut before its escapes were undone
    assert int(mib) < 250


def test_rows_are_staged_one_after_the_other():
    staged = StagedRows({"t": ("a",)})
    most = 0

    def rows():
        nonlocal most
        for number in range(3_000):
            most = max(most, number - staged.count("t"))
            yield (str(number),)

    staged.add("t", rows())
    assert staged.count("t") == 3_000
    assert most <= 1
    staged.close()
    with pytest.raises(StorageFault):
        list(staged.rows("SELECT * FROM t"))


def test_json_after_a_byte_order_mark(tmp_path):
    (tmp_path / "export.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert list(elements(tmp_path / "export.json", ())) == [("", "a", 1)]


def test_json_element_by_element(tmp_path):
    big = [{"n": number, "t": 'br}ace"]' * 50} for number in range(2_000)]
    whole = {
        "a": 1.5,
        "list": big,
        "empty": [],
        "none": {},
        "in": {"map": {"k": None, "l": [1]}, "x": True},
        "z": "ende",
    }
    path = tmp_path / "export.json"
    for indent in (None, 2):
        path.write_text(json.dumps(whole, indent=indent))
        found = list(elements(path, {"list", "empty", "none", "in", "in.map"}))
        assert found[0] == ("", "a", 1.5)
        assert [value for where, _, value in found if where == "list"] == big
        assert found[2_001:] == [("in.map", "k", None), ("in.map", "l", [1]), ("in", "x", True), ("", "z", "ende")]


@pytest.mark.parametrize("text", ["", "[", "{", '{"a"', '{"a": 12', '{"a": 1,}', '{"a": tru', '{"a": ' + "[" * 100_000])
def test_json_that_is_none(tmp_path, text):
    path = tmp_path / "export.json"
    path.write_text(text)
    with pytest.raises(SourceUnusable):
        list(elements(path, {"a"}))
