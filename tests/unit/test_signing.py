from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpro.signing import NEVER, Signer

SIGNER = Signer(b"k" * 32)


def test_a_token_is_good_until_it_ends():
    token = SIGNER.sign("view", "abc", 1000)
    assert SIGNER.verify(token, "view", "abc", 999.9)
    assert not SIGNER.verify(token, "view", "abc", 1000)


def test_a_token_without_end_stays_good():
    assert SIGNER.verify(SIGNER.sign("delete", "abc", NEVER), "delete", "abc", 1e12)


@pytest.mark.parametrize(
    ("signer", "purpose", "subject"),
    [(SIGNER, "delete", "abc"), (SIGNER, "view", "abd"), (Signer(b"x" * 32), "view", "abc")],
)
def test_another_purpose_subject_or_secret_fails(signer, purpose, subject):
    assert not signer.verify(SIGNER.sign("view", "abc", 1000), purpose, subject, 1)


def test_the_end_cannot_be_moved():
    token = SIGNER.sign("view", "abc", 1000)
    mac = token.partition(".")[2]
    for head in (f"1{2000:x}", "10", f"1 {1000:x}", f"1+{1000:x}", f"10{1000:x}", f"2{1000:x}"):
        assert not SIGNER.verify(f"{head}.{mac}", "view", "abc", 1)


@given(st.text(max_size=80))
def test_arbitrary_text_is_refused_calmly(text):
    assert not SIGNER.verify(text, "view", "abc", 1)


@given(st.integers(0, 40), st.integers(0, 255))
def test_every_changed_character_breaks_it(position, code):
    token = SIGNER.sign("view", "abc", 1000)
    position %= len(token)
    changed = token[:position] + chr(code) + token[position + 1 :]
    assert (changed == token) == SIGNER.verify(changed, "view", "abc", 1)


def test_a_short_secret_and_a_subject_of_two_lines_are_refused():
    with pytest.raises(ValueError):
        Signer(b"short")
    with pytest.raises(ValueError):
        SIGNER.sign("view", "a\nb")


QUERY_SIGNER = Signer(b"s" * 32)


def signed(purpose="upgrade", shown="acc_1", expires_s=2_000, *bound):
    return dict(parse_qsl(QUERY_SIGNER.query(purpose, shown, expires_s, *bound)))


def test_a_signed_query_holds_until_it_ends():
    query = signed("upgrade", "acc_1", 2_000, "pro", 0)
    assert QUERY_SIGNER.verify_query(query, "upgrade", 1_999, "pro", 0)
    assert not QUERY_SIGNER.verify_query(query, "upgrade", 2_000, "pro", 0)


@pytest.mark.parametrize(
    "change",
    [
        {"t": "acc_2"},
        {"exp": "9999999999"},
        {"exp": "+2000"},
        {"exp": " 2000"},
        {"exp": "२०००"},
        {"exp": ""},
        {"sig": ""},
        {"sig": "x"},
        {"t": "acc_1\n"},
        {"t": "\ud800"},
        {"sig": "\ud800"},
    ],
)
def test_a_signed_query_that_was_changed_is_refused(change):
    query = {**signed("upgrade", "acc_1", 2_000, "pro", 0), **change}
    assert not QUERY_SIGNER.verify_query(query, "upgrade", 1_000, "pro", 0)


def test_a_signed_query_is_for_its_purpose_and_what_it_is_bound_to():
    query = signed("upgrade", "acc_1", 2_000, "pro", 0)
    assert not QUERY_SIGNER.verify_query(query, "verify", 1_000, "pro", 0)
    assert not QUERY_SIGNER.verify_query(query, "upgrade", 1_000, "scale", 0)
    assert not QUERY_SIGNER.verify_query(query, "upgrade", 1_000, "pro", 1)
    assert not QUERY_SIGNER.verify_query(query, "upgrade", 1_000)
    assert not Signer(b"t" * 32).verify_query(query, "upgrade", 1_000, "pro", 0)
    for name in query:
        assert not QUERY_SIGNER.verify_query({k: v for k, v in query.items() if k != name}, "upgrade", 1_000, "pro", 0)


def test_what_is_bound_cannot_slide_into_what_is_shown():
    query = signed("verify", "ab", 2_000, "c")
    assert not QUERY_SIGNER.verify_query({**query, "t": "a"}, "verify", 1_000, "bc")
    assert not QUERY_SIGNER.verify_query({**query, "t": "ab c"}, "verify", 1_000)
