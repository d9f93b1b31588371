"""The parts of MCP that need no server: messages against the official package, arguments against their schemas."""

import base64
import contextlib

import jsonschema
import mcp_types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared import inbound
from mcp_types import version
from multidict import CIMultiDict, CIMultiDictProxy

from imgpro.errors import FileTooLarge, ValidationError
from imgpro.flows.options import parse_options
from imgpro.web import mcp_messages as messages
from imgpro.web.mcp_catalog import BY_NAME, MAX_DATA_BYTES, MAX_DATA_CHARS, TOOLS
from imgpro.web.mcp_messages import Fault
from imgpro.web.mcp_schema import check_arguments
from imgpro.web.mcp_tools import decode_data
from imgpro.web.upload import text_fields

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


def headers(**fields):
    return CIMultiDictProxy(CIMultiDict({name.replace("_", "-"): value for name, value in fields.items()}))


def test_numbers_and_names_are_those_of_the_official_package():
    assert messages.MODERN == version.MODERN_PROTOCOL_VERSIONS
    assert version.HANDSHAKE_PROTOCOL_VERSIONS[:0:-1] == messages.LEGACY
    for ours, theirs in (
        (messages.PARSE_ERROR, mcp_types.PARSE_ERROR),
        (messages.INVALID_REQUEST, mcp_types.INVALID_REQUEST),
        (messages.METHOD_NOT_FOUND, mcp_types.METHOD_NOT_FOUND),
        (messages.INVALID_PARAMS, mcp_types.INVALID_PARAMS),
        (messages.INTERNAL_ERROR, mcp_types.INTERNAL_ERROR),
        (messages.HEADER_MISMATCH, mcp_types.HEADER_MISMATCH),
        (messages.UNSUPPORTED_VERSION, mcp_types.UNSUPPORTED_PROTOCOL_VERSION),
        (messages.VERSION_META, mcp_types.PROTOCOL_VERSION_META_KEY),
        (messages.CAPABILITIES_META, mcp_types.CLIENT_CAPABILITIES_META_KEY),
        (messages.SERVER_META, mcp_types.SERVER_INFO_META_KEY),
        (messages.VERSION_HEADER.lower(), inbound.MCP_PROTOCOL_VERSION_HEADER),
        (messages.METHOD_HEADER.lower(), inbound.MCP_METHOD_HEADER),
        (messages.NAME_HEADER.lower(), inbound.MCP_NAME_HEADER),
    ):
        assert ours == theirs
    for code, status in inbound.ERROR_CODE_HTTP_STATUS.items():
        if code != mcp_types.MISSING_REQUIRED_CLIENT_CAPABILITY:
            assert Fault(code, "").status(modern=True) == status


@given(st.text())
def test_names_come_out_of_headers_as_they_went_in(name):
    assert messages.plain(inbound.encode_header_value(name)) == name


@given(ANYTHING, st.sampled_from([*messages.SUPPORTED, "x", None]))
def test_any_json_is_a_message_or_a_fault(decoded, sent):
    try:
        message = messages.read(decoded)
        spoken = messages.revision(message, headers() if sent is None else headers(MCP_Protocol_Version=sent))
    except Fault:
        return
    assert spoken in messages.SUPPORTED


@given(
    meta=st.fixed_dictionaries({}, optional={messages.VERSION_META: ANYTHING, messages.CAPABILITIES_META: ANYTHING}),
    params=st.fixed_dictionaries({}, optional={"name": ANYTHING}),
    sent=st.fixed_dictionaries(
        {},
        optional={
            "MCP_Protocol_Version": st.sampled_from([*messages.SUPPORTED, "x"]),
            "Mcp_Method": st.sampled_from(["tools/call", "x"]),
            "Mcp_Name": st.text(st.characters(codec="ascii"), max_size=9),
        },
    ),
)
def test_what_is_served_as_current_agrees_with_its_headers(meta, params, sent):
    message = messages.read({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"_meta": meta, **params}})
    try:
        spoken = messages.revision(message, headers(**sent))
    except Fault:
        return
    named = meta.get(messages.VERSION_META)
    assert named in (None, sent.get("MCP_Protocol_Version"))
    if spoken in messages.MODERN:
        assert named == spoken == sent["MCP_Protocol_Version"]
        assert sent["Mcp_Method"] == "tools/call"
        assert messages.plain(sent.get("Mcp_Name")) == params.get("name")


