"""What not everybody could see is private, whoever's it was is his, and no row has another row's file."""

import sqlite3
from pathlib import Path

import pytest

from imgpro.errors import SourceUnusable
from imgpro.movers.chevereto import Chevereto
from imgpro.movers.found import Found, LeftOut
from imgpro.movers.lychee import Lychee
from imgpro.movers.picsur import Picsur
from imgpro.movers.pictshare import PictShare
from imgpro.movers.xbackbone import XBackBone
from imgpro.movers.zipline import Zipline

DATABASES = Path(__file__).resolve().parents[2] / "data" / "moving"
SMALLER = "Only smaller sizes of it were for everybody there; it is private here."


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def put(files, *names, data=b"x"):
    for name in names:
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_bytes(data)


def changed(tmp_path, name, *pairs):
    """Write a dump or statements again, with some of it changed; return where. What is SQLite's becomes its file."""
    text = (DATABASES / name).read_bytes()
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    path = tmp_path / "host.db"
    path.unlink(missing_ok=True)
    if "sqlite" not in name:
        path.write_bytes(text)
        return path
    conn = sqlite3.connect(path)
    conn.executescript(text.decode())
    conn.close()
    return path


def read(source):
    """Return what is found, by name, and why the rest is left out, by item."""
    rows = list(source.read())
    found = {row.name: row for row in rows if isinstance(row, Found)}
    return found, {row.item: row.reason for row in rows if isinstance(row, LeftOut)}


LYCHEE_7 = "lychee/lychee-7-postgres.sql"
OPENED = b"1\tAlbumAlbumAlbumAlbum0001\t\\N\t\\N\tf\t\\N\tt\n"
SETTINGS = b"COPY public.albums (", b"COPY public.configs (id, key, value) FROM stdin;\n%s\\.\n\n\nCOPY public.albums ("


@pytest.mark.parametrize(
    ("settings", "opened", "note"),
    [
        (b"1\tlogin_required\t0\n", OPENED, ""),
        (b"1\tlogin_required\t1\n2\tlogin_required_root_only\t1\n", OPENED, ""),
        (b"1\tlogin_required\t1\n2\tlogin_required_root_only\t0\n", OPENED, "for people with an account"),
        (b"1\tlogin_required\t1\n", OPENED, "for people with an account"),
        (b"1\tgallery_password\t$2y$12$x\n", OPENED, "had a password"),
        (b"1\tgallery_password\t\n", OPENED, ""),
        (b"", OPENED.replace(b"\tt\n", b"\tf\n"), SMALLER),
        (b"", OPENED.replace(b"\\N\t\\N", b"1\t\\N"), "not public"),
        (b"", OPENED.replace(b"\\N\t\\N", b"\\N\t1"), "not public"),
        (b"", OPENED.replace(b"\\N\tt", b"$2y$\tt"), "Its album had a password"),
    ],
    ids=[
        "no login", "login at the root", "login", "login, before there was a root", "gallery's password", "empty password",
        "smaller sizes", "for one user", "for one group", "album's password",
    ],
)  # fmt: skip
def test_a_gallery_of_lychee_7(tmp_path, files, settings, opened, note):
    put(files, "original/ab/cd/0123456789abcdef.jpg")
    configs = (SETTINGS[0], SETTINGS[1].replace(b"%s", settings))
    found, _ = read(Lychee(files, changed(tmp_path, LYCHEE_7, configs, (OPENED, opened))))
    picture = found["IMG_1.JPG"]
    assert picture.public is (not note)
    assert note in picture.note


def test_albums_of_lychee_4_that_show_smaller_sizes_only(tmp_path, files):
    put(files, "big/0123abcd.jpg", "big/cave.png")
    name = "lychee/lychee-4-mysql.sql"
    for whole in (b"0", b"1"):
        column = (b"  `viewable` tinyint(1)", b"  `full_photo` tinyint(1) NOT NULL,\n  `viewable` tinyint(1)")
        rows = (b"NULL,NULL,1,1,NULL,", b"NULL,NULL,1," + whole + b",1,NULL,"), (b"1,1,'$2y$'", b"1,1,1,'$2y$'")
        found, _ = read(Lychee(files, changed(tmp_path, name, column, *rows)))
        assert (found["Peak.jpg"].public, found["Peak.jpg"].note) == ((True, "") if whole == b"1" else (False, SMALLER))
        assert not found["Cave.png"].public


