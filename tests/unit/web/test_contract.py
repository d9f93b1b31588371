"""The contract's document: valid, complete, made of the structs, and true of the code as far as that shows without HTTP."""

import asyncio
import importlib.resources
import json
import re
import subprocess
import sys

import jsonschema_rs
import msgspec
import pytest
import yaml
from aiohttp import web
from schemathesis.specs.openapi.definitions import OPENAPI_31

from docs import make_openapi
from imgpro import errors, model, recipes
from imgpro.appliance import Appliance
from imgpro.errors import ImgproError, OperatorError, ValidationError
from imgpro.flows import browse, email_address, fetch, options, replays
from imgpro.settings import Settings, Storage
from imgpro.web import app, contract, contract_requests, keys, respond, upload
from imgpro.web.clients import Clients
from imgpro.web.pages import Templates

DOCUMENTS = importlib.resources.files("imgpro") / "documents"
TEXT = (DOCUMENTS / "openapi.yaml").read_text(encoding="utf-8")
DOCUMENT = yaml.safe_load(TEXT)
SCHEMAS = DOCUMENT["components"]["schemas"]
BASE = "https://img.example.org"
METHODS = ("get", "head", "post", "put", "patch", "delete")
ANEW = "run `python docs/make_openapi.py`"
# Routes that are no interface for programs: forms and pages for people, which change as they need.
PAGES = {
    "/": "the upload form",
    "/{id}/qr.svg": "a drawing on the page of a picture",
    "/{id}/edit": "the form there",
    "/{id}/remove": "the question there, and its button",
    "/share": "what a device's share sheet sends, found in the manifest",
    "/import": "what a bookmark opens, and the button on its page",
    "/manifest.webmanifest": "for browsers, which find it on every page",
    "/verify": "the mailed link, and the button on its page",
    "/upgrade/{plan}": "an upgrade's link, and the button on its page",
    "/upgrade/{plan}/return": "the way back from a checkout, between the operator and it",
    "/setup": "the form that makes the operator's account",
    "/join": "the form that an invitation opens",
    "/dashboard": "the pictures of who is signed in",
    "/dashboard/account": "what an account sees of itself",
    "/dashboard/zip": "a form of the gallery",
    "/dashboard/connect": "the programs that can be connected",
    "/dashboard/connect/{program}": "what one of them needs, and the button that makes it",
    "/dashboard/connect/{program}/file": "a form there",
    "/dashboard/connect/{program}/revoke": "a form there",
    "/dashboard/connect/{program}/arrived": "what its script asks",
    "/dashboard/connect/{program}/phone": "the same on a phone, by a code",
    "/dashboard/sign-in": "the ways in",
    "/dashboard/sign-in/link": "a form there",
    "/sign-in": "a link that signs in, and the button on its page",
    "/dashboard/sign-out": "a form there",
    "/dashboard/keys": "a form there",
    "/dashboard/revoke": "a form there",
    "/dashboard/end-session": "a form there",
    "/dashboard/leave": "a form there",
    "/operator": "what the operator sees",
    "/operator/accounts": "what the operator sees",
    "/operator/accounts/{id}": "what the operator sees, and the forms there",
    "/operator/retention": "what the operator sees, and the forms there",
    "/operator/retention/rehearse": "what a form there leads to",
    "/operator/settings": "what the operator sees",
    "/operator/log": "what the operator sees",
    "/operator/backups": "what the operator sees",
    "/operator/decide": "a form there",
    "/operator/invite": "a form there",
    "/operator/pictures": "a form there",
    "/robots.txt": "for crawlers, who know it",
    "/static/{name}": "style and scripts of the pages",
}


def resolved(node):
    while "$ref" in node:
        found = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def operations():
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def contents():
    """Yield everything sent and answered: where it stands, the status (None: sent), its media type and the rest."""
    for method, path, operation in operations():
        for kind, media in resolved(operation.get("requestBody", {})).get("content", {}).items():
            yield f"{method} {path}", None, kind, media
        for status, reply in operation["responses"].items():
            for kind, media in resolved(reply).get("content", {}).items():
                yield f"{method} {path} {status}", int(status), kind, media


def examples():
    for where, status, kind, media in contents():
        for name, example in media.get("examples", {}).items():
            yield pytest.param(status, kind, media["schema"], resolved(example)["value"], id=f"{where} {kind} {name}")


