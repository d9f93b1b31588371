import contextlib
import json
import logging
import os
import re
import threading
import time

import pytest

from imgpro.cli.log_writer import LogWriter
from imgpro.cli.logs import Logs, in_one_line, is_journal, wants_json
from imgpro.ids import REQUEST
from imgpro.settings import Log


@pytest.fixture
def written(capfd, monkeypatch):
    """Log as a server does; yield a function that returns what came out since the last call."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)

    def start(**settings):
        logs = Logs(Log(level="debug", **settings))

        def read():
            logs.close()
            return capfd.readouterr().err

        return read

    return start


EVIL = 'x\n<3>ERROR imgpro: fake\r\x1b[2J\x00\u2028\u202e\udce4"}\n{"level": "error"'


@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_from_outside_makes_a_line_of_its_own(written, form):
    read = written(format=form)
    logging.getLogger("imgpro.a").warning("said: %s", EVIL)
    out = read()
    assert out.count("\n") == 1
    assert out.isascii() or form == "text"
    assert "".join(out.split("\n")).isprintable()
    assert "\\u202e" in out
    if form == "json":
        assert json.loads(out)["event"] == f"said: {EVIL}"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_names_its_request_and_passes_for_no_line_of_ours(written, form):
    read = written(format=form)
    at_hand = REQUEST.set("abc123")
    try:
        raise ValueError(EVIL)
    except ValueError:
        logging.getLogger("imgpro.a").exception("it failed")
    finally:
        REQUEST.reset(at_hand)
    logging.getLogger("imgpro.a").info("another")
    first, *rest = read().splitlines()
    if form == "json":
        assert len(rest) == 1
        found = json.loads(first)
        assert found["request_id"] == "abc123"
        assert found["exception"].startswith("Traceback (most recent call last):\n")
        assert "request_id" not in json.loads(rest[0])
    else:
        assert first.endswith("ERROR imgpro.a: it failed (request abc123)")
        assert all(line.startswith("    ") for line in rest[:-1])
        assert rest[-1].endswith("INFO imgpro.a: another")


def test_the_journal_gets_priorities_and_no_times(written, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert not is_journal(), "the variable alone says nothing"
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    assert is_journal()
    assert not wants_json(Log())
    read = written()
    log = logging.getLogger("imgpro.a")
    log.debug("one")
    log.info("two")
    log.warning("three")
    try:
        raise ValueError("four\nfive")
    except ValueError:
        log.exception("six")
    lines = read().splitlines()
    assert lines[:3] == ["<7>DEBUG imgpro.a: one", "<6>INFO imgpro.a: two", "<4>WARNING imgpro.a: three"]
    assert len(lines) > 5
    assert all(line.startswith("<3>") for line in lines[3:])
    read = written(format="json")
    log.warning("seven")
    line = read()
    assert json.loads(line.removeprefix("<4>"))["event"] == "seven"


def test_the_lowest_level_of_others_is_not_written(written):
    read = written()
    logging.getLogger("aiosqlite").debug("executing with a secret")
    logging.getLogger("aiosqlite").warning("of interest")
    out = read()
    assert "secret" not in out
    assert "of interest" in out


def test_letters_of_people_stay():
    assert in_one_line("Grüße, 写真 🙂") == "Grüße, 写真 🙂"
    assert in_one_line("a\tb\x9b") == "a\\tb\\x9b"


# Who does not read


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(fd)


def lines(count, size=100):
    return [f"{number:06} ".ljust(size - 1, "x") + "\n" for number in range(count)]


def write_all(writer, sent):
    for line in sent:
        writer.write(line)


def fill(fd):
    """Write until nothing more goes in."""
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"-" * 4095 + b"\n")


def drained(fd, until, patience_s=10.0):
    found, deadline = b"", time.monotonic() + patience_s
    os.set_blocking(fd, False)
    while until not in found:
        assert time.monotonic() < deadline, found[-300:]
        try:
            found += os.read(fd, 1 << 20)
        except BlockingIOError:
            time.sleep(0.01)
    return found.decode()


def test_a_pipe_that_nobody_reads_holds_up_nobody_and_loses_nothing_at_first(pipe):
    reading, writing = pipe
    writer = LogWriter(writing)
    began = time.monotonic()
    sent = lines(5_000)
    for line in sent:
        writer.write(line)
    writer.close(0.05)
    assert time.monotonic() - began < 5
    assert drained(reading, sent[-1].encode()) == "".join(sent)


@pytest.mark.parametrize("blocking", [True, False])
def test_what_is_lost_is_counted_and_said(pipe, monkeypatch, blocking):
    reading, writing = pipe
    fill(writing)
    os.set_blocking(writing, blocking)
    writer = LogWriter(writing, max_bytes=20_000)
    handler = logging.StreamHandler(writer)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    sent = lines(3_000)
    writer.write(sent[0])
    while writer._waiting:  # until it has been taken, to a pipe that takes nothing
        time.sleep(0.001)
    write_all(writer, sent[1:])
    found = drained(reading, b"were lost")
    kept = [line for line in found.splitlines(keepends=True) if line in set(sent)]
    assert kept == sent[: len(kept)], "the first ones, in order"
    assert int(re.search(r"(\d+) lines of this log were lost", found)[1]) == len(sent) - len(kept) > 1_000
    writer.write("again\n")
    drained(reading, b"again")


def test_a_full_disk_and_a_closed_pipe_raise_nothing(pipe):
    reading, writing = pipe
    os.close(reading)
    with open("/dev/full", "wb", buffering=0) as full:
        for fd in (full.fileno(), writing):
            writer = LogWriter(fd)
            threads = [threading.Thread(target=write_all, args=(writer, lines(500))) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            writer.close()
            assert writer.write("more\n") == 5
            writer.close()