def test_a_dump_that_does_not_tell_who_may_see_is_refused(tmp_path, files):
    put(files, "big/0123abcd.jpg")
    with pytest.raises(SourceUnusable, match="albums has no column password"):
        read(
            Lychee(
                files, changed(tmp_path, "lychee/lychee-4-mysql.sql", (b"  `password` varchar", b"  `word` varchar"))
            )
        )
    chevereto = "chevereto/chevereto-4.sql"
    with pytest.raises(SourceUnusable, match="chv_albums has no column album_privacy"):
        read(Chevereto(files, changed(tmp_path, chevereto, (b"  `album_privacy` enum", b"  `album_secret` enum"))))
    with pytest.raises(SourceUnusable, match="no table chv_albums"):
        read(Chevereto(files, changed(tmp_path, chevereto, (b"`chv_albums`", b"`old_albums`"))))


def test_the_administrator_of_lychee_4_is_somebody(tmp_path, files):
    put(files, "big/0123abcd.jpg")
    name, row = "lychee/lychee-4-mysql.sql", b"0,1,'image/jpeg'"
    for users in (b"(1,'ann','ann@example.org',1)", b"(0,'$2y$10$abcdefgh',NULL,1)"):
        database = changed(tmp_path, name, (row, b"0,0,'image/jpeg'"), (b"(1,'ann','ann@example.org',1)", users))
        assert read(Lychee(files, database))[0]["Peak.jpg"].owner == "admin"
        assert read(Lychee(files, database, by_mail=True))[0]["Peak.jpg"].owner == "admin"


def test_whoever_has_no_mail_address_is_somebody(tmp_path, files):
    put(files, "a1B/RoMiNa.png", "2024/05/01/beach.jpg", "big/0123abcd.jpg")
    nobody = (b"'ann@example.org'", b"''")
    database = changed(tmp_path, "xbackbone/xbackbone-sqlite.sql", nobody)
    assert read(XBackBone(files, database, by_mail=True))[0]['It\'s "me".png'].owner == "ann"
    database = changed(tmp_path, "chevereto/chevereto-4.sql", nobody)
    assert read(Chevereto(files, database, by_mail=True))[0]["beach.jpg"].owner == "ann"
    database = changed(tmp_path, "lychee/lychee-4-mysql.sql", nobody)
    assert read(Lychee(files, database, by_mail=True))[0]["Peak.jpg"].owner == "ann"


CHEVERETO = "chevereto/chevereto-4.sql"


def test_a_namesake_on_another_storage_of_chevereto(tmp_path, files):
    put(files, "2024/05/01/beach.jpg")
    first = b"(1,'beach','jpg',1,1,1,'2024-05-01 23:30:00'"
    twin = (
        b"(77,'beach','jpg',9000,1,1,'2024-05-01 22:00:00','2024-05-01 20:00:00','Other',NULL,0,2,NULL,'::1',"
        b"'datefolder',NULL,1,'m','other.jpg',NULL,NULL,7,NULL,1,0,1),\n"
    )
    twin_of_first = (first, twin + first)
    database = changed(tmp_path, CHEVERETO, twin_of_first)
    found, left_out = read(Chevereto(files, database))
    assert left_out["2024/05/01/beach.jpg (storage 1)"].startswith("The file of its name is another picture's")
    assert "other.jpg" not in found
    assert found["beach.jpg"].old_links[0].path == "/images/2024/05/01/beach.jpg"
    put(files, "2024/05/01/beach.jpg", data=b"x" * 9_000)  # the bucket was copied over it
    found, left_out = read(Chevereto(files, database))
    assert left_out["2024/05/01/beach.jpg"].startswith("The file of its name is another picture's")
    assert found["other.jpg"].old_links[0].path == "/2024/05/01/beach.jpg"  # where its storage served it
    for url, base in ((b"https://cdn.example.org/b/c/", "/b/c"), (b"http://[", ""), (b"x", "")):
        database = changed(tmp_path, CHEVERETO, twin_of_first, (b"https://cdn.example.org/", url))
        found, _ = read(Chevereto(files, database))
        assert found["other.jpg"].old_links[0].path == f"{base}/2024/05/01/beach.jpg"


def test_pictures_of_an_album_that_is_not_there(tmp_path, files):
    put(files, "2024/05/01/beach.jpg")
    found, _ = read(Chevereto(files, changed(tmp_path, CHEVERETO, (b"(1,'Summer & Sea'", b"(11,'Summer & Sea'"))))
    assert not found["beach.jpg"].public
    assert found["beach.jpg"].note == "Its album is not in the database; it is private here."


