"""A picture in words: ends, dates and the sizes that are worth offering."""

import pytest

from imgpro.signing import Signer
from imgpro.web import picture_words
from imgpro.web.links import Links
from tests.samples import NOW_MS, sample_blob, sample_image

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def offered(**blob):
    image = sample_image(blob=sample_blob(**blob))
    sizes = picture_words.offered_sizes(image, Links("..", image, Signer(b"k" * 32)))
    return {size.label: [label for label, _ in size.links] for size in sizes}


@pytest.mark.parametrize(
    ("left_s", "words"),
    [
        (-5, "in less than a minute"),
        (59, "in less than a minute"),
        (MINUTE, "in 1 minute"),
        (90, "in 2 minutes"),
        (2 * HOUR - 1, "in 120 minutes"),
        (2 * HOUR, "in 2 hours"),
        (2 * DAY - HOUR, "in 47 hours"),
        (2 * DAY, "in 2 days"),
        (3 * DAY - 1, "in 3 days"),
        (90 * DAY, "in 90 days"),
    ],
)
def test_an_end_is_in_the_unit_that_says_most(left_s, words):
    image = sample_image(expires_ms=NOW_MS + 10**12)
    assert picture_words.ends(image, image.expires_ms - left_s * 1000)[0] == words


def test_what_is_kept_has_no_end():
    assert picture_words.ends(sample_image(), NOW_MS) is None


@pytest.mark.parametrize(
    ("raw", "iso", "words"),
    [
        ("2026-05-31", "2026-05-31", "31 May 2026"),
        ("2026-05-31 18:30", "2026-05-31T18:30", "31 May 2026, 18:30"),
        ("2026-05-31T18:30:05.5Z", "2026-05-31T18:30:05.500000+00:00", "31 May 2026, 18:30 UTC"),
        ("2026-05-31T18:30+0530", "2026-05-31T18:30:00+05:30", "31 May 2026, 18:30 UTC+05:30"),
    ],
)
def test_a_date_is_as_exact_as_it_was_given(raw, iso, words):
    found = picture_words.display_date(raw)
    assert (found.iso, found.words) == (iso, words)


def test_only_sizes_that_shrink_are_offered():
    assert list(offered(width=300, height=200)) == ["Original"]
    assert list(offered(width=1000, height=700)) == ["Small", "Medium", "Original"]
    assert list(offered(width=4000, height=3000)) == ["Small", "Medium", "Large", "Original"]


def test_a_format_that_cannot_hold_a_size_is_left_out():
    found = offered(width=20_000, height=330)
    assert found == {"Small": ["JPEG", "PNG", "AVIF"], "Original": ["JPEG", "PNG", "AVIF"]}
    assert "WebP" in offered(width=20_000, height=500)["Small"]


def test_what_moves_comes_first_as_what_moves():
    assert offered(width=300, height=200, format="gif", frames=9)["Original"][:2] == ["WebP", "GIF"]
    assert offered(width=300, height=200, format="gif")["Original"] == ["JPEG", "PNG", "WebP", "AVIF", "GIF"]


@pytest.mark.parametrize("stored", ["heic", "bmp", "ico"])
def test_the_stored_format_is_offered_in_the_original_size_only(stored):
    found = offered(width=900, height=700, format=stored)
    assert stored.upper() in found["Original"]
    assert stored.upper() not in found["Small"]
