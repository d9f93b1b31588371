"""`imgpro upload --watch`: a folder, a real server that comes and goes, and a watcher that is killed."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.between import SWALLOW, between
from tests.patience import comes_true
from tests.servers import UNLIMITED, Server, running
from tests.terminals import IMGPRO, Person, heed_signals

FAULT = b'HTTP/1.1 500 Oops\r\nContent-Length: 44\r\n\r\n{"error":"server_error","message":"It fell"}'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server") / "data", UNLIMITED) as found:
        yield found


class Watch:
    """A person's running watcher. What it wrote is read from files, so that it never waits for us."""

    def __init__(self, person: Person, *args: str, address: str, key: str | None = None, **env: str) -> None:
        self._person = person
        self._out, self._err = person.home / "out.txt", person.home / "err.txt"
        own = {"IMGPRO_SERVER": address, **({"IMGPRO_KEY": key} if key else {}), **env}
        with self._out.open("ab") as out, self._err.open("ab") as err:
            self.process = subprocess.Popen(
                [*IMGPRO, "upload", "--watch", "shots", *args],
                env={**person.env, **own}, cwd=person.home, stdout=out, stderr=err, stdin=subprocess.DEVNULL,
                preexec_fn=heed_signals,
            )  # fmt: skip
        told = self.words.count("watching")
        assert self.wait(lambda: self.words.count("watching") > told or self.process.poll() is not None)

    @property
    def links(self) -> list[str]:
        return self._out.read_text().splitlines()

    @property
    def words(self) -> str:
        return self._err.read_text()

    def wait(self, condition, timeout_s: float = 30.0) -> bool:
        return comes_true(condition, timeout_s)

    def wait_for_links(self, count: int) -> bool:
        """Wait for so many links, not counting those that were shown again."""
        return self.wait(lambda: len(set(self.links)) >= count)

    def settle(self, server: Server, key: str) -> None:
        """Let it get done with all that is there: pictures go up in the order of their appearance, this mark last."""
        mark = f"mark-{os.urandom(4).hex()}.png"
        time.sleep(1.1)  # so that it has seen the others before
        self._person.picture(f"shots/{mark}")
        assert self.wait(lambda: mark in names(server, key))

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def person(tmp_path):
    (tmp_path / "shots").mkdir()
    return Person(tmp_path)


@pytest.fixture
def watching(person, server):
    """Start watchers that end with the test."""
    started = []

    def start(*args, address=server.base, key=None, **env):
        started.append(Watch(person, *args, address=address, key=key, **env))
        return started[-1]

    yield start
    for watch in started:
        watch.process.kill()
        watch.process.wait()


@pytest.fixture
def key(server):
    """A key of an account of one's own."""
    return server.new_key(f"a{os.urandom(4).hex()}@example.org")


def names(server, key):
    """Return the names of an account's pictures, oldest first."""
    return [image["name"] for image in server.api("GET", "/v1/media?limit=100", key=key).json()["data"]][::-1]


def stored(server, key):
    """Return the names of an account's pictures without the marks, oldest first."""
    return [name for name in names(server, key) if not name.startswith("mark-")]


def test_new_pictures_go_up_and_old_ones_stay(person, server, watching, key):
    person.picture("shots/old.png")
    watch = watching(key=key)
    content = person.picture("shots/new.png").read_bytes()
    for name in (".hidden.png", "x.png.part", "x.png.crdownload", "x.tmp", "notes.txt", "deep/below.png"):
        person.picture(f"shots/{name}")
    (person.home / "shots/empty.png").touch()
    assert watch.wait(lambda: len(watch.links) == 1)
    watch.settle(server, key)
    assert stored(server, key) == ["new.png"]
    assert server.get(watch.links[0]).body == content
    # What a browser or a tool finishes under its real name comes then.
    (person.home / "shots/x.png.part").rename(person.home / "shots/x.png")
    assert watch.wait(lambda: stored(server, key) == ["new.png", "x.png"])
    assert watch.end() == 0
    assert "Traceback" not in watch.words


def test_existing_and_recursive(person, server, watching, key):
    person.picture("shots/deep/old.png")
    watch = watching("--existing", "--recursive", key=key)
    assert watch.wait(lambda: len(watch.links) == 1)
    person.picture("shots/deep/er/new.png")
    assert watch.wait(lambda: len(watch.links) == 2)
    assert watch.end(signal.SIGINT) == 0
    # And a second time nothing is left to send.
    watch = watching("--existing", "--recursive", key=key)
    watch.settle(server, key)
    assert stored(server, key) == ["old.png", "new.png"]


def test_a_file_that_is_being_written_is_waited_for(person, server, watching, key):
    whole = person.picture("whole.png").read_bytes()
    watch = watching(key=key)
    with (person.home / "shots/slow.png").open("wb", buffering=0) as file:
        for at in range(0, len(whole), 1_000):
            file.write(whole[at : at + 1_000])
            time.sleep(0.5)
            assert watch.links == []
    assert watch.wait(lambda: len(watch.links) == 1)
    assert server.get(watch.links[0]).body == whole
    assert "slow.png" not in watch.words, "nor was a part of it sent and refused"


