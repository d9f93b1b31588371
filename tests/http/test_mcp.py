"""The official client against a running server, in the current revision and the one before: every tool, every refusal."""

import base64
import contextlib
import itertools
import json
import re
import subprocess
from io import BytesIO

import httpx2
import jsonschema
import pytest
from mcp import MCPError
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION
from PIL import Image

from imgpro.web.mcp_tools import MAX_PREVIEW_BYTES
from tests.peers import importing_from, picture_peer
from tests.pictures import encoded, film, make_image, turned_exif
from tests.servers import UNLIMITED, bearer, blobs, running

PNG = encoded(make_image("RGB", (1500, 1000)), "PNG")
SMALL = encoded(make_image("RGB", (64, 48)), "PNG")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><rect width="9" height="9" fill="red"/></svg>'
# "legacy" begins with `initialize`; "auto" asks `server/discover` and finds the current revision.
ERAS = {"legacy": LATEST_HANDSHAKE_VERSION, "auto": LATEST_MODERN_VERSION}
NUMBERS = itertools.count()
TOOLS = {
    "import_image",
    "create_upload",
    "upload_image",
    "list_images",
    "get_image",
    "image_url",
    "update_image",
    "delete_image",
    "usage",
}


@pytest.fixture(scope="module")
def peer():
    with picture_peer(PNG) as port:
        yield port


@pytest.fixture(scope="module")
def server(peer, tmp_path_factory):
    env = {**UNLIMITED, **importing_from(peer), "IMGPRO_PLANS_FREE_UPLOADS": "12"}
    with running(tmp_path_factory.mktemp("mcp") / "data", env) as found:
        yield found


@pytest.fixture(params=ERAS)
def era(request):
    return request.param


@pytest.fixture
def key(server):
    """A key of an account that no other test has."""
    return server.new_key(f"number-{next(NUMBERS)}@example.org")


class Agent:
    """The client, and the schemas it was told: every call and every answer is held to them."""

    def __init__(self, client, tools):
        self.client = client
        self.tools = {tool.name: tool for tool in tools}

    async def call(self, name, /, *, fits=True, **arguments):
        """Call a tool; `fits` tells whether the arguments are those that its schema allows."""
        tool = self.tools[name]
        assert jsonschema.Draft202012Validator(tool.input_schema).is_valid(arguments) is fits
        result = await self.client.call_tool(name, arguments)
        jsonschema.validate(result.structured_content, tool.output_schema, jsonschema.Draft202012Validator)
        return result

    async def done(self, name, /, **arguments):
        """Call a tool that must succeed and return what it tells."""
        result = await self.call(name, **arguments)
        assert not result.is_error, result
        assert json.loads(result.content[0].text) == result.structured_content
        return result.structured_content

    async def refused(self, name, code, /, *, fits=True, **arguments):
        """Call a tool that must fail and return the error: one shape, and in words that say what to do."""
        result = await self.call(name, fits=fits, **arguments)
        assert result.is_error, result
        body, text = result.structured_content, result.content[0].text
        assert body["error"] == code, body
        assert text.startswith(body["message"])
        assert set(body) <= {"error", "message", "action", "usage", "details"}
        assert body["action"]["label"] in text
        assert body["action"].get("url", "http://").startswith("http://")
        assert all(sentence in text for sentence in body.get("details", {}).values())
        return body


@contextlib.asynccontextmanager
async def agent(server, key=None, mode="auto"):
    async with (
        httpx2.AsyncClient(headers=bearer(key)) as http,
        Client(streamable_http_client(f"{server.base}/mcp", http_client=http), mode=mode) as client,
    ):
        yield Agent(client, (await client.list_tools()).tools)


def b64(body):
    return base64.b64encode(body).decode()


# The protocol


async def test_both_revisions_begin(server, era):
    async with agent(server, None, era) as found:
        client = found.client
        assert client.protocol_version == ERAS[era]
        assert client.server_info.name == "imgpro"
        assert client.server_capabilities.tools is not None
        assert "create_upload" in client.instructions


async def test_the_current_revision_needs_no_beginning(server, key):
    async with agent(server, key, LATEST_MODERN_VERSION) as found:
        assert (await found.done("usage"))["plan"] == "free"


