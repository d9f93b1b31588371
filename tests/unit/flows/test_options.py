import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpro.errors import ValidationError
from imgpro.flows.options import (
    MAX_NAME_CHARS,
    clean_line,
    clean_name,
    parse_changes,
    parse_namespace,
    parse_options,
    parse_tags,
    shorten_name,
)


def problems(**fields):
    with pytest.raises(ValidationError) as caught:
        parse_options(fields)
    return caught.value.details


def test_defaults():
    options = parse_options({})
    assert (options.name, options.description, options.public, options.ttl_s, options.display_date) == (
        None, "", True, None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300", 300), ("3600", 3600), ("5m", 300), ("90d", 7776000), ("12h", 43200), ("1D", 86400), (" 1h ", 3600)],
)
def test_ttl(text, seconds):
    assert parse_options({"ttl": text}).ttl_s == seconds


@pytest.mark.parametrize(
    "text", ["299", "4m", "91d", "0", "", "-300", "1w", "1.5h", "h", "1e9", "9" * 40, "٣٠٠", "300 s", "7776001"]
)
def test_bad_ttl(text):
    assert "ttl" in problems(ttl=text)


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("1", True), ("TRUE", True), ("false", False), ("0", False)]
)
def test_public(text, value):
    assert parse_options({"public": text}).public is value


@pytest.mark.parametrize("text", ["", "yes", "2", "on", "null"])
def test_bad_public(text):
    assert "public" in problems(public=text)


@pytest.mark.parametrize(
    "text", ["2026-05-31", "2026-05-31T18:30:00Z", "2026-05-31T18:30:00+02:00", "2026-05-31 18:30"]
)
def test_date(text):
    assert parse_options({"date": text}).display_date == text


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-02-30", "31.05.2026", "2026-W01-1", "20260531"])
def test_bad_date(text):
    assert "date" in problems(date=text)


def test_every_mistake_is_named_at_once():
    assert set(problems(ttl="x", public="x", date="x", name="n" * 256, description="d" * 2001)) == {
        "ttl", "public", "date", "name", "description",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\shot.png", "shot.png"),
        ("a\x00b\r\nc.png", "abc.png"),
        ("..", ""),
        ("\u202egnp.exe", "gnp.exe"),
        ("  .hidden. ", "hidden"),
        ("Grüße 🌍.jpg", "Grüße 🌍.jpg"),
        ("e\u0301.png", "\u00e9.png"),
    ],
)
def test_names_lose_paths_and_controls(raw, name):
    assert clean_name(raw) == name


@given(st.text(max_size=300))
def test_a_clean_name_is_stable_and_harmless(raw):
    name = clean_name(raw)
    assert clean_name(name) == name
    assert not set("/\\\0\r\n") & set(name)
    assert name not in (".", "..")


def test_a_long_name_of_a_client_is_cut_but_keeps_its_extension():
    assert shorten_name("🌍" * 4000 + ".jpeg") == "🌍" * (MAX_NAME_CHARS - 5) + ".jpeg"
    assert len(shorten_name("x" * 4000)) == MAX_NAME_CHARS


def test_fields_that_need_an_account_are_ignored():
    assert parse_options({"tags": "x" * 999, "namespace": "-bad-", "other": "y"}) == parse_options({})


@pytest.mark.parametrize(
    ("raw", "tags"),
    [
        ("", ()),
        ("sea", ("sea",)),
        (" Sea , beach,SEA,,", ("sea", "beach")),
        (["Sea", "two words", "sea"], ("sea", "two words")),
        (["a,b", "c"], ("a", "b", "c")),
        (",".join("abcdefghij"), tuple("abcdefghij")),
        ("x" * 50, ("x" * 50,)),
        ("ÉTÉ,e\u0301te\u0301", ("été",)),
        ("日本", ("日本",)),
    ],
)
def test_tags(raw, tags):
    assert parse_tags(raw) == tags


@pytest.mark.parametrize(
    "raw",
    [",".join("abcdefghijk"), "x" * 51, "a\nb", "a\x00b", "a\u202eb", 7, None, ["a", 1], {"a": 1}, [["a"]]],
)
def test_tags_that_are_none_are_refused_never_cut(raw):
    with pytest.raises(ValueError):
        parse_tags(raw)


