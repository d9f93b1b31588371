"""`imgpro import` from other image hosts: dumps of their databases as the real programs write them, and their files."""

import itertools
import sqlite3
from io import BytesIO

import pytest
from PIL import Image, ImageChops

from tests.moving import brought, dot, rows
from tests.pictures import make_image
from tests.servers import ROOT, UNLIMITED, bearer, running

DATABASES = ROOT / "tests" / "data" / "moving"
NUMBERS = itertools.count(1_000)
ANN, BOB = "ann@example.org", "bob@example.org"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server") / "data", UNLIMITED) as found:
        yield found


@pytest.fixture(scope="module")
def keys(server):
    return {email: server.new_key(email) for email in (ANN, BOB)}


@pytest.fixture
def files(tmp_path):
    """Lay out files of a host, each with its own picture; return their bytes."""

    def lay_out(*names):
        made = {}
        for name in names:
            path = tmp_path / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            made[name] = dot(next(NUMBERS))
            path.write_bytes(made[name])
        return made

    return lay_out


def sqlite_file(tmp_path, statements):
    """Make the file of SQLite that a host would have."""
    path = tmp_path / "host.db"
    with sqlite3.connect(path) as conn:
        conn.executescript((DATABASES / statements).read_text())
    conn.close()
    return path


def kept(server, owner=ANN):
    """Return what is stored of an account's pictures, by name."""
    sql = """SELECT i.name, i.namespace, i.public, i.created_ms, i.expires_ms, i.description, i.display_date, i.id,
                    (SELECT group_concat(tag, ' ') FROM (SELECT tag FROM image_tags AS t WHERE t.image = i.seq
                      ORDER BY tag)) AS tags
               FROM images AS i JOIN accounts AS a ON a.seq = i.account WHERE a.email = ?"""
    names = ("name", "namespace", "public", "created_ms", "expires_ms", "description", "date", "id", "tags")
    return {row[0]: dict(zip(names, row, strict=True)) for row in rows(server.data, sql, owner)}


def body_at(server, path, key=None):
    """Return what an old link leads to, over its redirect."""
    answer = server.request("GET", path)
    assert answer.status == 301, (path, answer)
    there = answer.headers["Location"]
    assert there.startswith(server.base)
    answer = server.request("GET", there.removeprefix(server.base), headers=bearer(key) if key else None)
    assert answer.status == 200, (path, there, answer)
    return answer.body


def page_at(server, path, name):
    """Check that an old link leads to the page of a picture."""
    assert name.encode() in body_at(server, path)


ZIPLINE_FILES = ("a1B2c3.png", "back\\slash tab.jpg", "secret.png", "later.gif", "ended.png", "thrice.png", "clip.mp4")


def test_zipline_4_from_a_dump_of_postgres(server, keys, files, tmp_path):
    made = files(*ZIPLINE_FILES)
    (tmp_path / "outside.png").write_bytes(dot(60_001))
    owners = ("--map", f"ann={ANN}", "--map", f"bob={BOB}")
    place = ("--files", tmp_path / "files", "--dump", DATABASES / "zipline" / "zipline-4.sql")
    rehearsal = brought(server.data, "zipline", *place, *owners, "--dry-run", code=3)
    run = brought(server.data, "zipline", *place, *owners, code=3)
    assert len(run.outcomes("brought")) == 4
    assert {item: line["reason"] for item, line in run.lines.items() if line["outcome"] == "left_out"} == {
        "ended.png": "It had ended there already.",
        "thrice.png": "It was to end after 3 views; there is no such end here.",
        "clip.mp4": "It is a video, no picture.",
        "note.txt": "It is a text, no picture.",
        "gone.png": "Its file is not there.",
        "../outside.png": "Its path leads out of the folder of files.",
    }
    assert rehearsal.outcomes("left_out") == run.outcomes("left_out")
    ann = kept(server)
    first = ann["fjord åt night.png"]
    assert (first["namespace"], first["tags"]) == ("trip-to-oslo", "night norway")
    assert (first["public"], first["created_ms"], first["expires_ms"]) == (1, 1_714_566_896_789, None)
    assert ann["later.gif"]["expires_ms"] == 4_870_483_200_000
    assert ann["secret.png"]["public"] == 0
    assert "password" in run.lines["secret.png"]["notes"][0]
    assert len(kept(server, BOB)) == 1
    for path in ("/u/a1B2c3.png", "/raw/a1B2c3.png", "/r/a1B2c3.png"):
        assert body_at(server, path) == made["a1B2c3.png"]
    assert body_at(server, "/u/back%5Cslash%20tab.jpg") == made["back\\slash tab.jpg"]
    page_at(server, "/view/a1B2c3.png", "fjord")
    assert server.request("GET", "/u/secret.png").status == 404
    again = brought(server.data, "zipline", *place, *owners, code=3)
    assert len(again.outcomes("there")) == 4


