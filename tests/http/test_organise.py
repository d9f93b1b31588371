"""Tags, namespaces, names, dates and ends over HTTP: set on upload, changed, listed, found, one or many."""

import time

import pytest

from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, bearer, held_open, multipart, running

PNG = encoded(make_image("RGB", (40, 30)), "PNG")
JPEG = encoded(make_image("RGB", (40, 30)), "JPEG")


@pytest.fixture(scope="module")
def key(server):
    return server.new_key("organise@example.org")


@pytest.fixture
def found(server, key):
    return server.must_upload(PNG, "shot.png", key=key, tags="Sea, Beach", namespace="trip", date="2026-05-31")


def patch(server, key, image_id, **body):
    return server.api("PATCH", f"/v1/media/{image_id}", body, key=key)


def names(server, key, query=""):
    answer = server.api("GET", f"/v1/media{query}", key=key)
    assert answer.status == 200, answer
    return [row["id"] for row in answer.json()["data"]]


def test_an_upload_says_all_of_it(server, key, found):
    assert found["tags"] == ["sea", "beach"]
    assert found["namespace"] == "trip"
    assert found["date"] == "2026-05-31"
    assert server.api("GET", f"/v1/media/{found['id']}", key=key).json() | {"signed_src": 0} == {
        name: found[name]
        for name in found
        if name not in ("metadata_removed", "delete_url", "markdown", "html", "bbcode")
    } | {"signed_src": 0}


def test_raw_bodies_and_imports_carry_the_same(server, key):
    headers = {**bearer(key), "Content-Type": "image/png"}
    answer = server.request("PUT", "/v1/upload/raw.png?tags=one,two&namespace=raw&date=2026-01-01", PNG, headers)
    assert (answer.json()["tags"], answer.json()["namespace"]) == (["one", "two"], "raw")
    for tags in (["x"], 5, ["a", 1], "x" * 51):
        answer = server.api("POST", "/v1/import", {"url": "http://192.0.2.1/a.png", "tags": tags}, key=key)
        assert answer.status == 422
        assert set(answer.json()["details"]) == ({"url"} if tags == ["x"] else {"tags"})


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({"tags": ",".join(f"t{n}" for n in range(11))}, {"tags"}),
        ({"tags": "x" * 51}, {"tags"}),
        ({"namespace": "No"}, {"namespace"}),
        ({"namespace": "x"}, {"namespace"}),
        ({"date": "31.05.2026"}, {"date"}),
        ({"ttl": "91d"}, {"ttl"}),
        ({"ttl": "1"}, {"ttl"}),
        ({"public": "perhaps"}, {"public"}),
        ({"description": "x" * 2001}, {"description"}),
        ({"tags": "x" * 51, "namespace": "-", "ttl": "x", "date": "x"}, {"tags", "namespace", "ttl", "date"}),
    ],
)
def test_a_bad_field_stores_nothing(server, key, fields, bad):
    before = server.api("GET", "/v1/usage", key=key).json()
    answer = server.upload(PNG, key=key, **fields)
    assert answer.status == 422
    assert answer.json()["error"] == "validation_error"
    assert set(answer.json()["details"]) == bad
    assert server.api("GET", "/v1/usage", key=key).json() == before


def test_without_a_key_tags_and_namespace_are_ignored(server):
    found = server.must_upload(PNG, tags="x" * 51, namespace="No")
    assert (found["tags"], found["namespace"]) == ([], None)


def test_each_field_can_be_changed_and_cleared(server, key, found):
    changed = patch(
        server,
        key,
        found["id"],
        name="new name.png",
        description="words",
        namespace="other",
        date="2020-02-29",
        public=0,
    ).json()
    assert [changed[name] for name in ("name", "description", "namespace", "date", "public")] == [
        "new name.png", "words", "other", "2020-02-29", False,
    ]  # fmt: skip
    cleared = patch(server, key, found["id"], description="", namespace=None, date=None, tags=[], public=True).json()
    assert [cleared[name] for name in ("description", "namespace", "date", "tags", "public")] == [
        "",
        None,
        None,
        [],
        True,
    ]
    assert server.api("GET", f"/v1/media/{found['id']}").json()["name"] == "new name.png"


