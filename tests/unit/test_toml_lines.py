"""Lines of keys in TOML: right for every way of writing one, none at all rather than a wrong one."""

import json
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from imgpro.toml_lines import lines_of

EVERY_WAY = '''# a comment with [brackets] and = signs
[server]
listen = [
  ":8080",  # "x", ]
  "[::1]:9", 'a#b',
]
"base_url" = "http://x/#y"
[ "mail" . 'x y' ]
a.b.c = 1
a.b."d.e" = """
[fake]
x = 1 \\""" ""\"""
f = \'\'\'
z = 2\'\'\'
g = { h = 1, i = [ {j=1}, 2 ], k = {} }
d = 1979-05-27 07:32:00
[[arr]]
q = 1
[[arr]]
q = 2
[arr.sub]
r = 3
[[arr.deep]]
s = 1
e = []
'''


def test_every_way_of_writing_a_key():
    found = lines_of(EVERY_WAY, tomllib.loads(EVERY_WAY))
    mail = ("mail", "x y")
    expected = {
        ("server",): 2, ("server", "listen"): 3, ("server", "listen", 0): 4, ("server", "listen", 1): 5,
        ("server", "listen", 2): 5, ("server", "base_url"): 7, mail: 8, (*mail, "a", "b", "c"): 9,
        (*mail, "a", "b", "d.e"): 10, (*mail, "f"): 13, (*mail, "g", "h"): 15, (*mail, "g", "i", 0, "j"): 15,
        (*mail, "d"): 16, ("arr", 0, "q"): 18, ("arr", 1, "q"): 20, ("arr", 1, "sub", "r"): 22,
        ("arr", 1, "deep", 0, "s"): 24, ("arr", 1, "deep", 0, "e"): 25,
    }  # fmt: skip
    assert {path: found.get(path) for path in expected} == expected


def test_line_ends_of_windows_count_once():
    text = EVERY_WAY.replace("\n", "\r\n")
    assert lines_of(text, tomllib.loads(text)) == lines_of(EVERY_WAY, tomllib.loads(EVERY_WAY))


def test_no_line_where_the_two_readers_disagree():
    assert lines_of("a = 1\n", {"a": 1, "b": 2}) == {}
    assert lines_of("a = 1\nb = 2\n", {"a": 1}) == {}
    assert lines_of("[[[\n", {}) == {}
    assert lines_of("\n\na = 1", {"a": 1}) == {("a",): 3}


keys = st.text(min_size=1, max_size=8).filter(lambda text: "\x7f" not in text and text.isprintable())
values = st.recursive(
    st.one_of(st.integers(-5, 10**6), st.booleans(), st.text(st.characters(exclude_categories=["Cs", "Cc"]))),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(keys, st.dictionaries(keys, values, max_size=4), max_size=4), st.integers(0, 2))
def test_a_document_says_where_it_was_written(document, gap):
    lines, expected = [], {}
    for section, body in document.items():
        lines += ["# x = [1"] * gap
        lines.append(f"[{json.dumps(section, ensure_ascii=False)}]")
        expected[(section,)] = len(lines)
        for key, value in body.items():
            lines.append(f"{json.dumps(key, ensure_ascii=False)} = {json.dumps(value, ensure_ascii=False)}")
            expected[section, key] = len(lines)
    text = "\n".join(lines)
    assert tomllib.loads(text) == document
    found = lines_of(text, document)
    assert {path: found.get(path) for path in expected} == expected
