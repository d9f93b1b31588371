"""The server against its own contract: generated requests that search for what is wrong.

The search is Schemathesis's, as a program of its own because it also plans chains of requests; it loads this module for
the hooks below (SCHEMATHESIS_HOOKS). What its checks may overlook stands here and nowhere else, with the reason.
"""

import base64
import json
import os
import re
import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.core.mutations import OperatorKind
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import CoverageScenario, TestPhase

from imgpro.cli import office
from imgpro.ids import IMAGE_ID
from imgpro.sources import load
from tests.peers import importing_from, picture_peer
from tests.pictures import encoded, make_image
from tests.servers import ROOT, UNLIMITED, running
from tests.wire import complaints

DOCUMENT = ROOT / "imgpro" / "documents" / "openapi.json"
PNG = encoded(make_image("RGB", (40, 30)), "PNG")
EMAIL = "ann@example.org"
ADDRESS = re.compile(r"https?://.{1,2000}", re.IGNORECASE)
GENEROUS = UNLIMITED | {
    "IMGPRO_PLANS_UNLIMITED": "true",
    "IMGPRO_ACCOUNTS_KEYS": "1000000",
    "IMGPRO_ACCOUNTS_UNVERIFIED_KEYS": "1000000",
    "IMGPRO_ACCOUNTS_KEYS_PER_ADDRESS_PER_HOUR": "unlimited",
    "IMGPRO_ACCOUNTS_KEYS_PER_NETWORK_PER_HOUR": "unlimited",
    "IMGPRO_ACCOUNTS_REQUESTS_PER_MINUTE": "unlimited",
}
SPECIFIED = json.loads(DOCUMENT.read_text("utf-8"))
# By label, as reports name operations: which ways of asking each allows.
SECURITY = {
    f"{method.upper()} {path}": operation.get("security", SPECIFIED["security"])
    for path, item in SPECIFIED["paths"].items()
    for method, operation in item.items()
}
# What the program with the hooks is told of the server that it searches.
OWN_KEY, PICTURE, BASE, PEER = (
    os.environ.get(f"CONTRACT_{name}", "") for name in ("KEY_ID", "PICTURE", "BASE", "PEER")
)