@pytest.mark.parametrize(
    ("mode", "tags", "after"),
    [
        ("replace", "new", ["new"]),
        ("add", "beach,new", ["sea", "beach", "new"]),
        ("remove", "sea,none", ["beach"]),
        ("remove", ["SEA", "Beach"], []),
    ],
)
def test_tag_modes(server, key, found, mode, tags, after):
    assert patch(server, key, found["id"], tags=tags, tag_mode=mode).json()["tags"] == after
    totals = {row["name"]: row["count"] for row in server.api("GET", "/v1/tags", key=key).json()["data"]}
    for tag in after:
        assert totals[tag] >= 1
        assert found["id"] in names(server, key, f"?tags={tag}")
    for tag in {"sea", "beach"} - set(after):
        assert found["id"] not in names(server, key, f"?tags={tag}")


def test_added_tags_do_not_pass_the_limit(server, key, found):
    answer = patch(server, key, found["id"], tags=[f"t{n}" for n in range(9)], tag_mode="add")
    assert (answer.status, set(answer.json()["details"])) == (422, {"tags"})
    assert server.api("GET", f"/v1/media/{found['id']}", key=key).json()["tags"] == ["sea", "beach"]


def test_an_end_can_be_set_moved_and_taken_away(server, key, found):
    assert "expires_at" not in found
    ends = patch(server, key, found["id"], ttl="1h").json()["expires_at"]
    assert ends - time.time() == pytest.approx(3600, abs=5)
    later = patch(server, key, found["id"], ttl=7200).json()["expires_at"]
    assert later - ends == pytest.approx(3600, abs=5)
    assert "expires_at" not in patch(server, key, found["id"], ttl=None).json()


def test_an_unverified_account_cannot_lengthen(server):
    key = server.new_key("short@example.org", verified=False)
    found = server.must_upload(PNG, key=key, ttl="1h")
    kept = patch(server, key, found["id"], ttl="90d").json()
    assert kept["expires_at"] - kept["created_at"] == 30 * 86_400
    kept = patch(server, key, found["id"], ttl="").json()
    assert kept["expires_at"] - kept["created_at"] == 30 * 86_400


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"{}", b'{"unknown": 1}', b"\xff"])
def test_bodies_that_change_nothing(server, key, found, body):
    answer = server.request("PATCH", f"/v1/media/{found['id']}", body, bearer(key))
    assert answer.status in (400, 422)
    assert answer.json()["action"]["type"] == "fix"


def test_a_change_needs_a_key_and_a_picture(server, key, found):
    assert server.api("PATCH", f"/v1/media/{found['id']}", {"name": "x"}).status == 401
    assert patch(server, key, "000000000000", name="x").status == 404
    anonymous = server.must_upload(PNG)
    assert patch(server, key, anonymous["id"], name="x").status == 404
    assert server.api("DELETE", f"/v1/media/{anonymous['id']}", key=key).status == 404


def test_many_at_once_each_on_its_own(server, key):
    ids = [server.must_upload(PNG, key=key, tags=",".join(f"{n}{i}" for i in range(8)))["id"] for n in range(3)]
    full = server.must_upload(PNG, key=key, tags=",".join("abcdefghij"))["id"]
    asked = ",".join([ids[0], "000000000000", full, ids[1], ids[0]])
    answer = server.api("PATCH", f"/v1/media?ids={asked}", {"tags": "new", "tag_mode": "add"}, key=key)
    body = answer.json()
    assert answer.status == 200
    assert (body["success"], body["updated"], body["ids"]) == (False, 2, [ids[0], ids[1]])
    assert [(row["id"], row["error"]) for row in body["failed"]] == [
        ("000000000000", "not_found"),
        (full, "validation_error"),
    ]
    gone = server.api("DELETE", f"/v1/media?ids={','.join([*ids, 'A' * 12])}", key=key).json()
    assert (gone["success"], gone["deleted"], gone["ids"]) == (False, 3, ids)
    assert [row["id"] for row in gone["failed"]] == ["A" * 12]
    assert [server.get(f"/t/{image_id}.png").status for image_id in ids] == [404] * 3


@pytest.mark.parametrize(
    "query", ["", "?ids=", "?ids=,", "?ids=short", "?ids=" + ",".join(f"{n:012d}" for n in range(101)), "?ids=%00"]
)
def test_ids_that_are_none(server, key, query):
    for method, body in (("PATCH", {"name": "x"}), ("DELETE", None)):
        answer = server.api(method, f"/v1/media{query}", body, key=key)
        assert (answer.status, set(answer.json()["details"])) == (422, {"ids"})


