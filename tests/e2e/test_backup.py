"""Backups by command, with a real server at work: what is in them, what is new, what is wrong and said to be."""

import json
import shutil
import sqlite3
from pathlib import Path
from random import Random

import pytest

from imgpro.store.target_directory import DirectoryTarget
from tests.backups import answer, backup, box, check_box, check_served, flip, imgpro, imgpro_apart, stored
from tests.crash.disks import disk
from tests.law import check_disk
from tests.load import Load, small_png
from tests.servers import UNLIMITED, blobs, running

OTHER_PLACE = "the running server goes by another backup.to than the settings here: it was "


@pytest.fixture
def dice():
    return Random(3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A box with six pictures that a test takes a copy of."""
    folder = tmp_path_factory.mktemp("model")
    return folder / "data", box(folder / "data")


@pytest.fixture
def full_box(tmp_path, model):
    """A box, a place for backups, and the pictures."""
    shutil.copytree(model[0], tmp_path / "data")
    return tmp_path / "data", tmp_path / "nas", dict(model[1])


@pytest.fixture
def backed_up(full_box):
    """A box and the place of its first backup."""
    data, nas, _ = full_box
    backup("create", "--data", data, "--to", nas)
    return data, nas


def newest(place: Path) -> Path:
    return max((place / "backups").iterdir())


def test_the_second_one_copies_only_what_is_new(tmp_path, full_box, dice):
    data, nas, pictures = full_box
    first = answer("create", "--data", data, "--to", nas)
    assert (first["new_blobs"], first["missing"]) == (6, 0)
    written = {path: path.stat().st_ino for path in stored(nas)}
    with running(data, UNLIMITED) as server:
        body = small_png(dice)
        made = server.must_upload(body, "new.png")
        pictures[made["id"]] = made["src"].removeprefix(server.base), body
        second = answer("create", "--data", data, "--to", nas)
    assert (second["new_blobs"], second["new_bytes"], second["blobs"]) == (1, len(body), 7)
    assert {path: path.stat().st_ino for path in written} == written, "what was there was written again"
    # Real copies, not second names of the same bytes: those would rot together.
    assert all(path.stat().st_nlink == 1 for path in stored(nas))
    rows = answer("list", "--data", data, "--from", nas)
    assert [(row["state"], row["images"]) for row in rows] == [("whole", 6), ("whole", 7)]
    assert answer("verify", "--data", data, "--from", nas)["blobs"] == 7
    assert answer("verify", first["backup"], "--data", data, "--from", nas)["blobs"] == 6
    backup("restore", "--data", tmp_path / "new", "--from", nas)
    check_box(tmp_path / "new", pictures)


def test_while_people_upload_and_delete(tmp_path):
    data, nas = tmp_path / "data", tmp_path / "nas"
    with running(data, UNLIMITED) as server:
        load = Load(server, 4).start()
        load.wait_for(60)
        for _ in range(3):
            before = dict(load.kept)
            made = answer("create", "--data", data, "--to", nas)
            gone = set(load.deleted) | set(load.unsure)
            load.wait_for(len(load.kept) + len(load.deleted) + 20)
        load.stop()
        assert not load.wrong
        assert answer("verify", "--data", data, "--from", nas)["bad"] == 0
        assert answer("prune", "--keep", "1", "--data", data, "--from", nas)["left"] == 1
        assert answer("verify", "--data", data, "--from", nas)["backup"] == made["backup"]
    new = tmp_path / "new"
    backup("restore", "--data", new, "--from", nas)
    with running(new, UNLIMITED) as server:
        check_served(server, {one.id: (one.path, one.body) for one in before.values() if one.id not in gone})
        for one in load.deleted.values():
            assert server.get(one.path).status in (200, 404)
    assert check_disk(new) == 0


def test_in_the_data_directory_itself_it_takes_no_room(full_box):
    data, _, pictures = full_box
    made = answer("create", "--data", data)
    place = data / "backups" / "repository"
    assert made["place"] == str(place)
    assert [path.stat().st_nlink for path in stored(place)] == [2] * 6
    assert [path.stat().st_mode & 0o777 for path in blobs(data)] == [0o440] * 6
    (data / "imgpro.db").unlink()
    for path in blobs(data)[:3]:
        path.unlink()
    refused = imgpro_apart("run", "--data", data, "--listen", "127.0.0.1:0")
    assert (refused.returncode, "imgpro backup restore" in refused.stderr) == (65, True), refused
    assert answer("restore", "--data", data, "--force")["here"] == 3
    check_box(data, pictures)


def test_what_is_bad_here_is_not_backed_up_as_good(full_box):
    data, nas, _ = full_box
    flipped, lost = blobs(data)[:2]
    flip(flipped)
    lost.unlink()
    done = backup("create", "--data", data, "--to", nas, code=3)
    assert f"altered  {flipped.name}" in done.stderr
    assert f"missing  {lost.name}" in done.stderr
    assert "2 of 6 originals" in done.stderr
    assert {path.name for path in stored(nas)} == {path.name for path in blobs(data)} - {flipped.name, lost.name}
    assert "LACKS 2" in backup("list", "--data", data, "--from", nas).stdout
    manifest = json.loads((newest(nas) / "manifest.json").read_text())
    assert sorted(manifest["missing"]) == sorted([flipped.name, lost.name])
    backup("verify", "--data", data, "--from", nas, code=3)


def test_an_older_good_copy_stays_when_the_original_rots(full_box):
    data, nas, pictures = full_box
    backup("create", "--data", data, "--to", nas)
    for path in blobs(data):
        flip(path)
    backup("create", "--data", data, "--to", nas)
    backup("verify", "--data", data, "--from", nas)
    assert answer("restore", "--data", data, "--from", nas, "--force")["fetched"] == 6
    check_box(data, pictures)


def test_a_copy_that_rots_is_found_and_made_again(full_box):
    data, nas, _ = full_box
    backup("create", "--data", data, "--to", nas)
    flipped, lost, cut = stored(nas)[:3]
    flip(flipped)
    lost.unlink()
    cut.chmod(0o600)
    cut.write_bytes(cut.read_bytes()[:-1])
    done = backup("verify", "--data", data, "--from", nas, code=3)
    assert sorted(done.stdout.split("\n")[:-1]) == sorted(
        [f"altered  {flipped.name}", f"missing  {lost.name}", f"altered  {cut.name}"]
    )
    assert answer("create", "--data", data, "--to", nas)["new_blobs"] == 3
    assert answer("verify", "--data", data, "--from", nas)["blobs"] == 6
    assert list(nas.glob("bad/*")) == []


@pytest.mark.parametrize("name", ["imgpro.db", "digests", "manifest.json", "secret.key", "FORMAT"])
def test_a_backup_with_a_flipped_bit_in_its_own_files_is_refused(tmp_path, backed_up, name):
    data, nas = backed_up
    path = newest(nas) / name
    flip(path, at=5000 if name == "imgpro.db" else 1)
    new = tmp_path / "new"
    backup("verify", "--data", data, "--from", nas, code=65)
    if name != "digests":  # which is for thinning out alone
        backup("restore", "--data", new, "--from", nas, code=65)
        assert not list(new.glob("[Fi]*[Tb]"))  # FORMAT, imgpro.db
    if name in ("digests", "manifest.json"):
        backup("create", "--data", data, "--to", nas)
        backup("prune", "--keep", "2", "--data", data, "--from", nas, code=65)
        assert len(stored(nas)) == 6, "what an unreadable backup needs was thrown away"


def test_places_that_are_not_ours(tmp_path, backed_up):
    data, nas = backed_up
    other = tmp_path / "other"
    box(other, 1)
    refused = backup("create", "--data", other, "--to", nas, code=65)
    assert "another imgpro" in refused.stderr
    holiday = tmp_path / "holiday"
    holiday.mkdir()
    (holiday / "beach.jpg").write_bytes(b"mine")
    assert "is not empty" in backup("create", "--data", data, "--to", holiday, code=65).stderr
    assert [path.name for path in holiday.iterdir()] == ["beach.jpg"]
    assert "lies in the data directory" in backup("create", "--data", data, "--to", data / "blobs", code=74).stderr
    assert "no directory" in backup("create", "--data", data, "--to", tmp_path / "a" / "b", code=74).stderr
    assert "no backups" in backup("restore", "--data", tmp_path / "n", "--from", holiday, code=65).stderr


def test_a_disk_that_is_not_mounted_is_not_filled(tmp_path, backed_up):
    data, nas = backed_up
    nas.rename(tmp_path / "unplugged")
    for make in (lambda: None, nas.mkdir):  # nothing there, or the empty directory that it was mounted at
        make()
        refused = backup("create", "--data", data, "--to", nas, code=74)
        assert "is not mounted" in refused.stderr
        assert "--begin-anew" in refused.stderr
        assert list(nas.glob("*")) == []
    backup("create", "--data", data, "--to", nas, "--begin-anew")
    assert len(stored(nas)) == 6


def test_a_place_that_cannot_be_written_to(tmp_path, full_box):
    data = full_box[0]
    with disk(tmp_path / "mount", 48) as nas:
        place = nas.root / "imgpro"
        backup("create", "--data", data, "--to", place)
        nas.become_read_only()
        refused = backup("create", "--data", data, "--to", place, code=74)
        assert str(place) in refused.stderr
        assert "Read-only" in refused.stderr
        assert answer("verify", "--data", data, "--from", place)["blobs"] == 6
        backup("restore", "--data", tmp_path / "new", "--from", place)


def test_a_place_that_is_full(tmp_path, full_box, dice):
    data = full_box[0]
    with disk(tmp_path / "mount", 64) as nas:
        place = nas.root / "imgpro"
        first = answer("create", "--data", data, "--to", place)["backup"]
        with running(data, UNLIMITED) as server:
            body = small_png(dice, 1000)
            server.must_upload(body, "large.png")
            with nas.filled(leave_bytes=1_000_000):  # not even the database
                assert "no room" in backup("create", "--data", data, "--to", place, code=74).stderr
            with nas.filled(leave_bytes=18_000_000):
                for _ in range(6):
                    server.must_upload(small_png(dice, 1000), "large.png")
                refused = backup("create", "--data", data, "--to", place, code=74)
                assert "it is full" in refused.stderr
                assert "prune" in refused.stderr
                assert list((place / "partial").iterdir()) == [], "what did not fit is in the way"
                assert answer("verify", "--data", data, "--from", place)["backup"] == first
            assert answer("create", "--data", data, "--to", place)["blobs"] == 13
            assert answer("verify", "--data", data, "--from", place)["blobs"] == 13


def test_backups_are_thinned_out(tmp_path, backed_up, dice):
    data, nas = backed_up
    with running(data, UNLIMITED) as server:
        going = server.must_upload(small_png(dice), "going.png")
        backup("create", "--data", data, "--to", nas)
        server.request("POST", going["delete_url"].removeprefix(server.base))
        backup("create", "--data", data, "--to", nas)
        half = nas / "backups" / "20200101T000000Z"
        half.mkdir()
        (half / "digests").write_bytes(bytes(32))
        assert answer("list", "--data", data, "--from", nas)[0] == {"backup": half.name, "state": "incomplete"}
        done = answer("prune", "--keep", "1", "--data", data, "--from", nas)
        assert (len(done["removed"]), done["blobs"]) == (3, 1), done
    assert len(stored(nas)) == 6
    assert not half.exists()
    backup("verify", "--data", data, "--from", nas)


def test_one_that_lacks_pictures_does_not_drive_out_the_last_that_has_them(backed_up, dice):
    data, nas = backed_up
    whole = newest(nas).name
    with running(data, UNLIMITED) as server:
        server.must_upload(small_png(dice), "lost.png")
        known = {path.name for path in stored(nas)}
        next(path for path in blobs(data) if path.name not in known).unlink()
        backup("create", "--data", data, "--to", nas, code=3)
    done = answer("prune", "--keep", "1", "--data", data, "--from", nas)
    assert (done["removed"], done["left"]) == ([], 2)
    assert whole in {path.name for path in (nas / "backups").iterdir()}


def test_what_is_short_lived_is_not_in_it(tmp_path, dice):
    data, nas = tmp_path / "data", tmp_path / "nas"
    with running(data, UNLIMITED) as server:
        server.must_upload(small_png(dice))
        server.new_key("ann@example.org", verified=False)  # a letter and a link wait
        backup("create", "--data", data, "--to", nas)
    with sqlite3.connect(data / "imgpro.db") as conn:
        assert conn.execute("SELECT count(*) FROM upload_log").fetchone()[0] == 1
        assert conn.execute("SELECT count(*) FROM links").fetchone()[0] > 0
    with sqlite3.connect(f"file:{newest(nas) / 'imgpro.db'}?mode=ro&immutable=1", uri=True) as conn:
        for table in ("sessions", "links", "mail", "replays", "upload_log"):
            assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
        assert conn.execute("SELECT count(*) FROM keys").fetchone() == (1,)
    modes = {
        path.name: path.stat().st_mode & 0o077 for path in nas.rglob("*") if path.is_file() and "lock" not in path.name
    }
    assert set(modes.values()) == {0}, modes


@pytest.mark.parametrize("point", ["backup.copied", "backup.blobs", "backup.unmarked"])
def test_a_kill_in_the_middle_leaves_what_was_there(tmp_path, backed_up, point, dice):
    data, nas = backed_up
    with running(data, {**UNLIMITED, "IMGPRO_CRASH_AT": point}) as server:
        server.must_upload(small_png(dice), "new.png")
        assert backup_fails(data, nas) != 0
        server.process.wait(30)
    rows = answer("list", "--data", data, "--from", nas)
    assert [row["state"] for row in rows] == ["whole", *["incomplete"] * (point == "backup.unmarked")]
    assert answer("verify", "--data", data, "--from", nas)["blobs"] == 6
    made = answer("create", "--data", data, "--to", nas)
    assert made["new_blobs"] == (1 if point == "backup.copied" else 0)
    assert answer("verify", "--data", data, "--from", nas)["blobs"] == 7
    assert list((nas / "partial").iterdir()) == []


def backup_fails(data: Path, nas: Path) -> int:
    return imgpro("backup", "create", "--data", data, "--to", nas).returncode


def test_one_at_a_time(tmp_path, backed_up):
    data, nas = backed_up
    with DirectoryTarget(nas).lock("changing"):
        for command in ("create", "prune"):
            flag = "--to" if command == "create" else "--from"
            assert "under way" in backup(command, "--data", data, flag, nas, code=74).stderr
        backup("verify", "--data", data, "--from", nas)
    with DirectoryTarget(nas).lock("reading", shared=True):
        assert "under way" in backup("prune", "--data", data, "--from", nas, code=74).stderr
        backup("create", "--data", data, "--to", nas)


def test_settings_that_cannot_be_are_refused(tmp_path):
    for at in ("25:99", "3:30", "noon", "24:00"):
        done = imgpro("config", "check", env={"IMGPRO_BACKUP_AT": at})
        assert (done.returncode, "backup.at" in done.stdout + done.stderr) == (78, True), done
    done = imgpro("config", "check", env={"IMGPRO_BACKUP_TO": "nas/pictures"})
    assert (done.returncode, "whole path" in done.stdout + done.stderr) == (78, True), done
    done = imgpro("config", "check", env={"IMGPRO_BACKUP_TO": "/mnt/nas", "IMGPRO_BACKUP_AT": "23:59"})
    assert done.returncode == 0, done


def test_commands_that_make_no_sense(tmp_path, backed_up):
    data, nas = backed_up
    backup("verify", "20200101T000000Z", "--data", data, "--from", nas, code=65)
    backup("restore", "../../etc", "--data", tmp_path / "n", "--from", nas, code=65)
    backup("prune", "--keep", "0", "--data", data, code=2)
    backup("create", "--data", tmp_path / "nowhere", code=10)
    backup("create", "--data", data, "--to", "", code=74)


def test_the_command_knows_another_place_than_the_server(tmp_path, full_box):
    data, nas, _ = full_box
    elsewhere = {"IMGPRO_BACKUP_TO": str(tmp_path / "elsewhere")}
    with running(data, {**UNLIMITED, "IMGPRO_BACKUP_TO": str(nas)}):
        made = imgpro("backup", "create", "--data", data, env=elsewhere)
        assert (made.returncode, made.stderr) == (0, f"imgpro: {OTHER_PLACE}{nas}\n")
        refused = imgpro("backup", "prune", "--keep", "1", "--data", data, env=elsewhere)
        assert refused.returncode == 1
        assert f"go to {nas}, and the settings here name another place" in refused.stderr
        backup("prune", "--keep", "1", "--data", data, "--from", nas)
    assert not (tmp_path / "elsewhere").exists()


def test_a_place_where_even_the_first_backup_failed_is_missed_when_it_is_gone(tmp_path, backed_up):
    """As a disk that was full, and then was not mounted: the next backup must not land on what lies below."""
    data, _ = backed_up
    place = tmp_path / "usb"
    lost = imgpro_apart("backup", "create", "--data", data, "--to", place, env={"IMGPRO_CRASH_AT": "backup.blobs"})
    assert lost.returncode != 0
    shutil.rmtree(place)
    place.mkdir()
    said = backup("create", "--data", data, "--to", place, code=74).stderr
    assert "its disk is not mounted" in said
    assert f"imgpro backup create --to {place} --begin-anew" in said
    assert list(place.iterdir()) == []
    backup("create", "--data", data, "--to", place, "--begin-anew")