# Where a request that fits its schema may be refused all the same: what a schema cannot say.
RULES_BEYOND_SCHEMAS = {
    "/v1/upload": "a day that exists, a span within bounds, tags without control characters",
    "/v1/upload/{name}": "the same",
    "/v1/import": "the same, and an address that answers",
    "/v1/media": "the same, a cursor that was made here, and so many words",
    "/v1/media/{id}": "a day that exists, a span within bounds, a name of more than control characters",
    "/v1/keys": "an address that mail reaches, and with a key none but its own account's",
    "/v1/keys/verify": "the same",
}
# Parameters whose wrong values mean the default, as the document says of each: a link must not break over them.
GENEROUS_PARAMETERS = {
    "/oembed": {"maxwidth", "maxheight"},
    "/v1/upload": {"format", "link"},
    "/v1/upload/{name}": {"format", "link"},
    "/v1/import": {"format", "link"},
}
CONFIG = """
[[operations]]
include-path = "/oembed"
# oEmbed itself wants 501 for a format that is not offered.
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501"]

[[operations]]
include-path = "/mcp"
# Whether a message is right depends on its revision, its method and headers that repeat it.
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404"]
# Errors of JSON-RPC are answers with status 200 in revisions before 2026.
checks.negative_data_rejection.expected-statuses = ["200", "4xx"]

[[operations]]
include-path = "/upload"
# PicGo's protocol has its failures with status 200.
checks.negative_data_rejection.enabled = false

[[operations]]
include-path = "/delete"
checks.negative_data_rejection.enabled = false

[[operations]]
include-path = "/t/{id}.{ext}"
# Every wrong size, range and so on means the default, as the document says: a link must not break over it.
checks.negative_data_rejection.enabled = false
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", "404", "416", "422"]
""" + "".join(
    f"""
[[operations]]
include-path = "{path}"
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "422"]
"""
    for path in RULES_BEYOND_SCHEMAS
)
# Without a key `tags` and `namespace` are ignored, whatever they hold.
ANONYMOUS_CONFIG = "".join(
    f"""
[[operations]]
include-path = "{path}"
checks.negative_data_rejection.enabled = false
"""
    for path in ("/v1/upload", "/v1/upload/{name}", "/v1/import")
)


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Take out what only people understand, and put in what plain OpenAPI cannot say."""
    form = raw_schema["paths"]["/v1/upload"]["post"]["requestBody"]["content"]["multipart/form-data"]
    del form["examples"]  # they have words in the place of bytes
    links = raw_schema["components"]["responses"]["Created"]["links"]
    for operation in ("getDeletePage", "confirmDeletion", "deleteByLink"):
        token = "$response.body#/delete_url#regex:token=(.+)"
        links[operation] = {"operationId": operation, "parameters": {"id": "$response.body#/id", "token": token}}


schemathesis.openapi.format("binary", st.sampled_from([PNG, encoded(make_image("RGB", (40, 30)), "GIF")]))
schemathesis.openapi.format("byte", st.sampled_from([base64.b64encode(PNG).decode()]))


@schemathesis.hook
def map_body(context, body):
    """Leave fields out of a form whose names the HTTP client would write into headers as they are."""
    if context.operation.path != "/v1/upload" or not isinstance(body, dict):
        return body
    return {name: value for name, value in body.items() if name.isascii() and name.isprintable()}


@schemathesis.hook
def filter_case(context, case):
    """Keep the run from revoking the key it lives by."""
    return (case.path_parameters or {}).get("key_id") != OWN_KEY


@schemathesis.hook
def before_call(context, case, kwargs):
    """Put in what no generator invents, so that all else decides: a picture, its id, an address that has one."""
    for name, value in list(case.headers.items()):
        if isinstance(value, str) and max(value, default=" ") > "\xff":
            del case.headers[name]  # chains invent headers that the HTTP client then refuses to send
    if case.meta is None or case.meta.phase.name == TestPhase.STATEFUL:
        for name in ("format", "link"):
            case.query.pop(name, None)  # an answer of one line of text has no fields that a chain could go on from
        return
    case.query.pop("ticket", None)  # every invented one is refused,
    if not case.meta.is_negative_at(ParameterLocation.HEADER):
        case.headers.pop("Idempotency-Key", None)  # and the same one for other requests too
    if case.method != "DELETE" and IMAGE_ID.fullmatch(str((case.path_parameters or {}).get("id"))):
        case.path_parameters["id"] = PICTURE
    if case.operation.path == "/oembed" and ADDRESS.fullmatch(str(case.query.get("url"))):
        case.query["url"] = f"{BASE}/{PICTURE}"
    if case.operation.path == "/v1/import" and isinstance(case.body, dict):
        url = f"http://127.0.0.1:{PEER}/picture.png"
        case.body = {**case.body, "url": url} if ADDRESS.fullmatch(str(case.body.get("url"))) else case.body


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Overlook that a wrong request was taken where it was not wrong, or only in what is generous or ignored."""
    if not isinstance(failure, AcceptedNegativeData) or case.meta is None:
        return True
    data = case.meta.phase.data
    if data.description == "Positive test case":
        return False  # the generator's own word for a request in which it found nothing to make wrong
    if mutations := getattr(data, "mutations", ()):
        return not all(is_harmless(one, case, response) for one in mutations)
    unknown = getattr(data, "scenario", None) == CoverageScenario.OBJECT_UNEXPECTED_PROPERTIES
    return not unknown and data.parameter not in GENEROUS_PARAMETERS.get(case.operation.path, ())


