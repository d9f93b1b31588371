"""What is no database of the host that was named, or not whole, is told in a sentence."""

import pytest

from imgpro.errors import SourceUnusable
from imgpro.movers.chevereto import Chevereto
from imgpro.movers.lychee import Lychee
from imgpro.movers.picsur import Picsur
from imgpro.movers.xbackbone import XBackBone
from imgpro.movers.zipline import Zipline

POSTGRES = b"--\n-- PostgreSQL database dump\n--\n\n"
MARIADB = b"-- MariaDB dump 10.19\n"
HOSTS = {
    "zipline": Zipline,
    "chevereto": Chevereto,
    "xbackbone": XBackBone,
    "lychee": Lychee,
    "picsur": lambda files, database: Picsur(database),
}


@pytest.mark.parametrize(
    ("host", "content", "words"),
    [
        ("zipline", b"PGDMP\x01\x0e\x00", "own format"),
        ("zipline", b"\x1f\x8b\x08\x00rest", "is packed"),
        ("zipline", b"just words\n", "neither a database of SQLite nor a plain dump"),
        ("zipline", b"", "neither a database of SQLite nor a plain dump"),
        ("zipline", b'{"versions": {"export": "5"}}', "is no export of Zipline 3 or 4: as its version it says 5"),
        ("zipline", b'{"data": {"files": []}}', "as its version it says nothing"),
        ("zipline", b'{"versions": {"export": "4"}, "data": {"files": [{"id": 1}, ', "is cut short, or no JSON"),
        ("zipline", b'{"versions": {"export": "4"}}', "has no table user"),
        ("zipline", POSTGRES + b"COPY public.x (a) FROM stdin;\n1\n", "it ends within the table x"),
        ("zipline", POSTGRES + b'COPY public."User" (id) FROM stdin;\n1\n', "it ends within the table user"),
        ("zipline", POSTGRES + b'COPY public."User" (id) FROM stdin;\n1\t2\n\\.\n', "2 values where user has 1 columns"),
        ("zipline", POSTGRES + b"SET x;\n", "is cut short"),
        ("zipline", POSTGRES + b'INSERT INTO public."File" VALUES (1);\n', "was made with --inserts"),
        ("chevereto", MARIADB + b"CREATE TABLE `a` (\n  `b` int\n);\n-- Dump completed\n", "no table chv_images"),
        ("chevereto", MARIADB + b"INSERT INTO `chv_images` VALUES (1);\n", "a dump without structure"),
        ("chevereto", MARIADB + b"CREATE TABLE `chv_images` (\n  `image_id` int\n);\n", "is cut short"),
        ("chevereto", MARIADB + b"CREATE TABLE `chv_images` (\n  `image_id` int\n", "ends within the table chv_images"),
        ("chevereto", MARIADB + b"CREATE TABLE `chv_images` (\n  `a` int\n);\nINSERT INTO `chv_images` VALUES (1,2);\n",
         "2 values for 1 columns"),
        ("chevereto", MARIADB + b"CREATE TABLE `chv_images` (\n  `a` int\n);\nINSERT INTO `chv_images` VALUES ('a",
         "not as a dump writes it, or cut short"),
        ("chevereto", MARIADB + b"CREATE TABLE `chv_images` (\n  `a` int\n);\nINSERT INTO `chv_images` VALUES (now());\n",
         "not as a dump writes it, or cut short"),
        ("zipline", b"--\n-- PostgreSQL database cluster dump\n--\n", "a dump of all databases"),
        ("chevereto", MARIADB + b"USE `a`;\nCREATE TABLE `chv_images` (\n);\nUSE `b`;\nCREATE TABLE `chv_images` (\n);\n",
         "holds several databases, and chv_images is in a and b"),
        ("lychee", b"SQLite format 3\x00and nothing more", "cannot be"),
        ("zipline", b"toc.dat".ljust(257, b"\0") + b"ustar  \0", "own format, or a tar"),
        ("zipline", "-- PostgreSQL database dump".encode("utf-16"), "UTF-16, as PowerShell's > does"),
        ("zipline", POSTGRES + b"SET client_encoding = 'LATIN1';\n", "is written in LATIN1"),
        ("zipline", POSTGRES + b'COPY public."User" (id) FROM stdin;\n\\.\nCOPY old."User" (id) FROM stdin;\n\\.\n',
         'holds both public."User" and old."User"'),
        ("zipline", POSTGRES + b'COPY public."User" (id) FROM stdin;\n\\.\nCOPY public."user" (id) FROM stdin;\n\\.\n',
         'holds both public."User" and public."user"'),
        ("zipline", POSTGRES + b'COPY public."User" (id) FROM stdin;\n' + b"\t" * 5_000 + b"\n", "5001 values where user"),
        ("chevereto", MARIADB + b"/*!40101 SET NAMES latin1 */;\n", "is written in latin1"),
        ("chevereto", MARIADB + b"USE `a`;\nINSERT INTO `chv_images` (`a`) VALUES (1);\nUSE `b`;\n"
         b"INSERT INTO `chv_images` (`a`) VALUES (1);\n", "chv_images is in a and b"),
        ("chevereto", MARIADB + b'CREATE TABLE "chv_images" (\n', "was made with --compatible=ansi"),
        ("chevereto", b"\xef\xbb\xbf" + MARIADB + b"CREATE TABLE `chv_images` (\n);\n", "is cut short"),
        ("chevereto", b"-- phpMyAdmin SQL Dump\nSTART TRANSACTION;\nCREATE TABLE `chv_images` (\n);\n", "is cut short"),
        ("picsur", b'{"a": 1}', "no dump of PostgreSQL"),
        ("xbackbone", b'{"a": 1}', "is JSON, no dump"),
    ],
)  # fmt: skip
def test_a_database_that_is_not_what_it_should_be(tmp_path, host, content, words):
    database = tmp_path / "dump"
    database.write_bytes(content)
    source = HOSTS[host](tmp_path, database)
    with pytest.raises(SourceUnusable, match=words.replace("(", r"\(")):
        list(source.read())


def test_no_folder_and_no_file(tmp_path):
    with pytest.raises(SourceUnusable, match="There is no folder"):
        Zipline(tmp_path / "no", tmp_path / "dump")
    with pytest.raises(SourceUnusable, match="cannot be read: No such file"):
        list(Zipline(tmp_path, tmp_path / "dump").read())
    with pytest.raises(SourceUnusable, match="cannot be read: Is a directory"):
        list(Zipline(tmp_path, tmp_path).read())