async def test_every_tool_is_listed_with_schemas(server, era):
    async with agent(server, None, era) as found:
        assert set(found.tools) == TOOLS
        for tool in found.tools.values():
            for schema in (tool.input_schema, tool.output_schema):
                jsonschema.Draft202012Validator.check_schema(schema)
                assert schema["type"] == "object"
            assert tool.input_schema["additionalProperties"] is False
            assert all(argument["description"] for argument in tool.input_schema["properties"].values())
            assert len(tool.description) > 60
            assert tool.annotations.title == tool.title
        hints = {name: tool.annotations for name, tool in found.tools.items()}
        assert {name for name, hint in hints.items() if hint.read_only_hint} == {
            "list_images",
            "get_image",
            "image_url",
            "usage",
        }
        assert {name for name, hint in hints.items() if hint.destructive_hint} == {"update_image", "delete_image"}
        assert {name for name, hint in hints.items() if hint.open_world_hint} == {"import_image"}


async def test_an_unknown_tool_is_a_protocol_error(server, era):
    async with agent(server, None, era) as found:
        with pytest.raises(MCPError, match="no such tool; there are import_image") as failed:
            await found.client.call_tool("upload_everything", {})
        assert failed.value.code == -32602


# Bringing pictures in


async def test_an_import(server, key, peer, era):
    async with agent(server, key, era) as found:
        made = await found.done(
            "import_image",
            url=f"http://127.0.0.1:{peer}/a/picture.png",
            description="From the web",
            tags=["Cats", " dogs "],
            namespace="zoo",
            ttl="7d",
            date="2026-05-31",
        )
        assert (made["width"], made["height"], made["format"]) == (1500, 1000, "png")
        assert (made["name"], made["description"], made["date"]) == ("picture.png", "From the web", "2026-05-31")
        assert (made["tags"], made["namespace"], made["public"]) == (["cats", "dogs"], "zoo", True)
        assert made["expires_at"] - made["created_at"] == 7 * 86_400
        assert server.get(made["src"]).body == PNG
        assert made["markdown"] == f"![picture.png]({made['src']})"


async def test_an_import_that_cannot_be(server, key, peer):
    async with agent(server, key) as found:
        for url in ("http://10.0.0.1/a.png", f"http://127.0.0.1:{server.port}/healthz"):
            assert set((await found.refused("import_image", "validation_error", url=url))["details"]) == {"url"}
        body = await found.refused("import_image", "validation_error", fits=False, url="file:///etc/passwd")
        assert body["action"]["type"] == "fix"


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
async def test_a_small_upload(server, key, prefix, era):
    async with agent(server, key, era) as found:
        made = await found.done("upload_image", data=prefix + b64(SMALL), name="tiny.png", public=False, ttl="3600")
        assert (made["name"], made["public"], made["filesize"]) == ("tiny.png", False, len(SMALL))
        assert server.get(made["src"]).status == 404
        assert server.get(made["signed_src"]).body == SMALL
        assert "delete_url" not in made
        assert "placeholder" not in made


async def test_what_is_private_in_a_file_is_removed_and_told(server, key):
    picture = encoded(make_image("RGB", (40, 30)), "JPEG", exif=turned_exif(6), comment=b"secret")
    async with agent(server, key) as found:
        made = await found.done("upload_image", data=b64(picture))
        assert (made["width"], made["height"]) == (30, 40)
        assert "comment" in made["metadata_removed"]
        assert b"secret" not in server.get(made["src"]).body


async def test_uploads_that_cannot_be(server, key, era):
    async with agent(server, key, era) as found:
        body = await found.refused("upload_image", "validation_error", data="not base64!")
        assert set(body["details"]) == {"data"}
        await found.refused("upload_image", "validation_error", data="data:image/png;base64,")
        await found.refused("upload_image", "unsupported_format", data=b64(b"plain text, not a picture"))
        await found.refused("upload_image", "image_broken", data=b64(SMALL[:-20]))
        body = await found.refused("upload_image", "file_too_large", data=b64(b"\x89PNG" + bytes(1024 * 1024)))
        assert "create_upload" in body["action"]["label"]
        wrong = {"tags": ["x" * 51], "namespace": "-", "ttl": "1", "date": "soon", "name": "n" * 256}
        body = await found.refused("upload_image", "validation_error", fits=False, data=b64(SMALL), **wrong)
        assert set(body["details"]) == set(wrong)
        assert (await found.done("usage"))["uploads"]["used"] == 0


async def test_the_curl_line_works_once(server, key, tmp_path, era):
    file = tmp_path / "shot.png"
    file.write_bytes(PNG)
    async with agent(server, key, era) as found:
        ticket = await found.done("create_upload", tags=["a,b"], description="By ticket", public=False)
        assert re.fullmatch(rf"{server.base}/v1/upload\?ticket=[0-9A-Za-z]{{32}}", ticket["upload_url"])
        assert ticket["max_bytes"] == 70 * 1024 * 1024
        line = ticket["curl"].replace("PATH", str(file))
        first, second = (subprocess.run(line, shell=True, check=True, capture_output=True).stdout for _ in range(2))
        made = json.loads(first)
        assert (made["name"], made["tags"], made["public"]) == ("shot.png", ["a", "b"], False)
        assert json.loads(second)["error"] == "not_found"
        listed = await found.done("list_images", q="ticket")
        assert [image["id"] for image in listed["images"]] == [made["id"]]


