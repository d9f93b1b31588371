"""Pictures in JSON, whatever the pieces are in which a body arrives."""

import asyncio
import base64
import contextlib
import json
import random
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpro.errors import BadRequest, FileTooLarge, ValidationError
from imgpro.settings import Uploads
from imgpro.web.bodies import Pace
from imgpro.web.json_file import JsonFile, decode_base64, json_length

KNOWN = ("name", "tags")


class Arriving:
    """A body in pieces."""

    def __init__(self, pieces):
        self._pieces = list(pieces)

    async def readany(self):
        return self._pieces.pop(0) if self._pieces else b""


def read(pieces, max_bytes=1 << 20):
    """Return the picture and the fields of a body."""
    request = SimpleNamespace(headers={}, content=Arriving(piece for piece in pieces if piece))
    found = JsonFile(request, Pace(Uploads()), max_bytes, KNOWN)

    async def gather():
        return b"".join([chunk async for chunk in found.file_chunks()])

    return asyncio.run(gather()), found.fields


def cut(body, seed):
    places = sorted(random.Random(seed).choices(range(len(body) + 1), k=12))
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]


names = st.text(max_size=6).filter(lambda name: name not in (*KNOWN, "file"))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab"\\/{}[]:,\u00e9\n', max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    size=st.sampled_from([1, 2, 3, 6_000, 6_143, 6_144, 6_145, 20_000]),
    name=names,
    before=st.dictionaries(names, values.filter(lambda value: not isinstance(value, str)), max_size=3),
    after=st.dictionaries(names, values.filter(lambda value: not isinstance(value, str)), max_size=3),
    seed=st.integers(0, 1 << 16),
    style=st.sampled_from(["plain", "ascii", "slashes", "lines", "safe", "bare", "uri"]),
    indent=st.sampled_from([None, 2]),
)
def test_any_object_in_any_pieces(size, name, before, after, seed, style, indent):
    picture = random.Random(seed).randbytes(size)
    text = base64.b64encode(picture).decode()
    text = {
        "lines": "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
        "safe": text.replace("+", "-").replace("/", "_"),
        "bare": text.rstrip("="),
        "uri": f"data:image/png;base64,{text}",
    }.get(style, text)
    said = {key: value for key, value in {**before, **after}.items() if key != name}
    body = {**{key: value for key, value in said.items() if key in before}, name: text, **said, "name": "a.png"}
    written = json.dumps(body, ensure_ascii=style == "ascii", indent=indent)
    if style == "slashes":
        written = written.replace("/", "\\/").replace("+", "\\u002b")
        said = json.loads(json.dumps(said))
    sent = written.encode("utf-8", "surrogatepass")
    found, fields = read(cut(sent, seed))
    assert found == picture
    assert fields == {**said, "name": "a.png"}


@given(body=st.binary(max_size=60), seed=st.integers(0, 1 << 16), long=st.booleans())
def test_what_is_wrong_is_said_and_nothing_else_happens(body, seed, long):
    picture = base64.b64encode(bytes(7_000))
    whole = body.replace(b"@", picture) if not long else b'{"a": "' + picture + body
    with contextlib.suppress(BadRequest, FileTooLarge, ValidationError):
        read(cut(whole, seed))


@given(text=st.text('AB+/-_= \n\\"?', max_size=24))
def test_base64_is_strict(text):
    found = None
    with contextlib.suppress(ValidationError):
        found = decode_base64("file", text)
    plain = text.replace("-", "+").replace("_", "/").replace(" ", "").replace("\n", "")
    bare = plain.rstrip("=")
    if found is None:
        assert re.search("[^A-Za-z0-9+/]", bare) or len(bare) % 4 == 1 or len(plain) > len(bare)
    else:
        assert base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True) == found


def test_nothing_is_read_beyond_what_a_file_can_take():
    read = []

    class Endless:
        async def readany(self):
            read.append(1)
            return b" " * 65_536 if len(read) > 1 else b'{"a": "' + b" " * 65_529  # all of it is text of the picture

    request = SimpleNamespace(headers={}, content=Endless())
    found = JsonFile(request, Pace(Uploads()), 100_000, KNOWN)

    async def gather():
        return [chunk async for chunk in found.file_chunks()]

    with pytest.raises(FileTooLarge):
        asyncio.run(gather())
    assert len(read) * 65_536 <= json_length(100_000) + 65_536


def test_the_length_of_a_body_leaves_room_for_lines_and_escapes():
    picture = random.Random(1).randbytes(1 << 20)
    text = base64.encodebytes(picture).decode().replace("\n", "\r\n")
    assert len(json.dumps({"file": text}).replace("/", "\\/")) < json_length(len(picture))