def test_pages_join_without_a_gap_while_pictures_come_and_go(server):
    key = server.new_key("pages@example.org")
    ids = [server.must_upload(PNG, key=key)["id"] for _ in range(12)]
    seen, cursor = [], ""
    while True:
        page = server.api("GET", f"/v1/media?limit=3{cursor}", key=key).json()
        seen += [row["id"] for row in page["data"]]
        assert page["success"] is True
        assert page["pagination"] == {"next_cursor": page["next_cursor"], "has_more": page["has_more"]}
        if not page["has_more"]:
            break
        server.must_upload(PNG, key=key)  # comes first, and moves nothing
        server.api("DELETE", f"/v1/media/{page['data'][-1]['id']}", key=key)  # the very one the cursor is about
        cursor = f"&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert seen == ids[::-1]


def test_filters_over_http(server):
    key = server.new_key("filters@example.org")
    one = server.must_upload(PNG, "harbour at dawn.png", key=key, tags="sea,boat", namespace="north")["id"]
    two = server.must_upload(JPEG, "IMG_2034.jpg", key=key, tags="sea", namespace="south", description="Küste")["id"]
    expected = {
        "?tags=sea": [two, one],
        "?tags=sea,boat&tag_mode=all": [one],
        "?tags=boat,none&tag_mode=any": [one],
        "?namespace=south": [two],
        "?type=png": [one],
        "?type=jpg": [two],
        "?q=dawn": [one],
        "?q=2034": [two],
        "?q=kust": [two],
        "?q=boat": [one],
        "?q=dawn%20kuste": [],
        f"?ids={one},{'0' * 12}": [one],
        f"?since={int(time.time()) + 60}": [],
        f"?until={int(time.time()) + 60}": [two, one],
        "?limit=1": [two],
    }
    for query, ids in expected.items():
        assert names(server, key, query) == ids, query
    for query in ("?limit=0", "?limit=101", "?limit=x", "?type=tiff", "?tag_mode=none&tags=a", "?cursor=x", "?ids=x"):
        assert server.api("GET", f"/v1/media{query}", key=key).status == 422, query
    spaces = server.api("GET", "/v1/namespaces", key=key).json()
    assert spaces == {
        "success": True,
        "data": [
            {"name": "north", "count": 1, "bytes": len(PNG)},
            {"name": "south", "count": 1, "bytes": len(JPEG)},
        ],
    }


def test_lists_need_a_key(server):
    for path in ("/v1/media", "/v1/tags", "/v1/namespaces", "/v1/usage", "/v1/keys"):
        answer = server.get(path)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="imgpro"')
        assert answer.json()["action"]["type"] == "fix"


# Text from outside stays text


@pytest.mark.parametrize(
    "text", ["a\r\nSet-Cookie: x=1", "<script>alert(1)</script>", '"><img src=x>', "{{ 7*7 }}", "\u202egnp.exe"]
)
def test_names_and_descriptions_inject_nothing(server, key, text):
    found = server.must_upload(PNG, key=key, name=text, description=text)
    for place in (f"/{found['id']}", f"/t/{found['id']}.png?download=1", f"/oembed?url={found['url']}"):
        answer = server.get(place)
        assert answer.status == 200
        assert "Set-Cookie" not in answer.headers
        if not answer.headers["Content-Type"].startswith("application/json"):
            assert b"<script>alert" not in answer.body
            assert b"<img src=x>" not in answer.body
    assert "\r" not in found["name"]
    assert "\u202e" not in found["name"]


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\x00b"])
def test_tags_and_namespaces_inject_nothing(server, key, value):
    answer = server.upload(PNG, key=key, tags=value)
    assert (answer.status, set(answer.json()["details"])) == (422, {"tags"})
    answer = server.upload(PNG, key=key, namespace=value)
    assert (answer.status, set(answer.json()["details"])) == (422, {"namespace"})


# Scripts of other origins


