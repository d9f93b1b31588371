"""Retention rules on a whole appliance: what they match, when they delete, what stops them."""

import asyncio
import json
import random
import time
from typing import Any

import pytest

from imgpro.errors import NotFound, ValidationError
from imgpro.flows.retention import Retention, describe, parse_rule, too_many
from imgpro.flows.upkeep import ClockWatch
from imgpro.store import queries_keeping, queries_retention
from imgpro.store.queries_retention import START, Rule
from tests.http.inside import inside
from tests.load import small_png
from tests.needles import found, of_picture, of_text, word
from tests.servers import multipart

DAY_S = 86_400
DAY_MS = DAY_S * 1000


class Steady(ClockWatch):
    """A clock that is trusted, or not."""

    trusted = True

    def steady(self) -> bool:
        return self.trusted


class Rules:
    """A running appliance with a clock of the test's own, and what tests do to it."""

    def __init__(self, running: Any) -> None:
        self.running = running
        self.app = running.appliance
        self.clock = self.app.upkeep._clock = Steady()
        self.dice = random.Random(71)
        self.keys: dict[str, str] = {}

    @property
    def retention(self) -> Retention:
        return self.app.retention

    async def key(self, email: str) -> str:
        if email not in self.keys:
            body = json.dumps({"email": email}).encode()
            made = await self.running.ask("POST", "/v1/keys", body, Content_Type="application/json")
            answer = json.loads(made.body)
            await self.app.operate.perform("verify", {"email": email, "keep": [answer["key_id"]]})
            self.keys[email] = answer["key"]
        return self.keys[email]

    async def upload(self, email: str | None = None, age_days: float = 0, side: int = 16, **fields: str) -> str:
        """Store a picture that came so long ago, and return its id."""
        content = small_png(self.dice, side)
        form, kind = multipart([("file", "x.png", content), *((k, None, v.encode()) for k, v in fields.items())])
        sent = {} if email is None else {"Authorization": f"Bearer {await self.key(email)}"}
        answer = await self.running.ask("POST", "/v1/upload", form, Content_Type=kind, **sent)
        assert answer.status == 201, answer
        image_id = str(json.loads(answer.body)["id"])
        await self.age(image_id, age_days)
        return image_id

    async def age(self, image_id: str, days: float) -> None:
        at_ms = int(time.time() * 1000 - days * DAY_MS)

        def write(conn: Any) -> None:
            # A picture's time never changes but here.
            (sql,) = conn.execute("SELECT sql FROM sqlite_schema WHERE name = 'images_keep_their_facts'").fetchone()
            conn.execute("DROP TRIGGER images_keep_their_facts")
            conn.execute("UPDATE images SET created_ms = ? WHERE id = ?", (at_ms, image_id))
            conn.execute(sql)

        await self.app.db.write(write)
        self.app.records.forget(image_id)

    async def matched(self, **values: Any) -> set[str]:
        rule = await self.retention.wanted(values)
        count = (await self.retention.rehearse(rule)).count
        listed = [match.image.id for match in await self.retention.matches(rule, START, 1_000)]
        assert count == len(listed) == len(set(listed))
        return set(listed)

    async def add(self, name: str, expected: int | None = None, **values: Any) -> Rule:
        """Make a rule that may delete at once."""
        rule = await self.retention.wanted(values)
        seen = (await self.retention.rehearse(rule)).count if expected is None else expected
        return await self.retention.add(rule, name, seen, at_once=True)

    async def there(self, *image_ids: str) -> list[bool]:
        return [(await self.running.get(f"/t/{image_id}.png")).status == 200 for image_id in image_ids]

    async def last_run(self) -> queries_keeping.Run | None:
        async with self.app.db.reader() as conn:
            return (await queries_keeping.last_runs(conn)).get("retention")


def run(tmp_path, work):
    """Do something with a running appliance."""

    async def do():
        async with inside(tmp_path / "data") as running:
            await work(Rules(running))

    asyncio.run(do())