async def test_a_ticket_ends_with_its_key(server, key, tmp_path):
    made = server.api("POST", "/v1/keys", {"name": "second"}, key=key).json()
    async with agent(server, made["key"]) as found:
        url = (await found.done("create_upload"))["upload_url"]
    assert server.api("DELETE", f"/v1/keys/{made['key_id']}", key=key).status == 200
    answer = server.request("POST", url.removeprefix(server.base), SMALL, {"Content-Type": "image/png"})
    assert answer.status == 404


async def test_bad_options_are_told_before_a_ticket_is_made(server, key):
    async with agent(server, key) as found:
        body = await found.refused("create_upload", "validation_error", fits=False, ttl="100d", date="x")
        assert set(body["details"]) == {"ttl", "date"}


async def test_a_used_up_plan_says_what_to_do(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "1"}) as server:
        key = server.new_key("full@example.org")
        for mode in ERAS:
            async with agent(server, key, mode) as found:
                if mode == "legacy":
                    await found.done("upload_image", data=b64(SMALL))
                for tool, arguments in (("upload_image", {"data": b64(SMALL)}), ("create_upload", {})):
                    body = await found.refused(tool, "quota_exceeded", **arguments)
                    assert body["action"]["type"] == "upgrade"
                    assert body["action"]["url"].startswith(f"{server.base}/upgrade/pro?t=")
                    assert body["usage"]["uploads_used"] == body["usage"]["uploads_limit"] == 1
                body = await found.refused("import_image", "quota_exceeded", url="http://192.0.2.1/a.png")
                assert body["usage"]["plan"] == "free"


# Looking


async def test_a_picture_with_its_preview(server, key, era):
    made = server.must_upload(PNG, "wide.png", key=key, tags="x")
    async with agent(server, key, era) as found:
        result = await found.call("get_image", id=made["id"])
        told, (text, preview) = result.structured_content, result.content
        assert text.type == "text"
        assert (preview.type, preview.mime_type) == ("image", "image/jpeg")
        body = base64.b64decode(preview.data)
        assert len(body) <= MAX_PREVIEW_BYTES
        picture = Image.open(BytesIO(body))
        assert (picture.format, picture.size) == ("JPEG", (480, 320))
        assert {name: told[name] for name in ("id", "name", "tags", "width")} == {
            name: made[name] for name in ("id", "name", "tags", "width")
        }
        assert told["sizes"]["s"] == made["sizes"]["s"]
        assert len((await found.call("get_image", id=made["id"], preview=False)).content) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (SVG, "SVG has no preview"),
        (encoded(Image.effect_noise((318, 319), 200).convert("RGB"), "JPEG", quality=100, subsampling=0), "too large"),
    ],
)
async def test_what_has_no_preview_says_so(server, key, body, words):
    made = server.must_upload(body, key=key)
    async with agent(server, key) as found:
        result = await found.call("get_image", id=made["id"])
        assert not result.is_error
        assert [block.type for block in result.content] == ["text", "text"]
        assert words in result.content[1].text


async def test_links_in_other_sizes_and_formats(server, key, era):
    made = server.must_upload(encoded(make_image("RGB", (1500, 1000)), "JPEG"), "a [b].jpg", key=key)
    async with agent(server, key, era) as found:
        for kind, size, sides in [
            (None, None, (1500, 1000)),
            ("webp", "s", (480, 320)),
            ("png", "m", (960, 640)),
            ("jpg", "l", (1500, 1000)),
            ("gif", "o", (1500, 1000)),
            ("avif", "s", (480, 320)),
        ]:
            arguments = {name: value for name, value in (("format", kind), ("size", size)) if value is not None}
            told = await found.done("image_url", id=made["id"], **arguments)
            assert (told["width"], told["height"]) == sides
            answer = server.get(told["url"])
            assert answer.headers["Content-Type"] == told["content_type"]
            if kind != "avif":
                assert Image.open(BytesIO(answer.body)).size == sides
            assert told["markdown"] == rf"![a \[b\].jpg]({told['url']})"
        body = await found.refused("image_url", "validation_error", fits=False, id=made["id"], format="tiff", size="xl")
        assert body["details"] == {
            "format": "Must be one of jpeg, jpg, png, webp, avif, gif.",
            "size": "Must be one of s, m, l, o.",
        }