def faults(schema, value):
    """Return what is wrong with a value by a schema of the document."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return [
        fault.message for fault in jsonschema_rs.Draft202012Validator(whole, validate_formats=True).iter_errors(value)
    ]


def kinds(base=ImgproError):
    yield base
    for kind in base.__subclasses__():
        if not issubclass(kind, OperatorError):
            yield from kinds(kind)


# The document itself


def test_it_is_valid_openapi():
    assert [fault.message for fault in jsonschema_rs.validator_for(OPENAPI_31).iter_errors(DOCUMENT)] == []


def test_every_schema_is_valid_json_schema():
    assert SCHEMAS
    for name, schema in SCHEMAS.items():
        assert jsonschema_rs.meta.is_valid(schema), name
    for where, _, kind, media in contents():
        assert jsonschema_rs.meta.is_valid(media.get("schema", {})), (where, kind)


def test_the_schemas_are_those_of_the_structs():
    assert contract.schemas() == SCHEMAS, ANEW
    assert make_openapi.with_schemas(TEXT) == TEXT, ANEW


def test_the_json_says_what_the_yaml_says():
    assert json.loads((DOCUMENTS / "openapi.json").read_text(encoding="utf-8")) == DOCUMENT, ANEW


def test_its_address_can_be_replaced():
    assert DOCUMENT["servers"] == [{"url": BASE}]
    assert set(re.findall(r"https?://([\w.-]+\w)", TEXT)) == {"img.example.org", "example.com"}


def test_every_operation_is_described():
    found = [operation for _, _, operation in operations()]
    assert len({operation["operationId"] for operation in found}) == len(found)
    tags = [tag["name"] for tag in DOCUMENT["tags"]]
    for operation in found:
        assert operation["tags"][0] in tags
        assert operation["summary"]
        assert operation["description"].strip().endswith((".", "```")), operation["operationId"]
        for parameter in map(resolved, operation.get("parameters", [])):
            assert parameter["description"].endswith("."), parameter
            if "example" in parameter:
                assert faults(parameter["schema"], parameter["example"]) == [], parameter
    for header in DOCUMENT["components"]["headers"].values():
        assert header["description"].endswith(".")
        assert "example" not in header or faults(header["schema"], header["example"]) == [], header


def test_links_lead_to_operations():
    known = {operation["operationId"]: operation for _, _, operation in operations()}
    followed = 0
    for _, _, operation in operations():
        for reply in map(resolved, operation["responses"].values()):
            for link in reply.get("links", {}).values():
                target = known[link["operationId"]]
                names = {parameter["name"] for parameter in map(resolved, target["parameters"])}
                assert set(link["parameters"]) <= names
                followed += 1
    assert followed > 20


def test_no_component_is_left_over():
    for kind in ("parameters", "headers", "responses", "requestBodies", "examples", "schemas"):
        for name in DOCUMENT["components"][kind]:
            assert f'"#/components/{kind}/{name}"' in json.dumps(DOCUMENT), name


# Routes


@pytest.fixture(scope="module")
def routed(tmp_path_factory):
    """Every method and path of the real router."""

    async def look():
        settings = Settings(storage=Storage(reserve_bytes=0))
        appliance = await Appliance.start(settings, tmp_path_factory.mktemp("routes") / "data", serving=False)
        try:
            made = web.Application()
            made.router.add_routes(app.routes(appliance, Clients("", ()), Templates("")))
            return {(route.method.lower(), route.resource.canonical) for route in made.router.routes()}
        finally:
            await appliance.close()

    return asyncio.run(look())


def test_router_and_document_hold_the_same(routed):
    # HEAD comes with every GET; the document says so once, and names it where it is of use.
    public = {(method, path) for method, path in routed if path not in PAGES}
    documented = {(method, path) for method, path, _ in operations()}
    assert {one for one in documented if one[0] != "head"} == {one for one in public if one[0] != "head"}
    assert {one for one in documented if one[0] == "head"} <= public
    assert {path for _, path in routed} >= set(PAGES)


# Examples


@pytest.mark.parametrize(("status", "kind", "schema", "value"), list(examples()))
def test_every_example_fits(status, kind, schema, value):
    assert faults(schema, value) == []
    if kind != "application/json" or "$ref" not in schema:
        return
    name = schema["$ref"].rpartition("/")[2]
    struct = getattr(contract, name, None) or getattr(contract_requests, name)
    decoded = msgspec.convert(value, struct)
    assert msgspec.to_builtins(decoded) == value  # nothing in it that the struct does not know


def test_everything_in_json_has_an_example():
    without = [where for where, _, kind, media in contents() if "json" in kind and not media.get("examples")]
    assert without == []


def test_examples_in_schemas_fit():
    seen = 0

    def look(node):
        nonlocal seen
        if isinstance(node, dict):
            for example in node.get("examples", ()) if "type" in node else ():
                seen += 1
                assert faults(node, example) == [], node
            for value in node.values():
                look(value)
        elif isinstance(node, list):
            for value in node:
                look(value)

    look(DOCUMENT)
    assert seen > 5


# Errors


def test_every_code_is_documented_and_no_other():
    codes = {kind.code for kind in kinds()}
    assert set(SCHEMAS["Error"]["properties"]["error"]["enum"]) == codes
    shown = {
        resolved(example)["value"]["error"]
        for _, _, _, media in contents()
        if media.get("schema", {}).get("$ref", "").endswith("/Error")
        for example in media["examples"].values()
    }
    # 405 answers no operation: it is what an operation that is not there gives.
    assert shown == codes - {"method_not_allowed"}


def test_every_error_stands_under_its_status():
    known = {(kind.status, kind.code) for kind in kinds()}
    # What aiohttp refuses itself, and the status that oEmbed wants.
    known |= {(417, "bad_request"), (501, "bad_request")}
    actions = {kind.code: kind.action.type for kind in kinds()}
    ways_out = {"quota_exceeded": {"verify", "upgrade", "redirect"}, "forbidden": {"fix", "verify", "redirect"}}
    for where, status, _, media in contents():
        if not media.get("schema", {}).get("$ref", "").endswith("/Error"):
            continue
        for example in media["examples"].values():
            value = resolved(example)["value"]
            code, action = value["error"], value["action"]
            assert (status, code) in known, where
            if code != "fetch_failed":  # the one code with two statuses and an action for each
                assert action["type"] in ways_out.get(code, {actions[code]}), where
            assert (action["type"] == "wait") is ("seconds" in action), where
            assert (code == "validation_error") is ("details" in value), where
            assert (code == "quota_exceeded") is ("usage" in value), where


def test_every_answer_that_asks_to_wait_has_the_header():
    for method, path, operation in operations():
        for status, reply in operation["responses"].items():
            media = resolved(reply).get("content", {}).get("application/json", {})
            shown = [resolved(example)["value"] for example in media.get("examples", {}).values()]
            if shown and all("error" in one and one.get("action", {}).get("type") == "wait" for one in shown):
                assert "Retry-After" in resolved(reply)["headers"], (method, path, status)


@pytest.mark.parametrize("kind", list(kinds()))
def test_the_struct_decodes_every_error(kind):
    problem = kind(None, None, {"ttl": "Must be shorter."}) if kind is ValidationError else kind()
    if kind is errors.QuotaExceeded:
        problem.usage = model.Usage(
            plan="free", uploads_used=1, uploads_limit=None, storage_used_bytes=1, storage_limit_bytes=2
        )
    body = msgspec.json.encode(respond.error_body(problem, BASE))
    decoded = msgspec.json.decode(body, type=contract.Error)
    assert msgspec.to_builtins(decoded) == json.loads(body)
    assert faults(SCHEMAS["Error"], json.loads(body)) == []


# Requests: the structs say what the checks by hand take


@pytest.mark.parametrize(
    ("struct", "check", "body"),
    [
        (contract_requests.ChangeRequest, options.parse_changes, {"name": "a.png", "description": None, "tags": "a,b"}),
        (
            contract_requests.ChangeRequest,
            options.parse_changes,
            {"tags": ["a", "b"], "tag_mode": "remove", "public": 0},
        ),
        (
            contract_requests.ChangeRequest,
            options.parse_changes,
            {"public": "true", "namespace": None, "date": "", "ttl": ""},
        ),
        (contract_requests.ChangeRequest, options.parse_changes, {"ttl": 300, "date": "2026-05-31T18:30:00+02:00"}),
        (
            contract_requests.ImportRequest,
            lambda body: imported(body),
            {"url": "HTTPS://example.com/a", "name": "", "ttl": "5m"},
        ),
        (
            contract_requests.ImportRequest,
            lambda body: imported(body),
            {"url": "http://e", "public": False, "tags": None},
        ),
        (contract_requests.KeyRequest, lambda body: asked(body), {"email": "ann@example.org", "abilities": ["upload"]}),
        (
            contract_requests.KeyRequest,
            lambda body: asked(body),
            {"email": "a@nas", "abilities": "read,upload", "name": ""},
        ),
        (
            contract_requests.VerifyRequest,
            lambda body: keys.parse_email_field(body, None),
            {"email": "ann@example.org"},
        ),
    ],
)
def test_struct_and_check_take_the_same(struct, check, body):
    msgspec.convert(body, struct)
    assert faults(SCHEMAS[struct.__name__], body) == []
    check(body)


@pytest.mark.parametrize(
    ("struct", "check", "field", "wrong"),
    [
        *(
            (contract_requests.ChangeRequest, options.parse_changes, "name", wrong)
            for wrong in (None, 1, True, "", "x" * 256)
        ),
        *(
            (contract_requests.ChangeRequest, options.parse_changes, "description", wrong)
            for wrong in (1, [], "x" * 2001)
        ),
        *(
            (contract_requests.ChangeRequest, options.parse_changes, "tags", wrong)
            for wrong in (None, 1, {}, [1], ["x" * 51])
        ),
        *((contract_requests.ChangeRequest, options.parse_changes, "public", wrong) for wrong in (None, 2, "yes", 1.5)),
        *(
            (contract_requests.ChangeRequest, options.parse_changes, "ttl", wrong)
            for wrong in (299, 7_776_001, "1y", True)
        ),
        *(
            (contract_requests.ChangeRequest, options.parse_changes, "date", wrong)
            for wrong in (1, "31.5.2026", "2026-05")
        ),
        *(
            (contract_requests.ImportRequest, lambda body: imported(body), "name", wrong)
            for wrong in (1, True, "x" * 256)
        ),
        *(
            (contract_requests.ImportRequest, lambda body: imported(body), "ttl", wrong)
            for wrong in (True, 299, 1.5, "")
        ),
        *((contract_requests.ImportRequest, lambda body: imported(body), "public", wrong) for wrong in (2, "yes", [])),
        *((contract_requests.ImportRequest, lambda body: imported(body), "tags", wrong) for wrong in (1, {}, [1])),
        *(
            (contract_requests.KeyRequest, lambda body: asked(body), "abilities", wrong)
            for wrong in ([], ["admin"], "admin", 1)
        ),
        *(
            (contract_requests.KeyRequest, lambda body: asked(body), "name", wrong)
            for wrong in (None, 1, "x" * 101, " " * 101)
        ),
        *((contract_requests.KeyRequest, lambda body: asked(body), "email", wrong) for wrong in (1, "ann", "a@b" * 99)),
    ],
)
def test_struct_and_check_refuse_the_same(struct, check, field, wrong):
    body = {"url": "https://example.com/a", "email": "ann@example.org", field: wrong}
    with pytest.raises(ValidationError) as caught:
        check(body)
    assert set(caught.value.details) == {field}
    assert faults(SCHEMAS[struct.__name__], body) != []


def imported(body):
    return options.parse_options(upload.text_fields(body, owned=True), owned=True)


def asked(body):
    return keys.parse_key_request(body, needs_email=True)


def test_limits_are_those_of_the_code():
    change, wanted, key = (SCHEMAS[name]["properties"] for name in ("ChangeRequest", "ImportRequest", "KeyRequest"))
    assert change["name"]["maxLength"] == wanted["name"]["anyOf"][0]["maxLength"] == options.MAX_NAME_CHARS
    assert change["description"]["anyOf"][0]["maxLength"] == options.MAX_DESCRIPTION_CHARS
    assert change["tags"]["anyOf"][0]["items"]["maxLength"] == options.MAX_TAG_CHARS
    assert change["ttl"]["anyOf"][0]["minimum"] == options.MIN_TTL_S
    assert change["ttl"]["anyOf"][0]["maximum"] == options.MAX_TTL_S
    assert wanted["url"]["maxLength"] == fetch.MAX_URL_CHARS
    assert key["name"]["maxLength"] == keys.MAX_KEY_NAME_CHARS
    assert key["email"]["anyOf"][0]["maxLength"] == email_address.MAX_CHARS

    listed = parameters("get", "/v1/media")
    assert listed["limit"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": browse.MAX_LIMIT,
        "default": browse.DEFAULT_LIMIT,
    }
    assert listed["q"]["maxLength"] == browse.MAX_TEXT_CHARS
    formats = set(msgspec.inspect.type_info(model.StoredFormat).values)
    assert set(listed["type"]["enum"]) == formats | {"jpg"}
    assert set(SCHEMAS["Image"]["properties"]["format"]["enum"]) == formats

    sent = parameters("post", "/v1/upload")
    assert sent["Idempotency-Key"]["maxLength"] == replays.MAX_KEY_CHARS
    assert set(upload.TEXT_FIELDS) <= set(sent)
    form = DOCUMENT["paths"]["/v1/upload"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"file", *upload.TEXT_FIELDS}

    picture = parameters("get", "/t/{id}.{ext}")
    assert set(picture["ext"]["enum"]) == formats | set(recipes.EXTENSIONS)
    assert set(picture["size"]["enum"]) == {"o", *recipes.SHORT_EDGE_PX}


def parameters(method, path):
    operation = DOCUMENT["paths"][path][method]
    return {parameter["name"]: parameter["schema"] for parameter in map(resolved, operation["parameters"])}


def test_the_server_does_without_yaml():
    code = "import imgpro.web.app, imgpro.cli.serve, sys; sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