@pytest.mark.parametrize(
    ("mode", "content", "opened"),
    [
        ("public", "private", {"beach.jpg", "linked.png"}),
        ("private", "default", {"linked.png"}),
        ("private", "private", set()),
        ("private", "private_but_link", {"beach.jpg", "linked.png"}),
    ],
)
def test_a_private_site_of_chevereto(tmp_path, files, mode, content, opened):
    put(files, "2024/05/01/beach.jpg", "2024/05/02/hidden.png", "linked.png")
    settings = f"(7,'website_privacy_mode','{mode}',NULL,'string'),\n(8,'website_content_privacy_mode','{content}',"
    first = b"(1,'crypt_salt'"
    found, _ = read(
        Chevereto(files, changed(tmp_path, CHEVERETO, (first, f"{settings}NULL,'string'),\n".encode() + first)))
    )
    assert {name for name, picture in found.items() if picture.public} == opened
    assert ("people with an account" in found["beach.jpg"].note) is ("beach.jpg" not in opened)


def test_a_site_of_chevereto_for_one_person(tmp_path, files):
    put(files, "2024/05/01/beach.jpg", "old/antique.gif")
    first = b"(1,'crypt_salt'"
    settings = b"(7,'website_mode','personal',NULL,'string'),\n(8,'website_mode_personal_uid','1',NULL,'string'),\n"
    found, _ = read(Chevereto(files, changed(tmp_path, CHEVERETO, (first, settings + first))))
    assert {name: picture.public for name, picture in found.items()} == {"beach.jpg": True, "antique.gif": False}


def test_whoever_was_banned_from_chevereto(tmp_path, files):
    put(files, "2024/05/01/beach.jpg")
    row = (b"'ann@example.org','valid'", b"'ann@example.org','banned'")
    found, _ = read(Chevereto(files, changed(tmp_path, CHEVERETO, row)))
    assert found["beach.jpg"].note == "Its owner was banned there; it is private here."


def test_ids_that_are_no_numbers(tmp_path, files):
    put(files, "2024/05/01/beach.jpg")
    for odd in ("'²'", "'" + "9" * 5_000 + "'", "-1"):
        pair = (b"(1,'beach','jpg'", f"({odd},'beach','jpg'".encode())
        found, _ = read(Chevereto(files, changed(tmp_path, CHEVERETO, pair)))
        assert [link.leads_to for link in found["beach.jpg"].old_links] == ["o", "m", "s"]


def test_guests_that_may_not_look_at_picsur(tmp_path):
    head = b"COPY public.e_user_backend ("
    roles = b"COPY public.e_role_backend (id, name, permissions) FROM stdin;\n1\tguest\t{%s}\n2\tuser\t{image-view}\n\\.\n\n"
    for permissions, public in ((b"image-view,user-login", True), (b"user-login", False), (b"", False)):
        database = changed(tmp_path, "picsur/picsur.sql", (head, roles.replace(b"%s", permissions) + head))
        found, _ = read(Picsur(database))
        assert {picture.public for picture in found.values()} == {public}
        assert all(public or "people with an account" in picture.note for picture in found.values())


@pytest.mark.parametrize(
    ("environment", "addresses"),
    [
        (b"", {"/f/a1B2c3.png", "/f/a1B2c3"}),
        (b'"UPLOADER_ROUTE":"/of-3",', {"/f/a1B2c3.png", "/f/a1B2c3"}),
        (b'"FILES_ROUTE":"/i","FILES_EXTENSIONLESS_URLS":"false",', {"/i/a1B2c3.png"}),
    ],
    ids=["as stored", "what 3 went by", "the environment is above it"],
)
def test_the_route_in_an_export_of_zipline(tmp_path, files, environment, addresses):
    put(files, "a1B2c3.png")
    export = changed(tmp_path, "zipline/zipline-4-export.json", (b'"env":{', b'"env":{' + environment))
    (picture,) = read(Zipline(files, export))[0].values()
    others = ("/raw/", "/view/", "/r/")
    assert {link.path for link in picture.old_links if not link.path.startswith(others)} == addresses


def test_folders_of_pictshare_that_are_none(files):
    put(files, "abc.png/abc.png", "deletecodes/0123", "odd\nname.png/odd\nname.png", "plain/plain")
    put(files, "long.png/long.png")
    (files / "long.png" / "meta.json").write_text('{"uploaded": "' + "9" * 5_000 + '"}')
    (Path(str(files).encode().decode()) / "by\udcfftes.png").mkdir()
    found, left_out = read(PictShare(files))
    assert sorted(found) == ["abc.png", "long.png"]
    assert sorted(left_out) == ["%:by%FFtes.png", "odd\nname.png", "plain"]


def test_a_folder_whose_name_is_no_text(tmp_path):
    folder = tmp_path / "by\udcfftes"
    folder.mkdir()
    for source in (PictShare(folder), XBackBone(folder, tmp_path / "db"), Lychee(folder, tmp_path / "db")):
        source.name.encode()
        assert source.name.endswith("by%FFtes")
