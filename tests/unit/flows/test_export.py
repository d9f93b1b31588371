"""An export brought up to date: what stays, moves, goes, and what is somebody else's. In this process, without a gallery."""

import asyncio
import fcntl
import json
import os
import shutil

import pytest

from imgpro.errors import Busy, DataDirMissing, OperatorError, StorageFault
from imgpro.flows.errands import Progress
from imgpro.flows.export import Export
from imgpro.flows.export_index import Choice
from imgpro.flows.export_plan import Source
from imgpro.store.layout import read_marker
from imgpro.store.queries_export import Pictures
from tests.exports import by_name, change, check, copied, delete, files, filled, here, index
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, running


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A data directory with pictures of every kind, not to be changed."""
    return filled(tmp_path_factory.mktemp("shelf") / "data")


@pytest.fixture
def data(shelf, tmp_path):
    return copied(shelf, tmp_path / "data")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def blob(data, picture):
    return data / "blobs" / picture["digest"][:2] / picture["digest"][2:4] / picture["digest"]


def test_names(shelf, out):
    here(shelf, out)
    check(out)
    named = by_name(out)
    assert named["harbour.jpg"]["file"] == "ann@example.org/trip/harbour.jpg"
    assert named["window.png"]["file"] == "ann@example.org/_aux/window.png"  # a device of Windows
    found = {"without-account/twin.png", "without-account/twin (2).png", "ben@example.org/IMG.png"}
    assert found | {"ben@example.org/img (2).png", "ben@example.org/_con.png"} <= files(out)


@pytest.mark.parametrize(
    ("choice", "count"),
    [
        (Choice(("ann@example.org",)), 7),
        (Choice(("ann@example.org", "ben@example.org")), 17),
        (Choice(public_only=True), 18),
        (Choice(namespace="trip"), 1),
        (Choice(tag="sea"), 2),
        (Choice(("ann@example.org",), True, "trip", "sea"), 1),
        (Choice(namespace="nowhere"), 0),
    ],
    ids=["one", "two", "public", "namespace", "tag", "all", "none"],
)
def test_a_part(shelf, out, choice, count):
    assert here(shelf, out, choice).pictures == count
    check(out)


def test_without_addresses_no_file_has_one(shelf, out):
    done = here(shelf, out, Choice(addresses=False))
    assert done.pictures == 19
    check(out)
    assert b"example.org" not in (out / "index.jsonl").read_bytes()
    folders = {file.partition("/")[0] for file in files(out)}
    assert len(folders) == 3
    assert all(folder.startswith("acc_") for folder in folders - {"without-account"})
    with pytest.raises(OperatorError, match="holds an export of other pictures: without addresses"):
        here(shelf, out)


def test_what_has_ended_or_is_being_deleted_is_left_out(data, out):
    change(data, "UPDATE images SET expires_ms = created_ms + 1 WHERE name = 'film.gif'")
    change(data, "UPDATE accounts SET leaving_ms = 1 WHERE email = 'ben@example.org'")
    assert here(data, out).pictures == 8
    with pytest.raises(OperatorError, match="There is no account"):
        here(data, out, Choice(("ben@example.org",)), force=True)


def test_again_changes_only_what_differs(data, out):
    assert here(data, out).added == 19
    before = by_name(out)
    inodes = {name: (out / picture["file"]).stat().st_ino for name, picture in before.items()}
    assert here(data, out).kept == 19
    check(out)
    (out / "ann@example.org" / "mine.txt").write_text("not of an export")
    (out / before["paint.bmp"]["file"]).write_bytes(b"painted over")
    (out / before["film.webp"]["file"]).unlink()
    change(data, "UPDATE images SET namespace = 'away' WHERE name = 'harbour.jpg'")
    change(data, "UPDATE images SET name = 'fenster.png', description = 'other' WHERE name = 'window.png'")
    change(data, "UPDATE images SET tags = '[]', public = 0 WHERE name = 'logo.svg'")
    delete(data, "film.gif")
    said = []
    done = here(data, out, said=said)
    assert (done.added, done.moved, done.kept, done.removed, done.left_alone) == (2, 2, 14, 1, 1)
    assert said == ["left as it is: ann@example.org/paint.bmp, which was changed after it was exported."]
    after = by_name(out)
    assert after["harbour.jpg"]["file"] == "ann@example.org/away/harbour.jpg"
    assert after["fenster.png"]["description"] == "other"
    assert after["logo.svg"]["public"] is False
    assert after["paint.bmp"]["file"] == "ann@example.org/paint (2).bmp"
    assert (out / "ann@example.org/paint.bmp").read_bytes() == b"painted over"
    assert not (out / "ann@example.org" / "trip").exists()
    inodes["fenster.png"] = inodes["window.png"]
    for name in after.keys() - {"paint.bmp", "film.webp"}:
        assert (out / after[name]["file"]).stat().st_ino == inodes[name], name  # moved, or not touched at all
    (out / "ann@example.org" / "mine.txt").unlink()
    (out / "ann@example.org" / "paint.bmp").unlink()
    check(out)


def test_an_index_that_leads_out_of_the_folder(shelf, out, tmp_path):
    here(shelf, out)
    victim = tmp_path / "elsewhere" / "keep.txt"
    victim.parent.mkdir()
    victim.write_text("not of an export")
    seen = victim.stat()
    header, first, second, *others = (out / "index.jsonl").read_text().splitlines()
    led = {"file": "../elsewhere/keep.txt", "bytes": seen.st_size, "created_ms": seen.st_mtime_ns // 1_000_000}
    gone = json.dumps({**json.loads(first), **led, "id": "zzzzzzzzzzzz"})
    moved = json.dumps({**json.loads(second), **led, "name": "other.png"})
    (out / "index.jsonl").write_text("\n".join([header, first, gone, moved, *others]) + "\n")
    (out / json.loads(second)["file"]).unlink()
    done = here(shelf, out)
    assert (done.kept, done.added, done.moved, done.removed) == (18, 1, 0, 0)
    assert victim.read_text() == "not of an export"
    check(out)


def test_names_change_places(data, out):
    change(data, "UPDATE images SET namespace = NULL, name = 'a.png' WHERE name = 'window.png'")
    change(data, "UPDATE images SET name = 'b.png' WHERE name = 'IMG.png'")
    change(data, "UPDATE images SET account = NULL, namespace = NULL, tags = '[]' WHERE name IN ('a.png', 'b.png')")
    here(data, out)
    change(data, "UPDATE images SET name = iif(name = 'a.png', 'b.png', 'a.png') WHERE name IN ('a.png', 'b.png')")
    assert here(data, out).moved == 2
    check(out)
    assert here(data, out).moved == 0


def test_times_that_a_copy_lost_are_put_back(shelf, out):
    here(shelf, out)
    for path in files(out):
        os.utime(out / path)
    assert here(shelf, out).kept == 19
    check(out)


def test_bytes_that_changed_under_the_same_length_and_another_time_are_somebody_elses(shelf, out):
    here(shelf, out)
    path = out / "without-account" / "twin.png"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert here(shelf, out).left_alone == 1
    assert path.read_bytes() == content
    path.unlink()
    check(out)


def test_a_twin_keeps_its_name_when_the_other_goes(data, out):
    here(data, out)
    twins = {picture["id"]: picture["file"] for picture in index(out)[1] if picture["name"] == "twin.png"}
    first = next(key for key, file in twins.items() if "(2)" not in file)
    change(data, "DELETE FROM images WHERE id = ?", first)
    here(data, out)
    left = {picture["id"]: picture["file"] for picture in index(out)[1] if picture["name"] == "twin.png"}
    assert left == {key: file for key, file in twins.items() if key != first}


def test_what_is_deleted_between_its_row_and_its_bytes_is_no_damage(data, out, monkeypatch):
    page, pages, said = Pictures.page, [], []

    def read(self, *asked):
        rows = page(self, *asked)
        pages.append(rows)
        if len(pages) == 3:  # after the survey's two
            image = next(row.image for row in rows if row.image.name == "film.gif")
            delete(data, "film.gif")
            blob(data, {"digest": image.blob.digest}).unlink()
        return rows

    monkeypatch.setattr(Pictures, "page", read)
    done = here(data, out, said=said)
    assert (done.pictures, done.damaged, done.deleted_meanwhile, said) == (18, 0, 1, [])
    check(out)


def test_what_comes_and_goes_while_it_runs(data, out):
    with running(data, UNLIMITED) as server:
        new = encoded(make_image("RGB", (50, 50)), "PNG")
        source = Source(data / "imgpro.db", data / "blobs", data / "cache", read_marker(data).instance_id, "")
        export = Export(source, Choice(), Progress(), [].append)
        survey = export._survey

        def surveyed():
            plan = survey()
            server.must_upload(new, "late.png")
            change(data, "DELETE FROM images WHERE name = 'film.gif'")
            digest = next(
                path for path in (data / "blobs").rglob("*") if path.is_file() and path.read_bytes()[:4] == b"GIF8"
            )
            digest.unlink()
            return plan

        export._survey = surveyed
        done = asyncio.run(export.run(out, None, force=False))
    assert (done.pictures, done.damaged) == (18, 0)
    assert "late.png" not in by_name(out)
    check(out)
    assert here(data, out).added == 1


@pytest.mark.parametrize("damage", ["flipped", "short", "missing"])
def test_a_damaged_original_is_named_and_never_passed_on(data, out, damage, tmp_path):
    here(data, out)
    hurt = by_name(out)["harbour.jpg"]
    path = blob(data, hurt)
    path.chmod(0o640)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flipped" else content[:-1])
    if damage == "missing":
        path.unlink()
    said = []
    done = here(data, tmp_path / "new", said=said)
    assert (done.damaged, done.damaged_pictures, done.pictures) == (1, [hurt["id"]], 18)
    assert said[0].startswith(f"left out: harbour.jpg ({hurt['id']}): its bytes are ")
    check(tmp_path / "new")
    assert "harbour.jpg" not in by_name(tmp_path / "new")
    # Where a good copy was exported before, it stays.
    assert here(data, out).damaged == 0
    check(out)


# What is refused


def test_a_folder_of_somebody_else(shelf, out):
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(OperatorError, match="is not empty and holds no export"):
        here(shelf, out)
    assert [path.name for path in out.iterdir()] == ["letter.txt"]
    (out / "without-account").mkdir()
    (out / "without-account" / "twin.png").write_bytes(b"mine")
    here(shelf, out, force=True)
    assert (out / "without-account" / "twin.png").read_bytes() == b"mine"
    assert {"without-account/twin (2).png", "without-account/twin (3).png", "letter.txt"} <= files(out)


@pytest.mark.parametrize("name", ["index.html", "index.jsonl", "gallery"])
def test_never_over_what_only_looks_like_ours(shelf, out, name):
    out.mkdir()
    (out / name).write_text("my page")
    with pytest.raises(Exception, match=r"which an export writes|as the index of an export does"):
        here(shelf, out, force=True)
    assert (out / name).read_text() == "my page"
    assert [path.name for path in out.iterdir()] == [name]


def test_an_export_of_other_pictures_or_of_another_server(data, out):
    here(data, out, Choice(("ann@example.org",)))
    with pytest.raises(OperatorError, match="holds an export of other pictures: of ann"):
        here(data, out)
    check(out)
    here(data, out, Choice(("ben@example.org",)), force=True)
    check(out)
    assert {picture["account"] for picture in index(out)[1]} == {"ben@example.org"}
    marker = data / "FORMAT"
    marker.chmod(0o600)
    marker.write_text(marker.read_text().replace(read_marker(data).instance_id, "another"))
    with pytest.raises(OperatorError, match="another server"):
        here(data, out, force=True)


def test_links_in_the_way_are_not_followed(shelf, out, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    out.mkdir()
    (out / "ann@example.org").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFault, match="no folder of this export"):
        here(shelf, out, force=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_one_at_a_time(shelf, out):
    (out / ".imgpro-export").mkdir(parents=True)
    with (out / ".imgpro-export" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Busy):
            here(shelf, out)
    here(shelf, out)
    check(out)


def test_a_journal_that_was_cut_off_at_once_is_no_hindrance(shelf, out):
    (out / ".imgpro-export").mkdir(parents=True)
    (out / ".imgpro-export" / "placed.jsonl").write_bytes(b'{"imgpro_exp')
    here(shelf, out)
    check(out)


def test_a_rehearsal_writes_nothing(data, out):
    source = Source(data / "imgpro.db", data / "blobs", data / "cache", read_marker(data).instance_id, "")
    plan = Export(source, Choice(), Progress(), [].append).rehearse(out, force=False)
    assert (plan.pictures, plan.added) == (19, 19)
    assert not out.exists()
    here(data, out)
    delete(data, "film.gif")
    change(data, "UPDATE images SET name = 'hafen.jpg' WHERE name = 'harbour.jpg'")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    plan = Export(source, Choice(), Progress(), [].append).rehearse(out, force=False)
    assert (plan.pictures, plan.added, plan.moved, plan.kept, plan.removed) == (18, 0, 1, 17, 1)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_no_data(tmp_path):
    with pytest.raises(DataDirMissing):
        here(tmp_path / "none", tmp_path / "out")
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