def test_zipline_whose_owners_nobody_named(server, keys, files, tmp_path):
    files(*ZIPLINE_FILES)
    place = ("--files", tmp_path / "files", "--database", DATABASES / "zipline" / "zipline-4.sql")
    run = brought(server.data, "zipline", *place, "--map", f"ann={ANN}", "--no-keep-links", code=3)
    assert "--map bob=EMAIL" in run.reason("back\\slash tab.jpg")


@pytest.mark.parametrize(
    ("database", "links"),
    [
        ("zipline-3.sql", {"kitten.png": ["kitten.png", "/u/kitten.png", "/u/%E2%80%8B%E2%80%8C%E2%80%8D"]}),
        ("zipline-3-export.json", {"nobody's.png": ["nobody.png", "/nobody.png"]}),
        ("zipline-4-export.json", {"fjord åt night.png": ["a1B2c3.png", "/f/a1B2c3.png", "/f/a1B2c3", "/raw/a1B2c3"]}),
        ("zipline-2-sqlite.sql", {"second.png": ["second.png", "/u/inv", "/u/second.png"]}),
    ],
)
def test_other_ages_of_zipline(server, keys, files, tmp_path, database, links):
    made = files("kitten.png", "nobody.png", "over.png", "first.png", "second.png", *ZIPLINE_FILES)
    source = DATABASES / "zipline" / database
    if database.endswith("-sqlite.sql"):
        source = sqlite_file(tmp_path, f"zipline/{database}")
    prefix = database.partition(".")[0]
    code = 0 if database.endswith("-sqlite.sql") else 3
    place = ("--files", tmp_path / "files", "--database", source, "--to", ANN, "--tag", prefix)
    brought(server.data, "zipline", *place, code=code)
    mine = {name: row for name, row in kept(server).items() if prefix in (row["tags"] or "").split()}
    for name, (file, *addresses) in links.items():
        assert name in mine
        assert [body_at(server, address) for address in addresses] == [made[file]] * len(addresses)
    if database == "zipline-2-sqlite.sql":
        assert mine["first.png"]["created_ms"] == 1_630_000_000_123
    if database.startswith("zipline-3"):
        assert mine["kitten.png"]["namespace"] == "cats"


def test_chevereto_from_a_dump_of_mariadb(server, keys, files, tmp_path):
    made = files(
        *("2024/05/01/beach.jpg", "2024/05/01/beach.th.jpg", "2024/05/02/hidden.png", "linked.png", "old/antique.gif"),
        *("2024/05/03/clip.mp4", "2024/05/04/over.png", "2024/05/05/waiting.png"),
    )
    place = ("--files", tmp_path / "files", "--database", DATABASES / "chevereto" / "chevereto-4.sql")
    run = brought(server.data, "chevereto", *place, "--by-mail", code=3)
    assert len(run.outcomes("brought")) == 5
    assert run.reason("2024/05/04/cloudy.png (storage 1)").startswith("Its file is on the storage Wasabi")
    assert run.reason("/etc/passwd.") == "Its path leads out of the folder of files."
    ann = kept(server)
    beach = ann["beach.jpg"]
    assert (beach["namespace"], beach["tags"]) == ("summer-sea", "nature sand waves")
    assert beach["created_ms"] == 1_714_599_000_000
    assert beach["description"].startswith("At the sea, isn't it?")
    assert "🏖" in beach["description"]
    assert (ann["hidden.png"]["public"], ann["linked.png"]["public"]) == (0, 1)
    assert kept(server, BOB)["waiting.png"]["public"] == 0
    assert body_at(server, "/images/2024/05/01/beach.jpg") == made["2024/05/01/beach.jpg"]
    assert body_at(server, "/images/old/antique.gif") == made["old/antique.gif"]
    assert Image.open(BytesIO(body_at(server, "/images/2024/05/01/beach.th.jpg"))).size == (32, 32)
    for path in ("/image/4n", "/image/At-the-sea%2C-isnt-it.4n"):
        page_at(server, path, "beach.jpg")