def test_what_a_rule_matches(tmp_path):
    async def work(rules):
        ann, bob = "ann@example.org", "bob@example.org"
        drafts = await rules.upload(ann, 40, namespace="drafts", tags="raw")
        kept = await rules.upload(ann, 40, namespace="drafts", tags="raw,keep")
        other = await rules.upload(bob, 40, side=64)
        nobodys = await rules.upload(None, 40)
        fresh = await rules.upload(ann, 20, namespace="drafts", tags="raw")
        unset = await rules.upload(None, 20_000)  # came while the clock was in 1970
        month = {"older_than_s": 30 * DAY_S}
        assert await rules.matched(**month) == {drafts, kept, other, nobodys}
        assert await rules.matched(older_than_s=10 * DAY_S) == {drafts, kept, other, nobodys, fresh}
        assert await rules.matched(**month, account=ann) == {drafts, kept}
        assert await rules.matched(**month, anonymous=True) == {nobodys}
        assert await rules.matched(**month, namespace="drafts") == {drafts, kept}
        assert await rules.matched(**month, account=bob, namespace="drafts") == set()
        assert await rules.matched(**month, account=ann, namespace="drafts", except_tag="keep") == {drafts}
        assert await rules.matched(**month, tag="keep") == {kept}
        assert await rules.matched(**month, except_tag="Raw") == {other, nobodys}
        assert await rules.matched(**month, larger_than=8_000) == {other}
        assert await rules.matched(**month, format="PNG", account=bob) == {other}
        assert await rules.matched(**month, format="gif") == set()
        assert await rules.there(unset) == [True]

    run(tmp_path, work)