@given(tool=st.sampled_from(TOOLS), data=st.data())
def test_arguments_are_judged_as_their_schema_says(tool, data):
    """Types, names and choices, that is; the parsers of the API judge the rest."""
    plain = {
        name: {kept: schema[kept] for kept in ("type", "items", "enum") if kept in schema}
        for name, schema in tool.arguments.items()
    }
    loose = {**tool.input_schema, "properties": {name: {**s, "items": {"type": "string"}} if "items" in s else s for name, s in plain.items()}}  # fmt: skip
    some = SCALARS.filter(lambda value: value is not None) | st.lists(SCALARS, max_size=2)
    choices = st.sampled_from([choice for schema in plain.values() for choice in schema.get("enum", ["x"])] or ["x"])
    names = st.sampled_from([*tool.arguments, "else"]).filter(lambda name: name != "ttl")
    sent = data.draw(st.dictionaries(names, some | choices, max_size=4))
    details = {}
    try:
        check_arguments(tool, sent)
    except ValidationError as problem:
        details = problem.details
    assert jsonschema.Draft202012Validator(loose).is_valid(sent) is not bool(details)
    assert all(sentence.endswith(".") for sentence in details.values())


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"name": "n" * 255}, {"name": "n" * 256}),
        ({"description": "d" * 2000}, {"description": "d" * 2001}),
        ({"tags": [str(number) for number in range(10)]}, {"tags": [str(number) for number in range(11)]}),
        ({"tags": ["t" * 50]}, {"tags": ["t" * 51]}),
        ({"namespace": "a1"}, {"namespace": "a"}),
        ({"namespace": "a" * 64}, {"namespace": "a" * 65}),
        ({"namespace": "a-b"}, {"namespace": "-ab"}),
        ({"namespace": "a-1"}, {"namespace": "A-1"}),
        ({"ttl": "90d"}, {"ttl": "90w"}),
        ({"ttl": "300"}, {"ttl": "1.5h"}),
        ({"date": "2026-05-31"}, {"date": "31.5.2026"}),
        ({"date": "2026-05-31T18:30:00+02:00"}, {"date": "2026-05-31x"}),
        ({"public": False}, {"public": "no"}),
    ],
)
def test_schemas_and_parsers_draw_the_same_lines(good, bad):
    for tool in ("create_upload", "update_image"):
        extra = {"id": "0" * 12} if tool == "update_image" else {}
        validator = jsonschema.Draft202012Validator(BY_NAME[tool].input_schema)
        assert validator.is_valid({**good, **extra})
        assert not validator.is_valid({**bad, **extra})
    parse_options(text_fields(good, owned=True), owned=True)
    with pytest.raises(ValidationError):
        parse_options(text_fields(bad, owned=True), owned=True)


@given(st.binary(min_size=1, max_size=100), st.booleans(), st.sampled_from(["", "data:image/png;base64,", "data:,"]))
def test_base64_in_any_dress(body, padded, prefix):
    text = base64.encodebytes(body).decode()
    assert decode_data(prefix + (text if padded else text.replace("=", ""))) == body


def test_the_limit_of_a_file_in_a_call():
    largest = base64.b64encode(bytes(MAX_DATA_BYTES)).decode()
    assert len(decode_data(largest)) == MAX_DATA_BYTES
    assert len(largest) + 200 >= MAX_DATA_CHARS > len(largest)
    with pytest.raises(FileTooLarge):
        decode_data(base64.b64encode(bytes(MAX_DATA_BYTES + 1)).decode())


@given(st.text())
def test_other_text_is_refused_or_decoded(text):
    with contextlib.suppress(ValidationError):
        assert decode_data(text)
