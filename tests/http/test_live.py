"""Every setting is either live or waits for a restart; and what is live reaches every part that goes by it."""

import gc
from typing import Literal, get_args, get_origin

import msgspec
import pytest

from imgpro import forms
from imgpro.flows.hot import HotPictures
from imgpro.flows.live import NEEDS_RESTART, changes, merged, sources_of, waiting
from imgpro.settings import Metrics as MetricsSettings
from imgpro.settings import Settings
from imgpro.web.clients import Clients
from imgpro.web.door import Door
from imgpro.web.header_sign_in import HeaderSignIn
from imgpro.web.metrics import Metrics
from imgpro.web.pages import Templates
from imgpro.web.server import Runner
from tests.http.inside import inside, settings

FIELDS = {field.path: field for field in forms.fields()}
LIVE = set(FIELDS) - NEEDS_RESTART
PARTIAL = {"imaging"}  # nothing of it is live


def another(field, value):
    """Return a value of a setting that is not the one it has."""
    special = {
        "mail.sender": "box@example.org",
        "mail.security": "none",
        "plans.upgrade": "self_service",
        "imports.ports": (8080,),
        "cache.memory_item_bytes": 1000,
        "storage.reserve_bytes": 1000,
        "server.tls_cert": "",
        "server.tls_key": "",
        "mail.ca_file": "",
    }
    if field.path in special:
        return special[field.path]
    if get_origin(field.type) is Literal:
        return next(choice for choice in get_args(field.type) if choice != value)
    if field.type is bool:
        return not value
    if field.type is str:
        return f"{value}x"
    if get_origin(field.type) is tuple:
        return ("192.0.2.1",)
    return 4321 if value is None else value + 7


def altered(before, names):
    for name in sorted(names):
        field = FIELDS[name]
        section = getattr(before, field.section)
        part = msgspec.structs.replace(section, **{field.name: another(field, getattr(section, field.name))})
        before = msgspec.structs.replace(before, **{field.section: part})
    return before


def unshared():
    """Return settings whose sections are nobody's defaults."""
    base = settings(workers=1, metrics=MetricsSettings(enabled=True))
    return Settings(**{name: msgspec.structs.replace(part) for name, part in msgspec.structs.asdict(base).items()})


def only(kind):
    found = [thing for thing in gc.get_objects() if type(thing) is kind]
    assert found, kind
    return found[-1]


def section_of(name, part):
    """Return checks that a part holds a section as it is now."""
    return {path: lambda a, part=part, f=field.name: getattr(part(a), f) for path, field in FIELDS.items()
            if field.section == name}  # fmt: skip


