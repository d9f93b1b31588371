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