def test_pages_and_stretches_leave_nothing_out(tmp_path, monkeypatch):
    monkeypatch.setattr(queries_retention, "STRETCH", 3)

    async def work(rules):
        made = [await rules.upload(None, 50 + number // 4) for number in range(14)]
        at = {image_id: int(time.time()) for image_id in made}
        for image_id in made[:7]:  # all at the very same time
            await rules.age(image_id, 60)
        assert await rules.matched(older_than_s=DAY_S) == set(at)
        rule = await rules.retention.wanted({"older_than_s": DAY_S})
        place, listed = START, []
        while page := await rules.retention.matches(rule, place, 4):
            listed += [match.image.id for match in page]
            place = page[-1].place
        assert sorted(listed) == sorted(made)
        answered = await rules.app.operate.perform("retention-page", {"older_than_s": DAY_S})
        assert {picture["id"] for picture in answered["pictures"]} == set(made)
        assert answered["next"] is None
        await rules.add("all", older_than_s=DAY_S)
        assert await rules.retention.apply() == 14

    run(tmp_path, work)


def test_a_rule_deletes_what_it_says_and_nothing_else(tmp_path):
    async def work(rules):
        old, kept = await rules.upload("ann@example.org", 40), await rules.upload("ann@example.org", 40, tags="keep")
        fresh, nobodys = await rules.upload("ann@example.org", 3), await rules.upload(None, 40)
        await rules.add("old", older_than_s=30 * DAY_S, account="ann@example.org", except_tag="keep")
        assert await rules.retention.apply() == 1
        assert await rules.there(old, kept, fresh, nobodys) == [False, True, True, True]
        run = await rules.last_run()
        assert run is not None
        assert not run.failed
        assert run.details == {"deleted": {"old": 1}}
        assert await rules.retention.apply() == 0

    run(tmp_path, work)


def test_a_new_rule_waits_a_day_and_can_be_taken_back(tmp_path):
    async def work(rules):
        old = await rules.upload(None, 40)
        values = {"older_than_s": DAY_S, "name": "mistake", "expected": 1}
        made = await rules.app.operate.perform("retention-add", values)
        assert made["begins_at"] - made["created_at"] == DAY_S
        assert await rules.retention.apply() == 0
        assert await rules.there(old) == [True]
        with pytest.raises(ValidationError):
            await rules.app.operate.perform("retention-add", values)
        await rules.retention.forget("mistake")
        with pytest.raises(NotFound):
            await rules.retention.forget("mistake")
        assert await rules.retention.rules() == []

    run(tmp_path, work)


def test_a_clock_in_doubt_deletes_nothing(tmp_path):
    async def work(rules):
        old = await rules.upload(None, 40)
        await rules.add("old", older_than_s=DAY_S)
        rules.clock.trusted = False
        assert await rules.retention.apply() == 0
        assert await rules.there(old) == [True]
        rules.clock.trusted = True
        assert await rules.retention.apply() == 1

    run(tmp_path, work)


def test_what_changed_since_it_was_listed_stays(tmp_path):
    """Listed, and then tagged: the transaction that deletes looks again. So it does for a rule that is gone."""

    async def work(rules):
        one, two = await rules.upload("ann@example.org", 40), await rules.upload("ann@example.org", 40)
        rule = await rules.add("old", older_than_s=DAY_S, except_tag="keep")
        now_ms = int(time.time() * 1000) + 60_000
        body = json.dumps({"tags": ["keep"]}).encode()
        sent = {"Authorization": f"Bearer {await rules.key('ann@example.org')}", "Content_Type": "application/json"}
        assert (await rules.running.ask("PATCH", f"/v1/media/{one}", body, **sent)).status == 200
        assert await rules.app.remove.by_rule(rule, [one], now_ms) == 0
        await rules.retention.forget("old")
        assert await rules.app.remove.by_rule(rule, [two], now_ms) == 0
        await rules.add("old", older_than_s=DAY_S)
        assert await rules.app.remove.by_rule(rule, [two], now_ms) == 0  # another rule of that name
        waits = await rules.retention.add(await rules.retention.wanted({"older_than_s": DAY_S}), "tomorrow", 2)
        assert await rules.app.remove.by_rule(waits, [two], now_ms) == 0
        assert await rules.there(one, two) == [True, True]
        assert await rules.app.remove.by_rule(waits, [two], now_ms + 2 * DAY_MS) == 1

    run(tmp_path, work)


def test_far_more_than_expected_waits_for_the_operator(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("imgpro.flows.retention.ALWAYS", 3)

    async def work(rules):
        made = [await rules.upload(None, 40) for _ in range(5)]
        await rules.add("old", expected=0, older_than_s=DAY_S)
        for _ in range(2):
            assert await rules.retention.apply() == 0
        assert await rules.there(*made) == [True] * 5
        assert sum("deletes nothing until" in record.message for record in caplog.records) == 1
        run = await rules.last_run()
        assert run is not None
        assert run.failed
        assert "old" in run.message
        listed = await rules.app.operate.perform("retention-list", {})
        assert [rule["waits"] for rule in listed["rules"]] == [True]
        await rules.app.operate.perform("retention-resume", {"rule": "old", "expected": 5})
        assert await rules.retention.apply() == 5
        last = await rules.last_run()
        assert last is not None
        assert not last.failed

    run(tmp_path, work)


@pytest.mark.parametrize(
    ("matched", "expected", "stored", "waits"),
    [
        (1_000, 0, 10_000_000, False),
        (1_001, 0, 10_000_000, True),
        (2_140, 214, 10_000_000, False),
        (2_141, 214, 10_000_000, True),
        (100, 0, 100, False),
        (101, 0, 200, True),
        (101, 0, 202, False),
        (101, 60, 110, False),
        (900_000, 900_000, 1_000_000, False),
    ],
)
def test_how_much_is_far_more(matched, expected, stored, waits):
    assert too_many(matched, expected, stored) is waits


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({}, {"older_than_s"}),
        ({"older_than_s": 0}, {"older_than_s"}),
        ({"older_than_s": 10**12}, {"older_than_s"}),
        ({"older_than_s": 1, "format": "exe", "namespace": "A B"}, {"format", "namespace"}),
        ({"older_than_s": 1, "tag": "a,b"}, {"tag"}),
        ({"older_than_s": 1, "larger_than": -1}, {"larger_than"}),
        ({"older_than_s": 1, "anonymous": True, "tag": "x"}, {"anonymous"}),
    ],
)
def test_what_is_no_rule(values, wrong):
    with pytest.raises(ValidationError) as refused:
        parse_rule(values)
    assert set(refused.value.details) == wrong


def test_a_rule_in_words():
    rule = Rule(
        older_than_s=180 * DAY_S, email="ann@example.org", namespace="drafts", tag="raw", except_tag="keep",
        format="png", larger_than=10 * 1024 * 1024,
    )  # fmt: skip
    assert describe(rule) == (
        "pictures of ann@example.org older than 180 days and larger than 10 MB in the namespace drafts tagged raw "
        "stored as PNG, but not those tagged keep"
    )
    assert describe(Rule(older_than_s=3_600, anonymous=True)) == "pictures without an account older than 1 hour"


def test_nothing_is_left_of_what_a_rule_or_its_end_took(tmp_path):
    """The bytes and words of a picture that a rule deleted, and of one whose time was over, in no file any more."""

    async def work(rules):
        texts = {"description": word(rules.dice), "name": word(rules.dice), "tags": word(rules.dice)}
        by_rule = await rules.upload("ann@example.org", 40, 200, **texts)
        texts["of the other"] = word(rules.dice)
        by_end = await rules.upload("ann@example.org", 40, 210, description=texts["of the other"], ttl="300")
        needles = [needle for text in texts.values() for needle in of_text(text)] + [by_rule.encode(), by_end.encode()]
        for image_id in (by_rule, by_end):
            needles += of_picture((await rules.running.get(f"/t/{image_id}.png")).body)
            assert (await rules.running.get(f"/t/{image_id}.webp?size=s")).status == 200
        await rules.app.derivs.settled()
        assert set(found(tmp_path, needles)) == set(needles)

        def end(conn: Any) -> None:
            conn.execute("UPDATE images SET expires_ms = ?, wanted_end_ms = ? WHERE id = ?", (*[past_ms] * 2, by_end))

        past_ms = int(time.time() * 1000) - 1_000
        await rules.app.db.write(end)
        rules.app.records.forget(by_end)
        await rules.add("old", older_than_s=DAY_S, account="ann@example.org")
        assert await rules.app.upkeep.expire() == 1
        assert await rules.retention.apply() == 1
        assert found(tmp_path, needles) != {}  # the log of the database still has it
        assert await rules.app.traces.clear() == 2
        await rules.app.journal.renew()
        assert found(tmp_path, needles) == {}
        assert await rules.app.traces.clear(at_once=True) == 0  # nothing more to do

    run(tmp_path, work)


def test_an_owner_is_told(tmp_path):
    async def work(rules):
        await rules.upload("ann@example.org")
        await rules.upload("bob@example.org")
        await rules.add("of-bob", older_than_s=DAY_S, account="bob@example.org")
        await rules.add("of-nobody", older_than_s=DAY_S, anonymous=True)
        await rules.add("of-all", older_than_s=30 * DAY_S, namespace="drafts")
        told = {}
        for email in ("ann@example.org", "bob@example.org"):
            async with rules.app.db.reader() as conn:
                rows = list(await conn.execute_fetchall("SELECT seq FROM accounts WHERE email = ?", (email,)))
                told[email] = [rule.name for rule in await queries_retention.rules_about(conn, rows[0][0])]
        assert told == {"ann@example.org": ["of-all"], "bob@example.org": ["of-all", "of-bob"]}

    run(tmp_path, work)
