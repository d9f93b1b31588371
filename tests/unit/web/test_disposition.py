"""Names of files as browsers, curl, older programs and mail programs write them into the header of a part."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpro.web.disposition import names

BEFORE = 'form-data; name="file"; filename='


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ('"a.png"', "a.png"),
        ("a.png", "a.png"),
        (" a.png ", "a.png"),
        ('"a;b;c.png"', "a;b;c.png"),
        ('";;;"', ";;;"),
        ('"; filename=x; "', "; filename=x; "),
        ('"a=b.png"', "a=b.png"),
        ('"a %22b%22 100%25.png"', 'a "b" 100%25.png'),
        (r'"a \"b\" \\ c.png"', 'a "b" \\ c.png'),
        (r'"a\b.png"', r"a\b.png"),
        ('"a\\"', "a\\"),
        ('"a\\"; x="y"', "a\\"),
        ('"a"b.png"', 'a"b.png'),
        ('"a"b"; x=y', 'a"b'),
        ('"C:\\\\new\\"', "C:\\\\new\\"),
        (r'"C:\new\x.png"', r"C:\new\x.png"),
        (r'"\\server\share\x.png"', r"\\server\share\x.png"),
        ('"a%0D%0Ab%0Ac%0Dd.png"', "a b c d.png"),
        ('"100%0a.png"', "100%0a.png"),
        ('"🎉 é \u2028.png"', "🎉 é \u2028.png"),
        ('"\udcff.png"', "\udcff.png"),
        ('""', ""),
        ("", ""),
        ('"never ended', "never ended"),
        ('"a.png";', "a.png"),
        ('"a.png" ; ', "a.png"),
        ('"first"; filename="second"', "first"),
        ("\"plain\"; filename*=UTF-8''%e2%82%ac%20rates.png", "€ rates.png"),
        ("\"plain\"; filename*=iso-8859-1'en'%A3%20rates.png", "£ rates.png"),
        ("\"plain\"; filename*=UTF-8''%ff", "plain"),
        ("\"plain\"; filename*=UTF-8''\udcff%41", "plain"),
        ("\"plain\"; filename*0*=UTF-8''\udcff; filename*1*=%41", "plain"),
        ("\"plain\"; filename*=iso-8859-1''\udce9%41", "éA"),
        ("\"plain\"; filename*=nothing''x", "plain"),
        ("\"plain\"; filename*=unicode_escape''%5Cx41", "plain"),
        ('"plain"; filename*=x', "plain"),
        ('"plain"; filename*0="long "; filename*1="na;me"; filename*2=.png', "long na;me.png"),
        ('"plain"; filename*1*=%20b; filename*0*=utf-8\'en\'a%E2%82%AC; filename*2="%20c"', "a€ b%20c"),
        ('"plain"; filename*1="b"', "plain"),
    ],
)
def test_the_name_of_a_file(written, name):
    assert names(BEFORE + written) == ("file", name)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", (None, None)),
        ("form-data", (None, None)),
        ("form-data; name=file", ("file", None)),
        ('form-data; FileName="x"; NAME="y"', ("y", "x")),
        ('form-data;name="a;b";;nonsense;"quoted";filename="x"', ("a;b", "x")),
        ('; name="y"', ("y", None)),
        ("form-data; name*=utf-8''%C3%A9", ("é", None)),
    ],
)
def test_the_names_of_a_part(header, found):
    assert names(header) == found


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters='\r\n"'), max_size=40))
def test_any_name_that_a_browser_sends_is_read_as_it_was(name):
    escaped = name.replace('"', "%22")
    if "\\\\" not in name and "%22" not in name and "%0" not in name:
        assert names(f'{BEFORE}"{escaped}"') == ("file", name)


@given(st.text(alphabet=";\"\\=* '%0123afilename.", max_size=60))
def test_nothing_is_refused(text):
    field, name = names(BEFORE + text)
    assert field == "file"
    assert isinstance(name, str)


def test_long_headers_cost_no_more_than_their_length():
    dice, worst = random.Random(1), []
    for unit in ('"', ";", "\\", " ", '";', "; a", "; a=", '="', "a", '; filename*1="x"', "*", '" ', "\\;"):
        for size in (2_000, 32_000):
            text = BEFORE + dice.choice(['"', ""]) + unit * (size // len(unit))
            began = time.process_time()
            names(text)
            worst.append((time.process_time() - began, size))
    short = sum(took for took, size in worst if size == 2_000)
    assert sum(took for took, size in worst if size == 32_000) < 60 * short + 0.2, worst