@pytest.mark.parametrize(
    "path", ["/v1/upload", "/v1/media", "/v1/media/000000000000", "/v1/keys", "/v1/usage", "/t/x.png"]
)
def test_preflight(server, path):
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization, content-type, idempotency-key",
    }
    answer = server.request("OPTIONS", path, headers=asked)
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    allowed = answer.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
    assert {"authorization", "content-type", "idempotency-key"} <= set(allowed)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        assert method in answer.headers["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_answers_and_errors_may_be_read_by_scripts(server, key):
    for answer in (
        server.api("GET", "/v1/media", key=key, Origin="https://app.example"),
        server.api("GET", "/v1/media", Origin="https://app.example"),
        server.api("GET", "/v1/nothing", Origin="https://app.example"),
        server.upload(b"no picture", headers={"Origin": "https://app.example"}),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


# Repeated requests


def test_the_same_upload_again_is_the_first_one(server, key):
    first = server.upload(PNG, "a.png", key=key, headers={"Idempotency-Key": "up-1"}, tags="x")
    again = server.upload(PNG, "a.png", key=key, headers={"Idempotency-Key": "up-1"}, tags="X ,x")
    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.headers["X-Monthly-Uploads-Used"] == again.headers["X-Monthly-Uploads-Used"]
    text = server.upload(PNG, "a.png", key=key, headers={"Idempotency-Key": "up-1", "Accept": "text/plain"}, tags="x")
    assert text.body.decode().strip() == first.json()["src"]
    for changed in (
        {"tags": "y"},
        {"tags": "x", "name": "b.png"},
        {"tags": "x", "public": "false"},
    ):
        answer = server.upload(PNG, "a.png", key=key, headers={"Idempotency-Key": "up-1"}, **changed)
        assert (answer.status, answer.json()["error"]) == (409, "idempotency_key_conflict")
    other = server.upload(JPEG, "a.png", key=key, headers={"Idempotency-Key": "up-1"}, tags="x")
    assert other.status == 409
    stranger = server.upload(PNG, "a.png", headers={"Idempotency-Key": "up-1"})
    assert (stranger.status, stranger.json()["id"] != first.json()["id"]) == (201, True)


def test_a_failed_upload_takes_no_idempotency_key(server, key):
    headers = {"Idempotency-Key": "fails-first"}
    assert server.upload(b"no picture", key=key, headers=headers).status == 415
    assert server.upload(PNG, key=key, headers=headers).status == 201


def test_an_upload_that_still_runs_holds_its_key(server, key):
    content, kind = multipart([("file", "a.png", PNG)])
    headers = {**bearer(key), "Content-Type": kind, "Idempotency-Key": "slow"}
    with held_open(server, "POST", "/v1/upload", content, headers) as rest:
        answer = server.upload(PNG, "a.png", key=key, headers={"Idempotency-Key": "slow"})
        assert (answer.status, answer.json()["error"]) == (409, "idempotency_key_in_progress")
        assert answer.json()["action"]["type"] == "wait"
        first = rest()
    assert first.status == 201
    again = server.upload(PNG, "a.png", key=key, headers={"Idempotency-Key": "slow"})
    assert again.json()["id"] == first.json()["id"]


@pytest.mark.parametrize("value", ["", "x" * 256, "\u00fc"])
def test_idempotency_keys_that_are_none(server, key, value):
    answer = server.upload(PNG, key=key, headers={"Idempotency-Key": value.encode("utf-8").decode("latin-1")})
    assert (answer.status, set(answer.json()["details"])) == (422, {"Idempotency-Key"})


def test_the_last_place_is_taken_once_by_a_repeated_upload(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "1"}) as server:
        key = server.new_key("ann@example.org")
        first = server.upload(PNG, "a.png", key=key, headers={"Idempotency-Key": "k"})
        again = server.upload(PNG, "a.png", key=key, headers={"Idempotency-Key": "k"})
        assert (first.status, again.status, again.body) == (201, 201, first.body)
        assert server.upload(PNG, "a.png", key=key).status == 403
        server.stop(9)
        server.start()  # killed and started again, it still knows
        again = server.upload(PNG, "a.png", key=key, headers={"Idempotency-Key": "k"})
        assert (again.status, again.body) == (201, first.body)
        assert server.api("DELETE", f"/v1/media/{first.json()['id']}", key=key).status == 200
        gone = server.upload(PNG, "a.png", key=key, headers={"Idempotency-Key": "k"})
        assert gone.status == 403  # with the picture went the answer that shows it