async def test_links_follow_what_the_picture_is(server, key):
    drawing = server.must_upload(SVG, key=key)
    moving = server.must_upload(film("GIF", frames=3), key=key)
    long = server.must_upload(encoded(Image.new("RGB", (16_500, 3)), "PNG"), key=key)
    async with agent(server, key) as found:
        told = await found.done("image_url", id=drawing["id"], format="png", size="s")
        assert (told["format"], told["size"], told["width"], told["height"]) == ("svg", "o", 40, 30)
        assert server.get(told["url"]).headers["Content-Type"] == "image/svg+xml"
        told = await found.done("image_url", id=moving["id"], format="webp")
        assert Image.open(BytesIO(server.get(told["url"]).body)).n_frames == 3
        await found.refused("image_url", "image_too_large", id=long["id"], format="webp")
        await found.done("image_url", id=long["id"], format="jpeg")


async def test_lists_page_by_page(server, key, era):
    ids = [server.must_upload(SMALL, f"{number}.png", key=key, tags="odd" if number % 2 else "even")["id"] for number in range(5)]  # fmt: skip
    server.must_upload(encoded(make_image("RGB", (9, 9)), "JPEG"), key=key, namespace="apart")
    async with agent(server, key, era) as found:
        seen, cursor = [], {}
        while True:
            page = await found.done("list_images", type="png", limit=2, **cursor)
            seen += [image["id"] for image in page["images"]]
            assert page["has_more"] is (page["next_cursor"] is not None)
            if not page["has_more"]:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert seen == ids[::-1]
        assert "sizes" not in page["images"][0]
        assert {"id", "src", "url", "width", "tags"} <= page["images"][0].keys()
        odd = await found.done("list_images", tags=["odd", "none"], tag_mode="any")
        assert [image["id"] for image in odd["images"]] == [ids[3], ids[1]]
        assert (await found.done("list_images", tags=["odd", "none"], tag_mode="all"))["images"] == []
        assert len((await found.done("list_images", namespace="apart", since=0, until=2**33))["images"]) == 1
        assert (await found.done("list_images", until=1))["images"] == []
        body = await found.refused("list_images", "validation_error", type="png", tags=["odd"], **cursor)
        assert body["action"]["label"] == "Start again without a cursor"
        body = await found.refused("list_images", "validation_error", fits=False, limit=101, since=-1, type="tiff")
        assert set(body["details"]) == {"type"}
        body = await found.refused("list_images", "validation_error", fits=False, limit=101, since=-1)
        assert set(body["details"]) == {"limit", "since"}


async def test_usage(server, key, era):
    server.must_upload(SMALL, key=key)
    async with agent(server, key, era) as found:
        told = await found.done("usage")
        assert told["uploads"] == {"used": 1, "limit": 12}
        assert told["storage"]["used"] == len(SMALL)
        assert told == server.api("GET", "/v1/usage", key=key).json()


# Changing


async def test_a_change_and_a_deletion(server, key, era):
    made = server.must_upload(SMALL, "a.png", key=key, tags="one,two", namespace="here", description="Old")
    async with agent(server, key, era) as found:
        told = await found.done("update_image", id=made["id"], tags=["three"], tag_mode="add", name="b.png", ttl="1h")
        assert (told["tags"], told["name"], told["description"]) == (["one", "two", "three"], "b.png", "Old")
        assert "expires_at" in told
        told = await found.done(
            "update_image", id=made["id"], namespace="", ttl="", description="", public=False, date="2020-01-01"
        )
        assert (told["namespace"], told["description"], told["public"]) == (None, "", False)
        assert "expires_at" not in told
        assert server.get(made["src"]).status == 404
        body = await found.refused("update_image", "validation_error", id=made["id"])
        assert body["message"] == "Nothing is to be changed."
        many = [str(number) for number in range(10)]
        body = await found.refused("update_image", "validation_error", id=made["id"], tags=many, tag_mode="add")
        assert set(body["details"]) == {"tags"}
        assert await found.done("delete_image", id=made["id"]) == {"id": made["id"], "deleted": True}
        for tool in ("delete_image", "get_image", "image_url"):
            await found.refused(tool, "not_found", id=made["id"])
        await found.refused("update_image", "not_found", id=made["id"], name="c.png")
        await found.refused("delete_image", "validation_error", fits=False, id="../etc")


