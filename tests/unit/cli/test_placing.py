"""What root does in directories of others: nobody there may have it done to something else."""

import contextlib
import os
import pwd
import subprocess
import sys
import time

import pytest

from imgpro.cli import installing, placing, reaching
from imgpro.errors import ConfigError, OperatorError
from imgpro.settings import Backup, Settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root does such things")
NOBODY = pwd.getpwnam("nobody")
# Waits until the first folder is gone, and has the path lead elsewhere from then on.
EXCHANGE = """
import os, sys
path, other = sys.argv[1:]
print(flush=True)
while os.path.exists(f"{path}/blobs"):
    pass
os.rename(path, f"{path}-away")
os.symlink(other, path)
"""
# Puts a link in the place of a directory, again and again.
SWAP = """
import contextlib, os, sys
path, other = sys.argv[1:]
for number in range(10**9):
    with contextlib.suppress(OSError):
        os.rename(path, f"{path}{number}")
        os.symlink(other, path)
"""


@pytest.fixture
def home(tmp_path):
    """A directory that belongs to somebody who is not root."""
    path = tmp_path / "home"
    path.mkdir()
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    return path


def link(path, target, uid=NOBODY.pw_uid):
    path.symlink_to(target)
    os.chown(path, uid, -1, follow_symlinks=False)


def test_a_link_of_somebody_gives_nothing_away(tmp_path, home):
    target = tmp_path / "spool"
    target.mkdir()
    link(home / "img", target)
    link(home / "up", tmp_path)
    for path in (home / "img", home / "up" / "spool", home / "up" / "new" / "img"):
        with pytest.raises(OperatorError, match="a link that is not root's"):
            placing.make_data_directory(path, NOBODY)
    assert target.stat().st_uid == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "spool"]


def test_the_directory_of_backups_is_given_and_nothing_in_its_place(tmp_path, home, capsys):
    victim = tmp_path / "victim"
    victim.mkdir()
    link(home / "up", tmp_path)

    def make(path):
        placing.make_backup_directory(Settings(backup=Backup(to=str(path))), NOBODY)
        return capsys.readouterr().err

    make(home / "backups")
    assert (home / "backups").stat().st_uid == NOBODY.pw_uid
    assert "a link that is not root's" in make(home / "up" / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "victim"]
    with subprocess.Popen([sys.executable, "-c", SWAP, home / "b", victim]) as swapping:
        try:
            until = time.monotonic() + 2
            while time.monotonic() < until:
                make(home / "b")
                with contextlib.suppress(OSError):
                    (home / "b").unlink()
        finally:
            swapping.kill()
    assert victim.stat().st_uid == 0


def test_links_of_root_are_followed_and_what_is_missing_is_made(tmp_path, home):
    link(home / "disk", tmp_path, 0)
    link(tmp_path / "images", "disks/one", 0)
    held = reaching.opened(home / "disk" / "images" / "img", make=True)
    try:
        assert reaching.path_of(held) == tmp_path / "disks" / "one" / "img"
        assert os.fstat(held).st_mode & 0o777 == 0o750
    finally:
        os.close(held)
    link(tmp_path / "round", "round", 0)
    with pytest.raises(OperatorError):
        reaching.opened(tmp_path / "round" / "img")


def test_emptying_stays_in_the_directory_that_it_began_in(tmp_path, home):
    data = home / "img"
    for name in ("blobs", "cache", "tmp", "backups"):
        (data / name).mkdir(parents=True)
        (tmp_path / "var" / name).mkdir(parents=True)
        (tmp_path / "var" / name / "precious").write_text("")
    for number in range(2000):
        (data / "blobs" / str(number)).touch()
    (data / "FORMAT").write_text("")
    command = [sys.executable, "-c", EXCHANGE, str(data), str(tmp_path / "var")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        time.sleep(0.05)
        placing.empty_data_directory(data)
        assert other.wait(20) in (0, 1)  # 1: it came too late
    assert len(list((tmp_path / "var").glob("*/precious"))) == 4


def test_what_is_not_imgpros_is_left(tmp_path):
    for name in ("FORMAT", "imgpro.db", "imgpro.db-wal", "holiday.txt"):
        (tmp_path / name).write_text("")
    assert placing.empty_data_directory(tmp_path) == [str(tmp_path / "holiday.txt")]
    assert os.listdir(tmp_path) == ["holiday.txt"]
    assert placing.empty_data_directory(tmp_path) == [str(tmp_path / "holiday.txt")]
    assert placing.empty_data_directory(tmp_path / "none") == []


def test_a_file_of_the_system_is_never_more_open_than_it_is_meant(tmp_path):
    secret, elsewhere = tmp_path / "config.toml", tmp_path / "elsewhere"
    secret.with_name(".config.toml.new").symlink_to(elsewhere)
    assert placing.write(secret, "password", 0o640, (0, NOBODY.pw_gid))
    assert (secret.stat().st_gid, secret.stat().st_mode & 0o777) == (NOBODY.pw_gid, 0o640)
    assert not elsewhere.exists()
    assert not placing.write(secret, "password", 0o640)


@pytest.mark.parametrize(
    ("data", "listen"),
    [("/srv/img\n[Service]\nUser=root", ()), ("/srv/a\x1b[2J", ()), (None, ("unix:/run/a\nMark=1",))],
)
def test_no_line_is_brought_into_a_unit(data, listen):
    with pytest.raises(ConfigError):
        installing.choose(data, listen, None)