def test_pictures_wait_while_the_server_is_away(person, tmp_path, watching):
    with running(tmp_path / "data", UNLIMITED) as first:
        port, key = first.port, first.new_key("queue@example.org")
        watch = watching(address=first.base, key=key)
        person.picture("shots/0.png")
        assert watch.wait(lambda: len(watch.links) == 1)
        assert first.stop() == 0
        for number in range(1, 6):
            person.picture(f"shots/{number}.png")
            time.sleep(0.05)
        assert watch.wait(lambda: "cannot be reached" in watch.words)
        (person.home / "shots/2.png").unlink()
        (person.home / "shots/3.png").rename(person.home / "shots/three.png")
        (person.home / "shots/0.png").rename(person.home / "shots/zero.png")
        shutil.copy2(person.home / "shots/5.png", person.home / "shots/copy-of-5.png")
        time.sleep(2)
        again = Server(tmp_path / "data", UNLIMITED, "--listen", f"127.0.0.1:{port}")
        with contextlib.closing(again.start()):
            assert watch.wait(lambda: len(watch.links) == 5)
            watch.settle(again, key)
            assert watch.links[1:] == [link for link in watch.links if link != watch.links[0]]
            found = stored(again, key)
            fifth = "5.png" if "5.png" in found else "copy-of-5.png"  # one picture, whichever name it was seen under
            assert sorted(found) == sorted(["0.png", "1.png", "4.png", fifth, "three.png"])
            assert found.index("1.png") < found.index("4.png")
            assert watch.words.count("cannot be reached") == 1
            assert watch.words.count("takes pictures again") == 1
            assert watch.end() == 0


def test_what_waits_survives_the_watcher(person, server, watching, key):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    watch = watching(address=nobody, key=key)
    person.picture("shots/waits.png")
    assert watch.wait(lambda: "cannot be reached" in watch.words)
    assert watch.end() == 0
    assert "1 picture is waiting" in watch.words
    person.picture("shots/meanwhile.png")
    watch = watching(key=key)
    assert watch.wait(lambda: len(watch.links) == 2)
    assert stored(server, key) == ["waits.png", "meanwhile.png"]


@pytest.mark.crash
def test_a_killed_watcher_sends_none_twice_and_loses_none(person, server, watching, key):
    sent = [f"{number:02}.png" for number in range(24)]
    watch = watching(key=key)
    for number, name in enumerate(sent):
        person.picture(f"shots/{name}")
        if number % 4 == 3:
            # At a different moment each time: while it sees, sends, shows or writes down.
            assert watch.wait_for_links(number - 2)
            watch.process.kill()
            watch.process.wait()
            watch = watching(key=key)
    assert watch.wait_for_links(len(sent))
    watch.settle(server, key)
    assert sorted(stored(server, key)) == sent
    assert "Traceback" not in watch.words


def test_killed_between_the_answer_and_the_note(person, server, watching, key):
    """The server has stored it, the watcher has not heard: the one moment that only the key can save."""
    person.picture("shots/old.png")
    with between(server.port, [SWALLOW] * 20) as there:
        watch = watching(address=f"http://127.0.0.1:{there.port}", key=key)
        person.picture("shots/once.png")
        assert watch.wait(lambda: len(there.seen) >= 1)
        assert watch.wait(lambda: stored(server, key) == ["once.png"])
        watch.process.kill()
        watch.process.wait()
    watch = watching(key=key)
    assert watch.wait(lambda: len(watch.links) == 1)
    assert server.get(watch.links[0]).status == 200
    assert stored(server, key) == ["once.png"]
    watch.end()
    # With other options it is another request, and still not another picture.
    with between(server.port, [SWALLOW] * 20) as there:
        watch = watching(address=f"http://127.0.0.1:{there.port}", key=key)
        person.picture("shots/two.png")
        assert watch.wait(lambda: stored(server, key) == ["once.png", "two.png"])
        watch.process.kill()
        watch.process.wait()
    watch = watching("--tags", "late", key=key)
    assert watch.wait(lambda: "was stored before" in watch.words)
    watch.settle(server, key)
    assert stored(server, key) == ["once.png", "two.png"]


def test_what_is_refused_is_told_once(person, server, watching, key):
    watch = watching(key=key)
    person.picture("shots/broken.png", b"no picture")
    person.picture("shots/good.png")
    assert watch.wait(lambda: len(watch.links) == 1 and "broken.png" in watch.words)
    watch.settle(server, key)
    assert watch.words.count("broken.png") == 1
    assert watch.end() == 0
    watch = watching(key=key)
    watch.settle(server, key)
    assert watch.words.count("broken.png") == 1
    # Written anew it is another file.
    person.picture("shots/broken.png")
    assert watch.wait(lambda: stored(server, key) == ["good.png", "broken.png"])