def test_picsur_whose_pictures_are_in_its_dump(server, keys, tmp_path):
    database = DATABASES / "picsur" / "picsur.sql"
    run = brought(server.data, "picsur", "--database", database, "--map", f"ann={ANN}", code=3)
    ids = [f"0000000{number}-aaaa-4bbb-8ccc-0123456789ab" for number in range(1, 8)]
    assert run.reason(ids[3]) == "It had ended there already."
    assert run.reason(ids[5]) == "Its bytes are not there."
    ann = kept(server)
    assert ann["holiday.png"]["created_ms"] == 1_672_628_645_678
    assert ann["later.jpg"]["expires_ms"] == 4_828_204_800_000
    original = Image.open(BytesIO(body_at(server, f"/i/{ids[0]}.png")))
    assert same(original, make_image("RGB", (16, 12)))
    changed = [item for item, line in run.lines.items() if "came as PNG" in " ".join(line.get("notes", []))]
    assert sorted(changed) == [ids[1], ids[4]]  # of the others there was what had been uploaded
    unpacked = Image.open(BytesIO(body_at(server, f"/i/{ids[1]}")))
    assert (unpacked.format, unpacked.mode) == ("PNG", "RGBA")
    assert same(unpacked, make_image("RGBA", (16, 12)))
    scanned = Image.open(BytesIO(body_at(server, f"/i/{ids[4]}.tiff")))
    assert same(scanned, make_image("RGB", (12, 16)))
    assert Image.open(BytesIO(body_at(server, f"/i/{ids[2]}.gif"))).n_frames == 2
    page_at(server, f"/view/{ids[0]}", "holiday.png")
    assert rows(server.data, "SELECT count(*) FROM images WHERE name = 'clear.png' AND account IS NULL") == [(1,)]


def same(first, second):
    return (
        first.size == second.size
        and ImageChops.difference(first.convert("RGBA"), second.convert("RGBA")).getbbox(alpha_only=False) is None
    )


@pytest.mark.parametrize("kind", ["sqlite", "mysql"])
def test_xbackbone(server, keys, files, tmp_path, kind):
    made = files("a1B/RoMiNa.png", "Zz9/HiDDeN.jpg", "a1B/LoNeLy.png", "a1B/TeXtS.txt")
    statements = f"xbackbone/xbackbone-{kind}.sql"
    database = sqlite_file(tmp_path, statements) if kind == "sqlite" else DATABASES / statements
    place = ("--files", tmp_path / "files", "--database", database)
    run = brought(server.data, "xbackbone", *place, "--map", f"ann={ANN}", "--map", f"bob={BOB}", code=3)
    assert run.outcomes("brought") == ["Zz9/HiDDeN.jpg", "a1B/LoNeLy.png", "a1B/RoMiNa.png"]
    assert run.reason("../../etc/e.png") == "Its path leads out of the folder of files."
    mine = kept(server)['It\'s "me".png']
    assert (mine["tags"], mine["created_ms"], mine["public"]) == ("image portrait", 1_646_370_367_000, 1)
    assert kept(server, BOB)["private.jpg"]["public"] == 0
    if kind == "sqlite":  # the links of the second import are the first's
        for path in ("/a1B/RoMiNa.png", "/a1B/RoMiNa/raw", "/a1B/RoMiNa/raw.png", "/a1B/RoMiNa/download"):
            assert body_at(server, path) == made["a1B/RoMiNa.png"]
        page_at(server, "/a1B/RoMiNa", "me")
        assert server.request("GET", "/Zz9/HiDDeN/raw").status == 404


def test_lychee_5_on_sqlite(server, keys, files, tmp_path):
    made = files("original/11/gate.png", "original/22/safe.png", "big/loose.png")
    (tmp_path / "escape.png").write_bytes(dot(60_002))
    database = sqlite_file(tmp_path, "lychee/lychee-5-sqlite.sql")
    run = brought(server.data, "lychee", "--files", tmp_path / "files", "--database", database, "--to", ANN, code=3)
    assert run.reason("444444444444444444444444 escape") == "Its path leads out of the folder of files."
    ann = kept(server)
    assert (ann["gate.png"]["namespace"], ann["gate.png"]["tags"]) == ("open-days", "iron old town")
    assert (ann["gate.png"]["date"], ann["gate.png"]["created_ms"]) == ("2023-04-01T09:00:00Z", 1_680_674_828_900)
    assert ann["gate.png"]["description"] == "The gate"
    assert [ann[name]["public"] for name in ("gate.png", "safe.png", "loose.png")] == [1, 0, 0]
    assert body_at(server, "/uploads/original/11/gate.png") == made["original/11/gate.png"]
    assert server.request("GET", "/uploads/big/loose.png").status == 404
    for path in (
        f"/gallery/{'a' * 24}/{'1' * 24}", f"/r/{'a' * 24}/{'1' * 24}", f"/view?p={'1' * 24}", "/view?p=15000000000011",
        "/r/15000000000001/15000000000011",
    ):  # fmt: skip
        page_at(server, path, "gate.png")