# What a part has in the end, for each live setting. Parts that read `Appliance.settings` each time need no more.
HELD = {
    **section_of("uploads", lambda a: a.ingest.settings),
    "uploads.max_in_flight": lambda a: a.ingest.places._total,
    "uploads.max_in_flight_per_network": lambda a: a.ingest.places._per_network,
    "uploads.patience_s": lambda a: a.ingest.places._patience_s,
    **section_of("anonymous", lambda a: a.quota._settings),
    "anonymous.uploads_per_hour": lambda a: a.quota.limits[0].count,
    "anonymous.uploads_per_day": lambda a: a.quota.limits[1].count,
    "anonymous.attempts_per_minute": lambda a: a.quota._attempts._count,
    "anonymous.storage_bytes": lambda a: a.quota.storage_bytes,
    **section_of("accounts", lambda a: a.accounts.settings),
    "accounts.keys": lambda a: a.accounts._per_account._count,
    "accounts.keys_per_address_per_hour": lambda a: {a.accounts._per_address._count, a.sign_in._per_address._count},
    "accounts.keys_per_network_per_hour": lambda a: {a.accounts._per_network._count, a.sign_in._per_network._count},
    "accounts.session_s": lambda a: {a.sessions.session_s, a.ring._session_ms // 1000},
    "accounts.requests_per_minute": lambda a: a.quota._requests._count,
    **section_of("plans", lambda a: a.upgrades.settings),
    "plans.upgrade": lambda a: {a.plans.upgrade, a.upgrades.settings.upgrade},
    **section_of("mail", lambda a: a.mail._settings),
    **section_of("imports", lambda a: a.fetcher._settings),
    "imports.private_networks": lambda a: tuple(str(each.network_address) for each in a.fetcher._private),
    "imports.per_hour": lambda a: a.quota._imports._count,
    "cache.max_bytes": lambda a: a.derivs._max_bytes,
    "cache.memory_bytes": lambda a: a.hot._max_bytes,
    "cache.memory_item_bytes": lambda a: a.hot.max_item_bytes,
    "cache.records": lambda a: a.records._capacity,
    "pages.site_name": lambda a: {
        only(Templates)._env.globals["site_name"], a.accounts._site_name, a.sign_in._site_name, a.upgrades._site_name,
    },
    "pages.indexing": lambda a: a.settings.pages.indexing,
    **section_of("header_sign_in", lambda _: only(HeaderSignIn)._settings),
    "metrics.networks": lambda _: tuple(str(each.network_address) for each in only(Metrics)._readers._networks),
    "server.trusted_proxies": lambda _: tuple(str(n.network_address) for n in only(Clients)._trusted._networks),
    "server.max_connections": lambda _: only(Door)._max_total,
    "server.max_connections_per_network": lambda _: only(Door)._max_per_network,
    "server.stop_deadline_s": lambda _: only(Runner)._stop_deadline_s,
    "storage.reserve_bytes": lambda a: {a.blobs._reserve_bytes(), a.room._settings.reserve_bytes},
    "storage.low_bytes": lambda a: a.room._settings.low_bytes,
    **section_of("backup", lambda a: a.backups._settings()),
    **section_of("scrub", lambda a: a.scrub._settings),
}  # fmt: skip
ELSEWHERE = {
    # By tests with a whole server, whose command line has the part.
    "server.tls_cert": "test_tls", "server.tls_key": "test_tls",
    "log.level": "test_reload", "log.access": "test_reload", "log.format": "test_reload",
}  # fmt: skip


def test_every_setting_is_said_to_be_live_or_to_wait():
    assert set(FIELDS) >= NEEDS_RESTART
    assert {name for name in HELD if name in LIVE} | set(ELSEWHERE) == LIVE


async def test_what_is_live_reaches_every_part(tmp_path):
    before = unshared()
    after = altered(before, LIVE)
    async with inside(tmp_path, before) as found:
        appliance = found.appliance
        runner = only(Runner)
        appliance.followers.append(lambda new: runner.apply(new.server, None))
        (await appliance.mail.prepare(after.mail))()
        appliance.apply(after)
        while appliance.mail._settings != after.mail:
            appliance.mail.wake()
            await found.get("/healthz")
        wrong = {}
        for name in LIVE - set(ELSEWHERE):
            held = HELD[name](appliance)
            wanted = getattr(getattr(after, FIELDS[name].section), FIELDS[name].name)
            if (held != {wanted}) if isinstance(held, set) else (held != wanted):
                wrong[name] = (held, wanted)
        assert wrong == {}
        assert (await found.get("/llms.txt")).status == 200


async def test_no_part_keeps_a_section_that_is_not_in_force_any_more(tmp_path):
    """A page that kept its own copy would go by old limits for ever: found by who still refers to it."""
    before = unshared()
    after = altered(before, LIVE)
    async with inside(tmp_path, before) as found:
        (await found.appliance.mail.prepare(after.mail))()
        found.appliance.apply(after)
        found.appliance.mail.wake()
        for path in ("/", "/healthz", "/llms.txt", "/dashboard", "/api"):
            await found.get(path)
        gc.collect()
        kept = {}
        for section in msgspec.structs.fields(Settings):
            old = getattr(before, section.name)
            if section.name in PARTIAL or old is getattr(after, section.name):
                continue
            holders = [thing for thing in gc.get_referrers(old) if thing is not before and not _is_of_the_test(thing)]
            if holders:
                kept[section.name] = [repr(thing)[:300] for thing in holders]
        # The runner keeps the addresses, which wait for a restart.
        kept.pop("server", None)
        assert kept == {}


def _is_of_the_test(thing):
    name = type(thing).__name__
    return name in ("frame", "coroutine", "cell", "list_iterator", "async_generator") or thing is globals()


def test_what_waits_stays_as_it_was():
    before = Settings()
    wanted = altered(before, set(FIELDS) - {"server.tls_cert", "server.tls_key"})
    held = waiting(before, wanted)
    assert {change.name for change in held} == NEEDS_RESTART
    taken = merged(before, wanted)
    assert {change.name for change in changes(before, taken)} == LIVE - {
        "server.tls_cert", "server.tls_key", "mail.ca_file"
    }  # fmt: skip
    assert waiting(taken, wanted) == held
    sources = sources_of(dict.fromkeys(FIELDS, "old"), dict.fromkeys(FIELDS, "new"), held)
    assert {name for name, source in sources.items() if source == "old"} == NEEDS_RESTART


@pytest.mark.parametrize("paths", [("", "/a.pem"), ("/a.pem", "")])
def test_a_certificate_is_live_where_there_was_one(paths):
    def with_cert(path):
        return Settings(server=msgspec.structs.replace(Settings().server, tls_cert=path))

    assert [change.name for change in waiting(*map(with_cert, paths))] == ["server.tls_cert"]
    assert waiting(with_cert("/a.pem"), with_cert("/b.pem")) == []


def test_secrets_are_named_and_not_shown():
    before, after = Settings(), altered(Settings(), {"mail.password", "plans.checkout_secret"})
    assert [str(change) for change in changes(before, after)] == [
        "plans.checkout_secret: changed", "mail.password: changed",
    ]  # fmt: skip


def test_a_smaller_memory_lets_the_oldest_go():
    hot = HotPictures(100, 100)
    hot._pictures.clear()
    hot.resize(10, 10)
    assert hot.max_item_bytes == 10