@given(st.lists(st.text(max_size=60), max_size=12))
def test_tags_are_clean_whatever_comes(raw):
    try:
        tags = parse_tags(raw)
    except ValueError:
        return
    assert len(tags) <= 10
    assert len(set(tags)) == len(tags)
    for tag in tags:
        assert 1 <= len(tag) <= 50
        assert tag == tag.strip()
        assert "," not in tag
        assert parse_tags(tag) == (tag,)


@pytest.mark.parametrize("raw", ["ab", "a1", "my-trip-2026", "x" * 64, "0-0"])
def test_namespaces(raw):
    assert parse_namespace(raw) == raw


@pytest.mark.parametrize("raw", ["a", "x" * 65, "-ab", "ab-", "Ab", "a b", "a_b", "ab\n", "äb", 7, ["ab"], True])
def test_namespaces_that_are_none(raw):
    with pytest.raises(ValueError):
        parse_namespace(raw)


def test_tags_and_namespace_need_an_account():
    fields = {"tags": "a,b", "namespace": "trip"}
    assert parse_options(fields) == parse_options({})
    owned = parse_options(fields, owned=True)
    assert (owned.tags, owned.namespace) == (("a", "b"), "trip")
    assert parse_options({"tags": "x" * 51, "namespace": "-"}) == parse_options({})
    with pytest.raises(ValidationError) as caught:
        parse_options({"tags": "x" * 51, "namespace": "-"}, owned=True)
    assert set(caught.value.details) == {"tags", "namespace"}


def test_changes():
    body = {
        "name": "a/b.jpg",
        "description": None,
        "tags": ["A"],
        "public": 0,
        "namespace": "",
        "date": "",
        "ttl": "1h",
    }
    changes = parse_changes({**body, "tag_mode": "add", "unknown": 1})
    assert changes.name == "b.jpg"
    assert changes.description == ""
    assert changes.tags == ("a",)
    assert changes.tag_mode == "add"
    assert changes.public is False
    assert changes.namespace is None
    assert changes.display_date is None
    assert changes.ttl_s == 3600


def test_what_is_not_sent_is_not_changed():
    changes = parse_changes({"ttl": None})
    assert changes.ttl_s is None
    for name in ("name", "description", "tags", "public", "namespace", "display_date"):
        assert getattr(changes, name) is msgspec.UNSET


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"name": ""}, {"name"}),
        ({"name": 5}, {"name"}),
        ({"name": None}, {"name"}),
        ({"name": "x" * 256}, {"name"}),
        ({"description": "x" * 2001}, {"description"}),
        ({"description": 1}, {"description"}),
        ({"tags": "x" * 51}, {"tags"}),
        ({"tags": "a", "tag_mode": "swap"}, {"tag_mode"}),
        ({"tags": "a", "tag_mode": 1}, {"tag_mode"}),
        ({"tags": "a", "tag_mode": []}, {"tag_mode"}),
        ({"public": "maybe"}, {"public"}),
        ({"public": None}, {"public"}),
        ({"public": 1.0}, {"public"}),
        ({"namespace": "A"}, {"namespace"}),
        ({"date": "yesterday"}, {"date"}),
        ({"date": 5}, {"date"}),
        ({"ttl": 299}, {"ttl"}),
        ({"ttl": True}, {"ttl"}),
        ({"ttl": 300.5}, {"ttl"}),
        ({"ttl": "91d", "name": 1, "public": "x"}, {"ttl", "name", "public"}),
        ({}, set()),
        ({"unknown": 1}, set()),
        ({"tag_mode": "add"}, set()),
    ],
)
def test_changes_that_are_none(body, fields):
    with pytest.raises(ValidationError) as caught:
        parse_changes(body)
    assert set(caught.value.details) == fields


@pytest.mark.parametrize(("raw", "line"), [(" a \t b\n", "a b"), ("", ""), ("e\u0301", "é")])
def test_a_line(raw, line):
    assert clean_line(raw) == line


@pytest.mark.parametrize("raw", ["a\x00", "a\x1b[0m", "a\u202e", "\ud800"])
def test_a_line_with_control_characters(raw):
    with pytest.raises(ValueError):
        clean_line(raw)