async def test_null_is_as_good_as_absent_and_clears_nothing(server, key):
    made = server.must_upload(SMALL, key=key, namespace="kept")
    async with agent(server, key) as found:
        empty = {"namespace": None, "ttl": None, "description": None}
        result = await found.client.call_tool("update_image", {"id": made["id"], "date": "2026-01-01", **empty})
        assert result.structured_content["namespace"] == "kept"
        result = await found.client.call_tool("update_image", {"id": made["id"], "ttl": 600})
        assert "expires_at" in result.structured_content


# Who may


async def test_without_a_key_only_public_pictures_can_be_looked_at(server, key, peer, era):
    public = server.must_upload(SMALL, key=key)
    private = server.must_upload(SMALL, key=key, public="false")
    async with agent(server, None, era) as found:
        told = await found.call("get_image", id=public["id"])
        assert told.structured_content["src"] == public["src"]
        assert len(told.content) == 2
        assert (await found.done("image_url", id=public["id"], size="s"))["url"] == f"{public['src']}?size=s"
        for tool in ("get_image", "image_url"):
            await found.refused(tool, "not_found", id=private["id"])
        stored = len(blobs(server.data))
        for tool, arguments in {
            "import_image": {"url": f"http://127.0.0.1:{peer}/"},
            "create_upload": {},
            "upload_image": {"data": b64(encoded(make_image("RGB", (11, 7)), "PNG"))},
            "list_images": {},
            "update_image": {"id": public["id"], "name": "x"},
            "delete_image": {"id": public["id"]},
            "usage": {},
        }.items():
            body = await found.refused(tool, "unauthorized", **arguments)
            assert body["action"]["url"] == f"{server.base}/api/quick-start"
            assert "POST /v1/keys" in body["action"]["label"]
        assert len(blobs(server.data)) == stored
        assert server.get(public["src"]).body == SMALL


async def test_the_pictures_of_another_account(server, key):
    private = server.must_upload(SMALL, key=key, public="false")
    public = server.must_upload(SMALL, key=key)
    stranger = server.new_key("stranger@example.org")
    async with agent(server, stranger) as found:
        assert (await found.done("list_images"))["images"] == []
        for tool in ("get_image", "image_url", "delete_image"):
            await found.refused(tool, "not_found", id=private["id"])
        await found.refused("update_image", "not_found", id=public["id"], name="mine.png")
        await found.refused("delete_image", "not_found", id=public["id"])
        assert "signed_src" not in await found.done("get_image", id=public["id"])
    async with agent(server, key) as found:
        assert (await found.done("get_image", id=private["id"]))["signed_src"]
        assert (await found.call("get_image", id=private["id"])).content[1].type == "image"
        link = (await found.done("image_url", id=private["id"], format="webp", size="s"))["url"]
    assert "sig=" in link
    assert server.get(link).headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize(
    ("abilities", "allowed"),
    [
        (["read"], {"list_images", "usage"}),
        (["write"], {"create_upload", "upload_image", "update_image"}),
        (["upload"], {"create_upload", "upload_image"}),
    ],
)
async def test_a_key_does_what_it_may(server, abilities, allowed):
    secret = server.new_key(f"{'-'.join(abilities)}@example.org", abilities=abilities)
    async with agent(server, secret) as found:
        made = server.upload(SMALL, key=secret)
        image_id = made.json()["id"] if made.status == 201 else "0" * 12
        for tool, arguments in {
            "list_images": {},
            "usage": {},
            "create_upload": {},
            "upload_image": {"data": b64(SMALL)},
            "update_image": {"id": image_id, "name": "x"},
        }.items():
            if tool in allowed:
                await found.done(tool, **arguments)
            else:
                body = await found.refused(tool, "forbidden", **arguments)
                assert body["action"]["label"].startswith("Use a key with the ability ")


async def test_wrong_and_blocked_keys_are_refused_at_the_door(server, era):
    with pytest.raises(ExceptionGroup) as failed:
        async with agent(server, "img_live_" + "x" * 32, era):
            raise AssertionError("the door was open")
    assert failed.group_contains(MCPError, match="The API key is not valid")
    secret = server.new_key(f"blocked-{era}@example.org")
    server.operate("block", email=f"blocked-{era}@example.org")
    with pytest.raises(ExceptionGroup) as failed:
        async with agent(server, secret, era):
            raise AssertionError("the door was open")
    assert failed.group_contains(MCPError, match="blocked by the operator")


async def test_nothing_of_a_call_is_logged(server, key):
    async with agent(server, key) as found:
        await found.done("create_upload", description="Never to be logged")
        await found.refused("import_image", "validation_error", url="http://10.1.2.3/never-logged.png")
    log = server.log()
    assert "POST" in log
    assert not re.search(rf"{key}|ever to be logged|never-logged|ticket=", log)
