"""The operator's pages about retention rules, and the command line: rehearse, make, look again, remove."""

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import time

import pytest

from tests.archives import backdate
from tests.load import small_png
from tests.servers import ROOT, UNLIMITED, running
from tests.signed_in import by_key, claimed

ENV = {**UNLIMITED, "IMGPRO_PLANS_UNLIMITED": "true", "IMGPRO_IMAGING_WORKERS": "1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with 70 pictures that are older than a month, and one that is not."""
    import random

    dice = random.Random(81)
    data = tmp_path_factory.mktemp("retention") / "data"
    with running(data, ENV) as first:
        operator = claimed(first)
        key = first.new_key("ann@example.org")
        for number in range(70):
            public = {"public": "false"} if number == 3 else {}
            first.must_upload(small_png(dice), f"old {number}.png", key=key, namespace="drafts", **public)
        fresh = first.must_upload(small_png(dice), "fresh.png", key=key)
        first.stop()
        backdate(data, {f"old {number}.png": 40 for number in range(70)})
        first.start()
        first.operator, first.ann, first.fresh = operator, by_key(first, key), fresh["id"]
        yield first
        assert "Traceback" not in first.log()


def page(server, path: str, status: int = 200) -> str:
    answer = server.operator.get(path)
    assert answer.status == status, answer
    return answer.body.decode()


def run(server, *words: str, expected: int = 0) -> str:
    command = [sys.executable, "-m", "imgpro", "retention", *words, "--data", str(server.data)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == expected, (done.stdout, done.stderr)
    return done.stdout if expected == 0 else done.stderr


def test_a_rule_from_rehearsal_to_removal(server):
    assert "There are no rules" in page(server, "/operator/retention")
    wrong = page(server, "/operator/retention/rehearse?days=0&namespace=A+B", 422)
    assert "Days:" in wrong
    assert "Namespace:" in wrong
    query = "days=30&of=account&account=ann%40example.org&namespace=drafts"
    first = page(server, f"/operator/retention/rehearse?{query}")
    assert "would delete 70 pictures now" in first
    assert first.count('loading="lazy"') == 59
    assert first.count("Private</div>") == 1
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following is not None
    path = following[1].replace("&amp;", "&").replace("../../", "/")
    second = page(server, path)
    listed = set(re.findall(r'class="quiet">(\w{12}),', first + second))
    assert len(listed) == 70
    assert server.fresh not in listed
    fields = {"do": "add", "days": "30", "of": "account", "account": "ann@example.org", "namespace": "drafts"}
    made = server.operator.post("/operator/retention", **fields, name="old drafts", expected="70")
    assert made.status == 303, made
    assert "deletes pictures of ann@example.org older than 30 days" in page(server, "/operator/retention?said=made")
    twice = server.operator.post("/operator/retention", **fields, name="old drafts", expected="70")
    assert twice.status == 422
    assert "There is a rule old drafts already." in twice.body.decode()
    told = server.ann.get("/dashboard/account").body.decode()
    assert "deletes pictures older than 30 days in the namespace drafts" in told
    assert server.operator.post("/operator/retention", do="remove", rule="old drafts").status == 303
    assert "There are no rules" in page(server, "/operator/retention")
    assert "The operator of this server deletes" not in server.ann.get("/dashboard/account").body.decode()


def test_a_rule_that_waits(server):
    run(server, "add", "waits", "--older-than", "30d", "--now", "--yes")
    conn = sqlite3.connect(server.data / "imgpro.db", timeout=30)
    with conn:  # as if the hourly run had found far more than the 70
        conn.execute("UPDATE retention_rules SET held_ms = ?, expected = 2", (int(time.time() * 1000),))
    conn.close()
    assert "waits for you" in page(server, "/operator/retention")
    assert "WAITS" in run(server, "list")
    looked = page(server, "/operator/retention/rehearse?rule=waits")
    assert "it matched 2." in looked
    assert server.operator.post("/operator/retention", do="resume", rule="waits", expected="70").status == 303
    found = json.loads(run(server, "list", "--json"))
    assert [(rule["waits"], rule["expected"]) for rule in found] == [(False, 70)]
    assert run(server, "remove", "waits") == "waits is removed\n"


def test_what_a_form_says_about_the_rehearsal_is_not_believed(server):
    """One that was left open while pictures came, one that was made up, and one that names another rule."""
    fields = {"do": "add", "days": "30", "name": "forged"}
    stale = server.operator.post("/operator/retention", **fields, expected="50")
    assert stale.status == 422
    assert "would delete 70 pictures now; it was 50 when you looked" in stale.body.decode()
    assert json.loads(run(server, "list", "--json")) == []
    for more in ({}, {"now": "on"}):
        assert server.operator.post("/operator/retention", **fields, **more, expected="999999999").status == 303
        (made,) = json.loads(run(server, "list", "--json"))
        assert made["expected"] == 70, "it would never wait for anybody"
        run(server, "remove", "forged")
    run(server, "add", "none", "--older-than", "3000d", "--yes")
    both = {**fields, "rule": "none", "expected": "0"}
    assert server.operator.post("/operator/retention", **both).status == 422, "what the fields say is what counts"
    with contextlib.closing(sqlite3.connect(server.data / "imgpro.db", timeout=30)) as conn, conn:
        conn.execute("UPDATE retention_rules SET held_ms = 1, older_than_s = 86400 WHERE name = 'none'")
    again = server.operator.post("/operator/retention", do="resume", rule="none", expected="0")
    assert again.status == 422
    assert "would delete 70 pictures now; it was 0 when you looked" in again.body.decode()
    assert [rule["waits"] for rule in json.loads(run(server, "list", "--json"))] == [True]
    assert server.operator.post("/operator/retention", do="resume", rule="none", expected="999999999").status == 303
    assert [rule["expected"] for rule in json.loads(run(server, "list", "--json"))] == [70]
    run(server, "remove", "none")


def test_nobody_else(server):
    for path in ("/operator/retention", "/operator/retention/rehearse?days=1"):
        assert server.get(path).status in (303, 401)
        assert server.ann.get(path).status == 403
    assert server.ann.post("/operator/retention", do="remove", rule="x").status == 403
    assert server.operator.post("/operator/retention", do="remove", rule="x", csrf="").status == 403
    assert server.operator.post("/operator/retention", do="add", days="1", name="x", expected="-1").status == 422
    assert server.operator.post("/operator/retention", do="other").status == 404
    page(server, "/operator/retention/rehearse?rule=unknown", 404)


def test_rehearsal_at_the_command_line(server):
    text = run(server, "rehearse", "--older-than", "30d", "--namespace", "drafts")
    assert text.splitlines()[-1].startswith("70 pictures (")
    assert text.count("ann@example.org") == 70
    lines = [json.loads(line) for line in run(server, "rehearse", "--older-than", "30d", "--json").splitlines()]
    assert lines[-1]["count"] == 70 == len(lines) - 1
    assert sum(line["stored_bytes"] for line in lines[:-1]) == lines[-1]["bytes"]
    assert "Name a rule" in run(server, "rehearse", expected=2)
    assert "30 years" in run(server, "rehearse", "--older-than", "30 years", expected=2)
    assert "no account" in run(server, "rehearse", "--older-than", "1d", "--account", "no@example.org", expected=1)
