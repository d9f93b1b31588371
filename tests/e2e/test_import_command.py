"""`imgpro import folder`: what is in a folder becomes pictures, with their names and dates, or is named and left out."""

import ctypes
import datetime
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.law import check_disk
from tests.moving import brought, command, dot, dots, handed_over, rows
from tests.pictures import encoded, make_image
from tests.servers import ROOT, UNLIMITED, Server, bearer, blobs, running

PHOTO = encoded(make_image("RGB", (120, 90)), "JPEG")
MAX_BYTES = 400_000
NOBODY = 65_534
PR_CAPBSET_DROP, DAC_OVERRIDE, DAC_READ_SEARCH = 24, 1, 2


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    env = {**UNLIMITED, "IMGPRO_UPLOADS_MAX_BYTES": str(MAX_BYTES)}
    with running(tmp_path_factory.mktemp("server") / "data", env) as found:
        yield found


@pytest.fixture(scope="module")
def key(server):
    return server.new_key("ann@example.org")


def listed(server, key, **query):
    """Return an account's pictures by name."""
    asked = "&".join(f"{name}={value}" for name, value in {"limit": "100", **query}.items())
    answer = server.request("GET", f"/v1/media?{asked}", headers=bearer(key))
    assert answer.status == 200, answer
    return {row["name"]: row for row in answer.json()["data"]}


def local_ms(*parts):
    return int(datetime.datetime(*parts).timestamp() * 1000)  # noqa: DTZ001  # as the command reads it


def test_every_name_that_a_file_can_have(server, tmp_path):
    names = [
        "plain.png", "mit Leerzeichen.png", "größe é 日本.png", "a#b?c%20d&e.png", "quote'\"<b>.png", "new\nline.png",
        "\u202egnp.gpj.png", "x" * 251 + ".png", "no-ending", "UPPER.PNG", "%:looks-like-ours.png",
    ]  # fmt: skip
    odd = [name.encode() for name in names] + [b"bytes-\xff\xfe.png", b"bytes-\xff\xfd.png"]
    for number, name in enumerate(odd):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(dot(number))
    (tmp_path / ".hidden.png").write_bytes(dot(99))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "in.png").write_bytes(dot(98))
    run = brought(server.data, "folder", tmp_path, "--nobody")
    assert (run.err, run.out) == ("", f"pictures: {len(odd)} brought, 2 changed to fit\n")
    kept = {row[0] for row in rows(server.data, "SELECT name FROM images")}
    assert {*names[:5], "newline.png", "gnp.gpj.png", "no-ending", "UPPER.PNG"} <= kept
    assert not any("hidden" in name for name in kept)
    again = brought(server.data, "folder", tmp_path, "--nobody")
    assert again.out == f"pictures: 0 brought, {len(odd)} there already\n"


def test_the_same_item_comes_once_however_often_it_is_sent(server):
    first = handed_over(server.data, dot(300), item="twice")
    assert handed_over(server.data, dot(300), item="twice") == first
    assert handed_over(server.data, dot(301), item="twice") == first
    assert rows(server.data, "SELECT count(*) FROM brought_in WHERE item = 'twice'") == [(1,)]
    assert check_disk(server.data) == 0


def test_what_is_no_whole_picture_is_named_and_left_out(server, tmp_path):
    (tmp_path / "good.jpg").write_bytes(PHOTO)
    (tmp_path / "cut.jpg").write_bytes(PHOTO[: len(PHOTO) // 2])
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "film.png").write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(5_000))
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "huge.bmp").write_bytes(encoded(Image.new("RGB", (400, 400)), "BMP"))
    (tmp_path / "link.png").symlink_to("good.jpg")
    (tmp_path / "elsewhere").symlink_to(ROOT)
    os.mkfifo(tmp_path / "pipe.png")
    run = brought(server.data, "folder", tmp_path, "--nobody", code=3)
    assert run.outcomes("brought") == ["good.jpg"]
    assert len(run.outcomes("left_out")) == 8
    assert run.reason("cut.jpg") == "The JPEG ends in the middle of a scan."
    assert run.reason("notes.txt") == "This is not a picture format that is accepted here."
    assert run.reason("empty.png") == "The file is empty."
    assert "uploads.max_bytes" in run.reason("huge.bmp")
    assert run.reason("link.png") == run.reason("elsewhere") == "It is a symbolic link."
    assert run.reason("pipe.png") == "It is not a file."
    for item in run.outcomes("left_out"):
        assert item in run.err
    assert "8 of 9 files and pictures were left out" in run.err
    assert check_disk(server.data) == 0