def is_harmless(mutation, case, response):
    """Tell whether what the generator made wrong is ignored, or is nothing wrong on the wire."""
    unknown = mutation.keywords == ("additionalProperties",)
    if unknown or mutation.parameter in GENEROUS_PARAMETERS.get(case.operation.path, ()):
        return True
    if mutation.parameter_location == ParameterLocation.QUERY:  # not sent at all, or text that is a comma list too
        sent = parse_qs(urlsplit(response.request.url).query, keep_blank_values=True)
        return mutation.parameter not in sent or mutation.parameter == "tags"
    # In a form every value is text.
    return case.media_type == "multipart/form-data" and mutation.operator == OperatorKind.CHANGE_TYPE


def search(tmp_path, *options, with_key=True):
    """Let Schemathesis search a server of its own; return what it reports."""
    data, config, report = tmp_path / "data", tmp_path / "schemathesis.toml", tmp_path / "report.json"
    config.write_text(CONFIG if with_key else CONFIG + ANONYMOUS_CONFIG)
    with picture_peer(PNG) as port, running(data, GENEROUS | importing_from(port)) as server:
        made = server.request("POST", "/v1/keys", json.dumps({"email": EMAIL}).encode()).json()
        office.perform(load({"storage.data": str(data)}), data, "verify", {"email": EMAIL, "keep": [made["key_id"]]})
        key = f"Bearer {made['key']}"
        picture = server.request("PUT", "/v1/upload/x.png", PNG, {"Authorization": key}).json()["id"]
        told = {"KEY_ID": made["key_id"], "PICTURE": picture, "BASE": server.base, "PEER": port}
        env = {f"CONTRACT_{name}": str(value) for name, value in told.items()}
        found = subprocess.run(
            [
                *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
                *("--config-file", config, "run", DOCUMENT, "--url", server.base, *options),
                *(("--header", f"Authorization: {key}") if with_key else ()),
                *("--report", "json", "--report-json-path", report, "--continue-on-failure", "--no-color"),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": __name__, **env},
            capture_output=True,
            text=True,
            timeout=1_200,
        )
        assert found.returncode == 0, found.stdout + found.stderr
        assert complaints(server, "no mail server is set", "fetch_failed") == []
    return json.loads(report.read_text())


FIXED = ("--seed", "1", "--generation-deterministic") if os.environ.get("CI") == "true" else ()
ENDLESS = "GET /v1/events"  # a stream without an end; `test_events` listens to it
# Deleting by a link is left to chains of requests, which reports do not count here.
BY_LINK = {"GET /{id}/delete", "POST /{id}/delete", "DELETE /{id}/delete"}


def accepted(report):
    """Return which operations a report says were asked well and answered."""
    return {label for label, phases in report["valid_rates"].items() if any(one["accepted"] for one in phases.values())}


def test_no_answer_to_a_key_breaks_the_contract(tmp_path):
    report = search(tmp_path, "--max-examples", "8", "--exclude-name", ENDLESS, *FIXED)
    assert report["operations"]["tested"] == len(SECURITY) - 1
    assert {phase["status"] for phase in report["phases"].values()} == {"success"}
    assert report["test_cases"]["generated"] > 1_500
    assert accepted(report) >= set(SECURITY) - BY_LINK - {ENDLESS}


def test_no_answer_to_a_stranger_breaks_the_contract(tmp_path):
    either = {label for label, ways in SECURITY.items() if {} in ways and ways != [{}]}
    chosen = [word for label in either for word in ("--include-name", label)]
    report = search(tmp_path, "--max-examples", "4", *FIXED, *chosen, with_key=False)
    assert report["operations"]["tested"] == len(either)
    assert {phase["status"] for phase in report["phases"].values()} == {"success"}
    # Without a key a picture is deleted by the token that came with it, which no generator guesses.
    assert accepted(report) >= either - {"DELETE /v1/media/{id}"}
