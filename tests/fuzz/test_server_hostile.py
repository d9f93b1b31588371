"""Hostile pictures through the real server: no 5xx, no hang, no dead server, and what is accepted can be shown."""

import os
import random
import time

import pytest

from tests.containers import SECRET
from tests.fuzz.hostile import bombs, mutants, polyglots, readable, seeds
from tests.patience import wait_until
from tests.servers import UNLIMITED, leftovers, running

MUTANTS = int(os.environ.get("HOSTILE_MUTANTS", "400"))
LIMIT_S = 12.0
FORMATS = ("jpeg", "png", "webp", "avif", "gif")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("hostile") / "data", UNLIMITED) as found:
        yield found


def judge(server, name, body, sizes=("", "?size=s")):
    """Upload and, if accepted, look at it in every format. Return whether it was accepted."""
    started = time.monotonic()
    answer = server.upload(body, "x")
    assert answer.status in (201, 413, 415, 422), (name, answer)
    assert time.monotonic() - started < LIMIT_S + 3, name
    if answer.status != 201:
        assert {"error", "message", "action"} <= set(answer.json())
        return False
    found = answer.json()
    stored = server.get(found["src"])
    assert stored.status == 200, (name, stored)
    assert SECRET not in stored.body, name
    for extension in FORMATS:
        for size in sizes:
            shown = server.get(f"/t/{found['id']}.{extension}{size}")
            assert shown.status == 200, (name, extension, size, shown)
            assert SECRET not in shown.body, (name, extension)
            if found["format"] != "svg":
                assert readable(shown.body), (name, extension)
    return True


@pytest.mark.parametrize("name", sorted(seeds()))
def test_sound_pictures_are_shown_in_every_format(server, name):
    assert judge(server, name, seeds()[name], ("", "?size=s", "?size=l"))


@pytest.mark.parametrize("name", sorted(bombs()))
def test_bombs_are_refused_calmly(server, name):
    accepted = judge(server, name, bombs()[name])
    assert not accepted or name in ("svg external", "png 100,000 text chunks")


def test_polyglots_are_stored_as_pictures_only(server):
    for name, body in polyglots().items():
        judge(server, name, body, ("",))


def test_mutated_pictures(server):
    accepted = 0
    for name, body in mutants(random.Random(20_260_531), MUTANTS):
        accepted += judge(server, name, body)
    assert accepted > MUTANTS // 20
    wait_until(lambda: leftovers(server.data) == [])  # derivatives are written after their answers
    assert "Traceback" not in server.log()
    assert server.get("/readyz").status == 200
