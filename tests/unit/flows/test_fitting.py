"""Texts of other hosts become what is allowed here; what was changed is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpro.flows.fitting import (
    MAX_REMOVED,
    fit_album,
    fit_date,
    fit_description,
    fit_name,
    fit_namespace,
    fit_removed,
    fit_tags,
)
from imgpro.flows.old_links import as_kept
from imgpro.flows.options import parse_namespace, parse_options, parse_tags


def test_kinds_of_data_that_were_removed():
    notes = []
    assert fit_removed(("gps", "unknown_chunks", "gps"), notes) == ("gps", "unknown_chunks")
    assert notes == []
    assert (
        len(fit_removed(("\x1b[2J", "GPS", "x" * 41, *(f"k{number}" for number in range(100))), notes)) == MAX_REMOVED
    )
    assert notes == [f"Of 103 kinds of removed data that it names, {103 - MAX_REMOVED} were dropped."]


@pytest.mark.parametrize(
    ("text", "fitted"),
    [
        ("holiday", "holiday"), ("Holiday 2020!", "holiday-2020"), ("Straße/Łódź", "strasse-lodz"), ("--a__b--", "a-b"),
        ("x", None), ("Фото", None), ("", None), ("a" * 70, "a" * 64), ("ab-" * 30, "ab-" * 21 + "a"),
    ],
)  # fmt: skip
def test_namespaces(text, fitted):
    assert fit_namespace(text) == fitted


@given(st.text(max_size=100), st.lists(st.text(max_size=80), max_size=15))
def test_what_comes_out_is_allowed(album, texts):
    notes = []
    namespace, tags = fit_album(album, texts, notes)
    assert parse_namespace(namespace) == namespace
    assert parse_tags(list(tags)) == tags
    name, description = fit_name(album, notes), fit_description(album, notes)
    options = parse_options({"name": name, "description": description})
    assert (options.name or "", options.description) == (name, description)
    assert fit_date(album, notes) is None or album.strip()
    assert all(note.isprintable() for note in notes)


def test_what_fits_is_left_alone_and_not_spoken_of():
    notes = []
    assert fit_album("trip-1", ("sea", "über"), notes) == ("trip-1", ("sea", "über"))
    assert fit_name("a b.png", notes) == "a b.png"
    assert fit_description("two\nlines", notes) == "two\nlines"
    assert fit_date("2020-01-02", notes) == "2020-01-02"
    assert notes == []


def test_what_is_lost_is_said():
    notes = []
    assert len(fit_tags([f"tag {number}" for number in range(12)], notes)) == 10
    assert fit_tags(["a,b", "x" * 60], notes) == ("a b", "x" * 50)
    assert fit_album("Фото", ("sea",), notes) == (None, ("фото", "sea"))
    assert len(fit_description("d" * 3_000, notes)) == 2_000
    assert fit_date("next week", notes) is None
    assert len(notes) == 5


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("/u/a.png", "/u/a.png"),
        ("https://old.example:8080/u/a%20b.png#top", "/u/a%20b.png"),
        ("/u/a b/%C3%BC.png", "/u/a%20b/%C3%BC.png"),
        ("/u/%c3%bc.png", "/u/%C3%BC.png"),
        ("/u/ü.png", "/u/%C3%BC.png"),
        ("/get.php?id=1&n=a%20b", "/get.php?id=1&n=a%20b"),
        ("/a?", "/a"),
        ("/%61", "/a"),
        ("/", None),
        ("//", None),
        ("a.png", None),
        ("", None),
        ("https://old.example", None),
        ("/" + "x" * 1_000, None),
    ],
)
def test_addresses_are_kept_in_one_form(address, kept):
    assert as_kept(address) == kept


@given(st.text(max_size=60))
def test_what_is_kept_stays_as_it_is(address):
    kept = as_kept(address)
    assert kept is None or as_kept(kept) == kept
