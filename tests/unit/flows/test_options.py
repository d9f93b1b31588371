import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpro.errors import ValidationError
from imgpro.flows.options import MAX_NAME_CHARS, clean_name, parse_options, shorten_name


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
