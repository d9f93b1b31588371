"""What a gallery's address says: days as people mean them, links that keep the rest, nothing invented."""

import datetime

import pytest

from imgpro.errors import ValidationError
from imgpro.web import gallery_query
from imgpro.web.gallery_query import GalleryQuery


@pytest.fixture(autouse=True)
def a_thursday(monkeypatch):
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 26, 15, 30)

    monkeypatch.setattr(gallery_query.datetime, "datetime", Clock)


def days(**fields):
    found = GalleryQuery(fields).filters(60)
    return tuple(
        None if at is None else datetime.datetime.fromtimestamp(at).strftime("%a %m-%d %H:%M")  # noqa: DTZ006
        for at in (found.since_s, found.until_s)
    )


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, (None, None)),
        ({"date": "today"}, ("Thu 11-26 00:00", None)),
        ({"date": "7days"}, ("Fri 11-20 00:00", None)),
        ({"date": "last-week"}, ("Mon 11-16 00:00", "Mon 11-23 00:00")),
        ({"date": "month"}, ("Sun 11-01 00:00", None)),
        ({"date": "ever"}, (None, None)),
        ({"from": "2026-10-05", "to": "2026-10-05"}, ("Mon 10-05 00:00", "Tue 10-06 00:00")),
        ({"at": "2026-10-05"}, (None, "Tue 10-06 00:00")),
        ({"date": "last-week", "at": "2026-11-18"}, ("Mon 11-16 00:00", "Thu 11-19 00:00")),
        ({"date": "last-week", "from": "2026-11-18"}, ("Wed 11-18 00:00", "Mon 11-23 00:00")),
    ],
)
def test_days(fields, wanted):
    assert days(**fields) == wanted


@pytest.mark.parametrize(
    "fields", [{"from": "soon"}, {"to": "2026-02-30"}, {"at": "9999-12-31"}, {"from": "0001-01-01"}, {"tags": "x" * 51}]
)
def test_what_makes_no_sense_is_named(fields):
    with pytest.raises(ValidationError) as caught:
        GalleryQuery(fields).filters(60)
    assert set(caught.value.details) == set(fields)


def test_links_keep_the_rest():
    query = GalleryQuery({"q": "a b", "tags": "sea", "date": "today", "from": "2026-01-01", "cursor": "x", "odd": "1"})
    assert query.link() == "?q=a+b&tags=sea&date=today&from=2026-01-01"
    assert query.link(date="month") == "?q=a+b&tags=sea&date=month"
    assert query.link(q="", tags="") == "?date=today&from=2026-01-01"
    assert query.with_tag("sun") == "?q=a+b&tags=sea%2Csun&date=today&from=2026-01-01"
    assert query.with_tag("sea") == "?q=a+b&date=today&from=2026-01-01"
    assert GalleryQuery({}).link() == "?"
    assert not GalleryQuery({"q": " "}).narrows


def test_only_dates_get_into_fields_for_dates():
    assert GalleryQuery({"from": "2026-01-31"}).day("from") == "2026-01-31"
    assert GalleryQuery({"from": "soon"}).day("from") == ""