def test_dates_by_exif_by_name_and_by_the_file(server, key, tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2012:03:04 05:06:07"
    zoned = Image.Exif()
    zoned.get_ifd(0x8769).update({0x9003: "2013:03:04 05:06:07", 0x9011: "+09:00"})
    picture = make_image("RGB", (40, 30))
    (tmp_path / "20200101_000000.jpg").write_bytes(encoded(picture, "JPEG", exif=exif.tobytes()))
    (tmp_path / "zone.webp").write_bytes(encoded(picture, "WEBP", exif=zoned.tobytes()))
    (tmp_path / "drawn.png").write_bytes(encoded(picture, "PNG", exif=exif.tobytes()))
    (tmp_path / "Screenshot 2024-05-01 12-30-10.png").write_bytes(dot(1))
    (tmp_path / "old.png").write_bytes(dot(2))
    os.utime(tmp_path / "old.png", (1_000_000_000, 1_000_000_000))
    (tmp_path / "tomorrow.png").write_bytes(dot(3))
    os.utime(tmp_path / "tomorrow.png", (4_000_000_000, 4_000_000_000))
    run = brought(server.data, "folder", tmp_path, "--to", "ann@example.org", "--namespace", "dates")
    assert "future" in run.lines["tomorrow.png"]["notes"][0]
    made = dict(rows(server.data, "SELECT name, created_ms FROM images WHERE namespace = 'dates'"))
    assert made["20200101_000000.jpg"] == made["drawn.png"] == local_ms(2012, 3, 4, 5, 6, 7)
    assert made["zone.webp"] == datetime.datetime.fromisoformat("2013-03-04T05:06:07+09:00").timestamp() * 1000
    assert made["Screenshot 2024-05-01 12-30-10.png"] == local_ms(2024, 5, 1, 12, 30, 10)
    assert made["old.png"] == 1_000_000_000_000
    newest_first = list(listed(server, key, namespace="dates"))
    assert newest_first[0] == "tomorrow.png"
    assert newest_first[-1] == "old.png"
    shutil.copytree(tmp_path, tmp_path / "copy")
    brought(
        server.data, "folder", tmp_path / "copy", "--to", "ann@example.org", "--namespace", "today", "--dates", "none"
    )
    spread = "SELECT max(b.created_ms) - min({}.created_ms) FROM images i JOIN blobs b ON b.seq = i.blob"
    # The bytes came today, whenever the picture was made: charts of what is stored go by that.
    assert rows(server.data, spread.format("b")) < [(600_000,)]
    assert rows(server.data, f"{spread.format('i')} WHERE i.namespace = 'today'") < [(600_000,)]


def test_namespaces_and_tags_by_where_files_lie(server, key, tmp_path):
    for number, folder in enumerate(("Élan vital/Berge/2020", "Фото", "plain-one", "z")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"in-{number}.png").write_bytes(dot(500 + number))
    run = brought(
        server.data, "folder", tmp_path, "--to", "ann@example.org", "--namespace-from-path", "--tags-from-path",
        "--tag", "moved", "--private",
    )  # fmt: skip
    found = listed(server, key, tags="moved")
    facts = {name: (row["namespace"], row["tags"], row["public"]) for name, row in found.items()}
    assert facts == {
        "in-0.png": ("elan-vital", ["moved", "berge", "2020"], False),
        "in-1.png": (None, ["фото", "moved"], False),
        "in-2.png": ("plain-one", ["moved"], False),
        "in-3.png": (None, ["z", "moved"], False),
    }
    assert run.lines["Élan vital/Berge/2020/in-0.png"]["notes"] == ["The namespace 'Élan vital' became elan-vital."]
    assert "notes" not in run.lines["plain-one/in-2.png"]
    assert list(listed(server, key, q="berge")) == ["in-0.png"]


def test_a_dry_run_judges_and_leaves_no_trace(server, tmp_path):
    dots(tmp_path / "in", 12, begin=700)
    (tmp_path / "in" / "twin.png").write_bytes(dot(700))
    (tmp_path / "in" / "notes.txt").write_text("no")
    before = _everything(server.data)
    run = brought(
        server.data, "folder", tmp_path / "in", "--to", "new@example.org", "--add-accounts", "--old-path", "/healthz/../v1",
        "--dry-run", code=3,
    )  # fmt: skip
    assert run.outcomes("left_out") == ["notes.txt"]
    assert len(run.outcomes("would_bring")) == 13
    assert [item for item, line in run.lines.items() if line.get("same_bytes")] in (["twin.png"], ["dot-0700.png"])
    assert "13 would be brought, 1 left out" in run.out
    assert _everything(server.data) == before
    real = brought(server.data, "folder", tmp_path / "in", "--to", "new@example.org", "--add-accounts", code=3)
    assert real.outcomes("brought") == run.outcomes("would_bring")
    assert brought(server.data, "folder", tmp_path / "in", "--to", "new@example.org", "--dry-run", code=3).outcomes(
        "there"
    ) == real.outcomes("brought")


def _everything(data):
    tables = [row[0] for row in rows(data, "SELECT name FROM sqlite_schema WHERE type = 'table'")]
    tables = [name for name in tables if name not in ("meta", "images_text_data", "images_text_docsize")]
    counts = {name: rows(data, f"SELECT count(*) FROM {name}") for name in tables}
    return counts, sorted(path.name for path in blobs(data)), list((data / "tmp").iterdir())


def test_each_account_gets_its_own(server, tmp_path):
    dots(tmp_path, 3, begin=800)
    server.new_key("bob@example.org")
    for person in ("ann@example.org", "bob@example.org"):
        assert brought(server.data, "folder", tmp_path, "--to", person).out == "pictures: 3 brought\n"
        assert brought(server.data, "folder", tmp_path, "--to", person).out == "pictures: 0 brought, 3 there already\n"


def test_a_deleted_picture_comes_again(server, tmp_path):
    dots(tmp_path, 2, begin=820)
    first = brought(server.data, "folder", tmp_path, "--nobody")
    server.operate("delete-picture", ids=[first.lines["dot-0820.png"]["id"]])
    again = brought(server.data, "folder", tmp_path, "--nobody")
    assert again.outcomes("brought") == ["dot-0820.png"]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ((), 2, "--to EMAIL, or --nobody"),
        (("--to", "gone@example.org"), 1, "There is no account gone@example.org here"),
        (("--to", "not an address"), 1, "--to:"),
        (("--nobody", "--to", "ann@example.org"), 2, "do not go together"),
        (("--nobody", "--dates", "exif,moon"), 2, "moon"),
        (("--nobody", "--namespace", "Not Allowed"), 1, "--namespace"),
        (("--nobody", "--map", "x"), 2, "OWNER=EMAIL"),
    ],
    ids=["no owner", "no account", "no address", "two owners", "dates", "namespace", "map"],
)
def test_what_is_not_understood(server, tmp_path, args, code, says):
    dots(tmp_path / "in", 1, begin=840)
    run = brought(server.data, "folder", tmp_path / "in", *args, code=code)
    assert says in run.err
    assert run.lines == {}