def test_lychee_7_on_postgres_and_4_on_mysql(server, keys, files, tmp_path):
    made = files(
        *("original/ab/cd/0123456789abcdef.jpg", "original/ef/01/fedcba.png", "raw/ef/02/raw.cr2"),
        *("big/0123abcd.jpg", "big/cave.png"),
    )
    names = (("lychee-7-postgres.sql", 2), ("lychee-4-mysql.sql", 2))
    for name, count in names:
        place = ("--files", tmp_path / "files", "--database", DATABASES / "lychee" / name)
        run = brought(server.data, "lychee", *place, "--map", f"ann={ANN}", "--map", f"bob={BOB}", code=3)
        assert len(run.outcomes("brought")) == count
    ann = kept(server)
    assert (ann["IMG_1.JPG"]["namespace"], ann["IMG_1.JPG"]["tags"]) == ("oland-2025", "mill wind")
    assert (ann["IMG_1.JPG"]["public"], kept(server, BOB)["drawing.png"]["public"]) == (1, 0)
    assert (ann["Peak.jpg"]["tags"], ann["Peak.jpg"]["public"], ann["Cave.png"]["public"]) == ("snow sun", 1, 0)
    jpeg = made["original/ab/cd/0123456789abcdef.jpg"]
    assert body_at(server, "/uploads/original/ab/cd/0123456789abcdef.jpg") == jpeg
    assert body_at(server, "/uploads/big/0123abcd.jpg") == made["big/0123abcd.jpg"]
    page_at(server, "/gallery/AlbumAlbumAlbumAlbum0001/PhotoPhotoPhotoPhoto0001", "IMG_1.JPG")


def test_pictshare_with_its_sizes_before_the_name(server, keys, files, tmp_path):
    made = files("abc123.png/abc123.png", "old777.jpg/old777.jpg", "film.mp4/film.mp4", "text.txt/text.txt")
    folder = tmp_path / "files"
    (folder / "abc123.png" / "meta.json").write_text(
        '{"original_filename": "https://x.org/pics/Cat%20one.png?v=1", "uploaded": 1700000000, "delete_code": "x"}'
    )
    (folder / "abc123.png" / "0f_abc123.png").write_bytes(b"a smaller one")
    (folder / "old777.jpg" / "deletecode").write_text("x")
    (folder / "lost99.png").mkdir()
    (folder / "sha1.csv").write_text("x;abc123.png\n")
    (folder / "link.png").mkdir()
    (folder / "link.png" / "link.png").symlink_to("/etc/hostname")
    run = brought(server.data, "pictshare", "--files", folder, "--to", ANN, code=3)
    assert run.outcomes("brought") == ["abc123.png", "old777.jpg"]
    assert run.reason("lost99.png") == "Its file is not there."
    assert run.reason("link.png") == "Its path leads out of the folder of files."
    assert run.reason("film.mp4") == "It is a video, no picture."
    assert kept(server)["Cat one.png"]["created_ms"] == 1_700_000_000_000
    for path in ("/abc123.png", "/300x200/abc123.png", "/rotate_90/webp/abc123.png"):
        assert body_at(server, path) == made["abc123.png/abc123.png"]
    assert server.request("GET", "/300x200/nothing.png").status == 404


def test_what_is_not_what_it_should_be_is_said_in_a_sentence(server, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "dump").write_bytes(b"PGDMP\x01\x0e\x00")
    place = ("--files", tmp_path / "files", "--database", tmp_path / "dump")
    run = brought(server.data, "zipline", *place, "--nobody", code=1)
    assert "is a dump in pg_dump's own format" in run.err
    assert "Try: `pg_restore --file=plain.sql" in run.err
    assert "Traceback" not in run.err


def test_a_folder_that_is_not_there_or_not_pictshares(server, tmp_path):
    run = brought(server.data, "pictshare", "--files", tmp_path / "no", "--nobody", code=1)
    assert f"There is no folder {tmp_path / 'no'}." in run.err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.png").write_bytes(dot(60_003))
    run = brought(server.data, "pictshare", "--files", tmp_path / "other", "--nobody", code=1)
    assert "as PictShare keeps it" in run.err
    run = brought(server.data, "pictshare", "--files", tmp_path / "other", code=2)
    assert "--to EMAIL, or --nobody" in run.err
