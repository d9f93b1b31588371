"""Addresses that pass, addresses that do not, and what holds for all that do."""

import re
from email.headerregistry import Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpro.flows.email_address import parse_email

LONG_DOMAIN = ".".join(["d" * 63, "d" * 63, "d" * 61])  # 189 characters


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("ann@example.org", "ann@example.org"),
        ("Ann.Lee+Photos@Example.ORG", "ann.lee+photos@example.org"),
        ("root@localhost", "root@localhost"),
        ("ann@nas.local", "ann@nas.local"),
        ("a@box", "a@box"),
        ("a@b", "a@b"),
        ("o'connor@example.ie", "o'connor@example.ie"),
        ("first_last-x=y~z#1&2@a-b.example", "first_last-x=y~z#1&2@a-b.example"),
        ("_@1.example", "_@1.example"),
        ("1@2.x3", "1@2.x3"),
        ("ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"),
        ("ann@example.xn--p1ai", "ann@example.xn--p1ai"),
        (f"{'a' * 64}@example.org", f"{'a' * 64}@example.org"),
        (f"{'a' * 64}@{LONG_DOMAIN}", f"{'a' * 64}@{LONG_DOMAIN}"),
        (f"a@{'b' * 63}.example", f"a@{'b' * 63}.example"),
    ],
)
def test_taken(raw, canonical):
    assert parse_email(raw) == canonical
    assert parse_email(canonical) == canonical


@pytest.mark.parametrize(
    "raw",
    [
        *("", "@", "a@", "@b", "ann", "ann.example.org"),
        # Other ways to write one address, or more than one
        *("Ann <ann@b.c>", "<ann@b.c>", "ann@b.c (Ann)", '"ann"@b.c', '"a b"@c.d', "a@b.c,d@e.f", "a@b.c;d@e.f"),
        *("mailto:a@b.c", "a@b@c.d", "a@@b.c", "a\\@b@c.d"),
        # Routes, commands, files, options, encoded words
        *("a%b@c.d", "a!b@c.d", "@a:b@c.d", "|sh@b.c", "/etc/x@b.c", "-oqueue@b.c", "a`id`@b.c", "a$x@b.c"),
        "=?utf-8?q?a?=@b.c",
        # Dots
        *(".a@b.c", "a.@b.c", "a..b@c.d", "a@.b.c", "a@b.c.", "a@b..c", "a@."),
        # Domains
        *("a@-b.c", "a@b-.c", "a@b_c.d", "a@b.c/d", "a@b:25", "a@[192.0.2.1]", "a@[IPv6:::1]", "a@192.0.2.1", "a@7"),
        *(f"a@{'b' * 64}.c", "a@bücher.example", "a@ｂ.c", "a@b。c"),
        # Lengths
        *(f"{'a' * 65}@b.c", f"{'a' * 64}@{LONG_DOMAIN}x.d"),
        # Spaces and what is not seen
        *(" a@b.c", "a@b.c ", "a @b.c", "a@ b.c", "a@b.c\n", "\na@b.c", "a@b.c\r\nBcc: d@e.f", "a@b.c\r", "a\0@b.c"),
        *("a\t@b.c", "a\x7f@b.c", "a\u200b@b.c", "a\u00a0@b.c", "\ufeffa@b.c", "a\u202e@b.c", "ä@b.c", "\ud800@b.c"),
    ],
)
def test_refused(raw):
    with pytest.raises(ValueError) as refusal:
        parse_email(raw)
    sentence = str(refusal.value)
    assert sentence[0].isupper()
    assert re.search(r"[.]\Z", sentence)
    assert len(raw) < 6 or raw not in sentence


def test_the_longest_is_254_characters():
    address = f"{'a' * 64}@{LONG_DOMAIN}"
    assert len(address) == 254
    assert parse_email(address)
    with pytest.raises(ValueError, match="254"):
        parse_email(f"{'a' * 64}@{LONG_DOMAIN[:-2]}.dd")


PARTS = st.text("aZ0.-_+@=~'\"%!<>, \r\n\0äé?#|/", max_size=20)


@given(st.one_of(st.text(max_size=300), st.builds("{}@{}".format, PARTS, PARTS)))
def test_whatever_passes_fits_the_table_and_is_one_plain_address(raw):
    try:
        address = parse_email(raw)
    except ValueError:
        return
    assert address == raw.lower() == parse_email(address)
    assert 3 <= len(address) <= 254
    assert re.fullmatch("[!-~]+", address)
    assert not set(address) & set('"\\,;:<>()[]%!|/`$?')
    assert Address(addr_spec=address).addr_spec == address


ATOM = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=10)


@given(st.lists(ATOM, min_size=1, max_size=4), st.lists(ATOM, min_size=1, max_size=4), st.sampled_from(["x", "local"]))
def test_ordinary_addresses_pass(local, labels, last):
    address = f"{'.'.join(local)}@{'.'.join([*labels, last])}"
    assert parse_email(address.upper()) == address


def test_an_address_meant_to_take_long_does_not():
    for raw in ("a@" + "a." * 126, "a@" + "a-" * 125 + "!", "." * 254, "a" * 250 + "@b.", "a@" + "1." * 125 + "1"):
        with pytest.raises(ValueError):
            parse_email(raw)