def test_without_a_server(tmp_path):
    data = tmp_path / "data"
    with running(data, UNLIMITED) as first:
        first.new_key("ann@example.org")
    dots(tmp_path / "in", 20)
    run = brought(data, "folder", tmp_path / "in", "--to", "ann@example.org", "--old-path", "/old")
    assert (run.out, run.err) == ("pictures: 20 brought\n", "")
    assert check_disk(data) == 0
    assert not (data / "admin.sock").exists()
    with running(data, UNLIMITED) as second:
        answer = second.get("/old/dot-0007.png")
        assert answer.status == 301
        assert second.get(answer.headers["Location"]).body == dot(7)
        assert brought(data, "folder", tmp_path / "in", "--to", "ann@example.org").outcomes("there") == run.outcomes(
            "brought"
        )


def test_links_can_be_added_to_what_has_come_before(server, tmp_path):
    dots(tmp_path, 2, begin=860)
    brought(server.data, "folder", tmp_path, "--nobody")
    assert server.get("/later/dot-0860.png").status == 404
    run = brought(server.data, "folder", tmp_path, "--nobody", "--old-path", "/later/")
    assert len(run.outcomes("there")) == 2
    assert server.get("/later/dot-0860.png").status == 301


def test_the_data_directory_is_never_brought(server, tmp_path):
    home = server.data.parent
    (home / "beside").mkdir()
    dots(home / "beside", 2, begin=880)
    run = brought(server.data, "folder", home, "--nobody", "--dry-run", code=3)
    assert {item.partition("/")[0] for item in run.outcomes("would_bring")} == {"beside"}


def test_lines_of_json(server, tmp_path):
    dots(tmp_path, 2, begin=890)
    line, env = command(server.data, "folder", tmp_path, "--nobody", "--json")
    done = subprocess.run(line, env=env, cwd=ROOT, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == 3
    assert b'{"summary": {"brought": 2,' in done.stdout.splitlines()[-1]


def no_rights_of_root() -> None:
    """Give up what lets root read other people's files, as a hardened service has."""
    for capability in (DAC_OVERRIDE, DAC_READ_SEARCH):
        assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give its rights up")
def test_root_brings_what_the_service_cannot_read(tmp_path):
    pictures = tmp_path / "private"
    dots(pictures, 5)
    for path in (*pictures.iterdir(), pictures):
        path.chmod(0o700)
        os.chown(path, NOBODY, NOBODY)
    refused = subprocess.run(["ls", pictures], preexec_fn=no_rights_of_root, capture_output=True)
    assert refused.returncode != 0
    server = Server(tmp_path / "data", UNLIMITED, preexec=no_rights_of_root)
    try:
        server.start()
        assert brought(server.data, "folder", pictures, "--nobody").out == "pictures: 5 brought\n"
    finally:
        server.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root meets data that is not its own")
def test_root_leaves_nothing_in_the_data_of_a_service_that_is_stopped(tmp_path):
    data = tmp_path / "data"
    with running(data, UNLIMITED):
        pass
    dots(tmp_path / "in", 1)
    for path in (*data.rglob("*"), data):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    before = sorted(data.rglob("*"))
    refused = brought(data, "folder", tmp_path / "in", "--nobody", code=1)
    assert "belongs to" in refused.err
    assert sorted(data.rglob("*")) == before