def test_touched_moved_and_copied_files_are_not_sent_again(person, server, watching, key):
    old, shots = person.picture("shots/old.png"), person.home / "shots"
    watch = watching(key=key)
    sent = person.picture("shots/sent.png")
    assert watch.wait(lambda: len(watch.links) == 1)
    os.utime(old)
    os.utime(sent)
    watch.settle(server, key)
    old.rename(shots / "old-moved.png")
    sent.rename(shots / "sent-moved.png")
    shutil.copy2(shots / "sent-moved.png", shots / "sent-copied.png")
    watch.settle(server, key)
    assert stored(server, key) == ["sent.png"]
    # An edited picture is a new one.
    person.picture("shots/sent-moved.png")
    assert watch.wait(lambda: stored(server, key) == ["sent.png", "sent-moved.png"])


def test_a_picture_that_breaks_the_server_does_not_block_the_others(person, server, watching):
    with between(server.port, [FAULT] * 4) as there:
        watch = watching(address=f"http://127.0.0.1:{there.port}")
        person.picture("shots/0-poison.png")
        assert watch.wait(lambda: there.seen)
        person.picture("shots/1-good.png")
        assert watch.wait(lambda: len(watch.links) == 1, 60)
        assert "0-poison.png: It fell It is left out" in watch.words
        time.sleep(2.5)
        assert len(there.seen) == 5


def test_a_key_that_was_revoked_ends_it(person, server, watching, key):
    watch = watching(key=key)
    key_id = server.api("GET", "/v1/keys", key=key).json()["data"][0]["key_id"]
    assert server.api("DELETE", f"/v1/keys/{key_id}", key=key).status == 200
    person.picture("shots/late.png")
    assert watch.process.wait(20) == 1
    assert "imgpro login" in watch.words
    other = server.new_key(f"b{os.urandom(4).hex()}@example.org")
    watch = watching(key=other)
    assert watch.wait(lambda: len(watch.links) == 1)
    assert stored(server, other) == ["late.png"]


def test_two_watchers_of_one_folder(person, watching, server):
    watch = watching()
    (person.home / "same").symlink_to("shots")
    for name in ("shots", "same"):
        told = person.run("upload", "--watch", name, env={"IMGPRO_SERVER": server.base})
        assert told.returncode == 1
        assert f"process {watch.process.pid}" in told.stderr
    assert watch.end() == 0
    assert watching().end() == 0


def test_a_folder_that_goes_and_comes_back(person, server, watching, key):
    person.picture("shots/old.png")
    watch = watching(key=key)
    person.picture("shots/new.png")
    assert watch.wait(lambda: len(watch.links) == 1)
    (person.home / "shots").rename(person.home / "unmounted")
    assert watch.wait(lambda: "cannot be looked into" in watch.words)
    (person.home / "unmounted").rename(person.home / "shots")
    person.picture("shots/later.png")
    assert watch.wait(lambda: len(watch.links) == 2)
    # Nor does a start beside an empty mount point make it forget.
    assert watch.end() == 0
    (person.home / "shots").rename(person.home / "unmounted")
    (person.home / "shots").mkdir()
    watch = watching(key=key)
    time.sleep(1)
    assert watch.end() == 0
    (person.home / "shots").rmdir()
    (person.home / "unmounted").rename(person.home / "shots")
    watch = watching(key=key)
    watch.settle(server, key)
    assert stored(server, key) == ["new.png", "later.png"]
    assert person.run("upload", "--watch", "nowhere", env={"IMGPRO_SERVER": server.base}).returncode == 1


def test_a_torn_journal_is_read_as_far_as_it_goes(person, server, watching, key):
    person.picture("shots/old.png")
    watch = watching(key=key)
    person.picture("shots/a.png")
    assert watch.wait(lambda: len(watch.links) == 1)
    watch.process.kill()
    watch.process.wait()
    journal = next((person.home / "state" / "imgpro" / "watch").glob("*.jsonl"))
    assert journal.stat().st_mode & 0o077 == 0
    with journal.open("ab") as file:
        file.write(b'{"path": "b.png", "size": 7')
    watch = watching(key=key)
    person.picture("shots/b.png")
    assert watch.wait(lambda: stored(server, key) == ["a.png", "b.png"])
    watch.process.kill()
    watch.process.wait()
    watch = watching(key=key)
    watch.settle(server, key)
    assert stored(server, key) == ["a.png", "b.png"]


def test_real_photographs(person, server, watching, key, photos):
    watch = watching("--link", "markdown", key=key)
    wanted = sorted(path.name for path in photos.iterdir() if path.suffix != ".md")
    for name in wanted:
        shutil.copy(photos / name, person.home / "shots" / name)
    assert watch.wait(lambda: len(watch.links) == len(wanted), 60)
    assert sorted(stored(server, key)) == wanted
    assert all(line.startswith("![") for line in watch.links)


def test_copy_and_notify_for_each(person, watching):
    programs = person.home / "bin"
    programs.mkdir()
    for name, body in (("wl-copy", f"cat > {person.home}/clip"), ("notify-send", f"echo x >> {person.home}/told")):
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    watch = watching("--copy", "--notify", PATH=f"{programs}:/usr/bin:/bin", WAYLAND_DISPLAY="wayland-0")
    person.picture("shots/a.png")
    assert watch.wait(lambda: len(watch.links) == 1 and Path(f"{person.home}/told").exists())
    assert (person.home / "clip").read_text() == watch.links[0]
