"""The documents that a server hands out about itself: true, complete, linked, and every line in them runs."""

import gzip
import hashlib
import json
import re
import tomllib
from urllib.parse import urljoin, urlsplit

import pytest

from imgpro.errors import ImgproError, OperatorError
from imgpro.web import markdown
from tests.docs.test_readme import FENCED, from_peer, run_lines, shell_lines
from tests.markup import Page
from tests.peers import importing_from, picture_peer
from tests.pictures import encoded, make_image
from tests.servers import ROOT, running

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
JPEG = encoded(make_image("RGB", (1600, 1200)), "JPEG", quality=90)
PNG = encoded(make_image("RGB", (60, 40)), "PNG")
NAMES = ("quick-start", "reference", "errors", "ai-agents")
TEXTS = {
    **{f"/api/{name}.md": "text/markdown; charset=utf-8" for name in NAMES},
    "/llms.txt": "text/plain; charset=utf-8",
    "/llms-full.txt": "text/plain; charset=utf-8",
    "/openapi.json": "application/json",
    "/openapi.yaml": "application/yaml",
}
PAGES = ("/api", *(f"/api/{name}" for name in NAMES))
HOME = "http://nas.home.arpa:8123"  # configured, and reachable in these tests through an option of curl's
DEFAULT = {}
HOMELAB = {
    "IMGPRO_PLANS_UNLIMITED": "true",
    "IMGPRO_IMAGING_HEIC": "false",
    "IMGPRO_IMAGING_SVG": "false",
    "IMGPRO_ANONYMOUS_ENABLED": "false",
    "IMGPRO_ACCOUNTS_REGISTRATION": "closed",
    "IMGPRO_ACCOUNTS_UNVERIFIED_KEYS": "5",
    "IMGPRO_UPLOADS_MAX_BYTES": "33 MB",
    "IMGPRO_IMPORTS_DEADLINE_S": "7s",
    "IMGPRO_SERVER_BASE_URL": HOME,
    "IMGPRO_PAGES_SITE_NAME": "Bilder & <Co> *neu* | [x](y)",
}
TEAM = {
    "IMGPRO_ACCOUNTS_REGISTRATION": "invitation",
    "IMGPRO_ANONYMOUS_NETWORKS": "private",
    "IMGPRO_ANONYMOUS_UPLOADS_PER_HOUR": "unlimited",
    "IMGPRO_ANONYMOUS_RETENTION_S": "unlimited",
    "IMGPRO_IMPORTS_ENABLED": "false",
    "IMGPRO_MAIL_HOST": "127.0.0.1",
    "IMGPRO_PAGES_INDEXING": "true",
    "IMGPRO_PLANS_PRO_PRICE": "9 | *EUR*",
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents")
    with (
        running(folder / "default", DEFAULT) as default,
        running(folder / "homelab", HOMELAB) as homelab,
        running(folder / "team", TEAM) as team,
    ):
        yield {"default": default, "homelab": homelab, "team": team}


@pytest.fixture(params=["default", "homelab", "team"])
def server(request, servers):
    return servers[request.param]


def base_of(server):
    return server.env.get("IMGPRO_SERVER_BASE_URL", server.base)


def source(server, path):
    answer = server.get(path)
    assert answer.status == 200, path
    return answer.body.decode()


def page(server, path):
    answer = server.get(path, **HTML)
    assert answer.status == 200, path
    return Page(answer.body)


def everything(server):
    """Return all documents that say something about limits, as one text."""
    return "\n".join(source(server, path) for path in TEXTS)


# What is handed out


@pytest.mark.parametrize("path", [*TEXTS, *PAGES])
def test_every_document_is_there_in_every_form(server, path):
    answer = server.get(path, **HTML)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == TEXTS.get(path, "text/html; charset=utf-8")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert ("X-Robots-Tag" in answer.headers) is ("IMGPRO_PAGES_INDEXING" not in server.env)
    if path in TEXTS:
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    head = server.request("HEAD", path, headers=HTML)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == answer.headers["Content-Type"]
    assert head.headers["Content-Length"] == str(len(answer.body))


@pytest.mark.parametrize("path", ["/llms-full.txt", "/openapi.json", "/api/reference", "/api"])
def test_a_document_is_packed_for_those_who_take_that(servers, path):
    server = servers["default"]
    plain, packed = server.get(path), server.get(path, Accept_Encoding="br, gzip;q=0.8")
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < 60_000
    assert "Content-Encoding" not in server.get(path, Accept_Encoding="gzip;q=0, identity").headers


def test_a_page_is_markdown_to_a_program_that_asks_for_it(servers):
    for name in NAMES:
        answer = servers["default"].get(f"/api/{name}", Accept="text/markdown, text/html;q=0.5")
        assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
        assert "Accept" in answer.headers["Vary"].split(", ")
        assert answer.body == servers["default"].get(f"/api/{name}.md").body


def test_nothing_of_the_templates_is_left(server):
    for path in (*TEXTS, *PAGES):
        text = source(server, path)
        # The address stands for a server in the example of one setting only, and that is no document.
        for trace in ("{{", "{%", "{#", "img.example.org", "Undefined", "jinja", "\t"):
            assert trace not in text, (path, trace)
        if path.endswith((".md", ".txt")):
            assert "\n\n\n" not in text, path
            words = re.sub(r"(?s)```.*?```|`[^`\n]*`", "code", text)
            assert not re.search(r"\b(?:None|True|False)\b|\[\(?'| [.,;:]|,,|\.\.|\w  +\w", words), path


def test_openapi_is_well_formed_and_about_this_server(server):
    document = json.loads(source(server, "/openapi.json"))
    assert document["servers"] == [{"url": base_of(server)}]
    yaml = pytest.importorskip("yaml")
    same = yaml.safe_load(source(server, "/openapi.yaml"))
    assert json.loads(json.dumps(same)) == document


def test_llms_txt_has_the_form_that_is_looked_for(server):
    lines = source(server, "/llms.txt").splitlines()
    assert lines[0].startswith("# ")
    assert lines[2].startswith("> ")
    sections = [line for line in lines if line.startswith("## ")]
    assert sections[-1] == "## Optional"
    below = lines[lines.index(sections[0]) :]
    for line in below:
        assert not line or line.startswith("## ") or re.fullmatch(r"- \[[^\]]+\]\(\S+\): .+", line), line
    for name in NAMES:
        assert f"({base_of(server)}/api/{name}.md)" in "\n".join(below)
    full = source(server, "/llms-full.txt")
    for name in NAMES:
        assert source(server, f"/api/{name}.md").strip() in full


def test_what_the_operator_wrote_cannot_become_anything_else(servers):
    for path in (*TEXTS, *PAGES):
        text = source(servers["homelab"], path)
        assert "<Co>" not in text.replace(r"\<Co\>", ""), path
    title = source(servers["homelab"], "/llms.txt").splitlines()[0]
    assert title == r"# Bilder \& \<Co\> \*neu\* \| \[x\](y)"
    made = markdown.to_page(f"{title}\n\n## {markdown.text('a <b> `c` | _d_ [e](f) &amp; ![g](h)')}\n", HOME)
    assert made.title == "Bilder & <Co> *neu* | [x](y)"
    assert made.headings[0].text == "a <b> `c` | _d_ [e](f) &amp; ![g](h)"
    assert "<b>" not in made.html
    table = source(servers["team"], "/api/quick-start.md")
    assert r"| 9 \| \*EUR\* |" in table
    assert "<td>9 | *EUR*</td>" in source(servers["team"], "/api/quick-start")


# Links


class Site:
    """Looks at each address of a server once."""

    def __init__(self, server):
        self._server = server
        self._pages = {}

    def page(self, path):
        """Return what is there, None if nothing is."""
        if path not in self._pages:
            answer = self._server.get(path, **HTML)
            html = answer.headers["Content-Type"].startswith("text/html")
            self._pages[path] = None if answer.status != 200 else Page(answer.body if html else b"")
        return self._pages[path]

    def has(self, path, fragment):
        found = self.page(path)
        return found is not None and (not fragment or any(attrs.get("id") == fragment for _, attrs in found.tags))


def test_links_in_markdown_lead_somewhere(server):
    base, site, checked = base_of(server), Site(server), 0
    for path in [path for path in TEXTS if not path.startswith("/openapi")]:
        text = re.sub(r"(?s)```.*?```|`[^`\n]*`", "", source(server, path))
        for link in re.findall(r"(?<!\\)\]\(([^)\s]+)\)", text):
            target, _, fragment = link.partition("#")
            if not target and path == "/llms-full.txt":
                continue  # all documents in one: a fragment may be of any of them
            assert not target or target == base or target.startswith(f"{base}/"), (path, link)
            target = target.removeprefix(base) or path
            assert site.has(target, ""), (path, link)
            assert site.has(target.removesuffix(".md"), fragment), (path, link)
            checked += 1
    assert checked > 40


def test_links_on_pages_lead_somewhere_and_stay_on_the_site(server):
    site = Site(server)
    for path in PAGES:
        for tag in ("a", "link", "script", "img"):
            for attrs in site.page(path).all(tag):
                link = attrs.get("href") or attrs.get("src")
                assert not urlsplit(link).netloc, (path, link)
                target = urlsplit(urljoin(path, link))
                assert site.has(target.path, target.fragment), (path, link)


def test_pages_work_below_a_path(tmp_path):
    with running(tmp_path / "data", {"IMGPRO_SERVER_BASE_URL": "https://nas.home.arpa/pictures/"}) as server:
        assert "curl -F file=@picture.jpg https://nas.home.arpa/pictures/v1/upload" in source(
            server, "/api/quick-start.md"
        )
        assert json.loads(source(server, "/openapi.json"))["servers"] == [{"url": "https://nas.home.arpa/pictures"}]
        for path in PAGES:
            for attrs in page(server, path).all("a"):
                assert not attrs["href"].startswith(("/", "http")), (path, attrs)


def test_the_address_is_the_one_that_was_asked(servers):
    for path in TEXTS:
        asked = servers["default"].get(path, Host="Pictures.lan:8080")
        assert b"http://pictures.lan:8080" in asked.body, path
        assert servers["default"].base.encode() not in asked.body, path
        assert servers["default"].get(path, Host="a.lan/<script>").status == 400
        configured = servers["homelab"].get(path, Host="Pictures.lan:8080")
        assert HOME.encode() in configured.body, path
        assert b"pictures.lan" not in configured.body, path


def test_hosts_of_their_own_are_named(tmp_path):
    hosts = {
        "IMGPRO_SERVER_BASE_URL": "https://nas.home.arpa",
        "IMGPRO_SERVER_API_URL": "https://api.home.arpa",
        "IMGPRO_SERVER_SRC_URL": "https://i.home.arpa",
    }
    with running(tmp_path / "data", hosts) as server:
        for path in ("/api/quick-start.md", "/api/ai-agents", "/api/reference.md", "/llms-full.txt", "/openapi.json"):
            text = source(server, path)
            assert "https://api.home.arpa/v1/upload" in text, path
            assert "https://i.home.arpa/t/" in text, path
            assert not re.search(r"https://nas\.home\.arpa/(?:v1|t)/|https://(?:api|i)\.home\.arpa/api", text), path
        assert "https://nas.home.arpa/api/errors.md" in source(server, "/api/quick-start.md")
        assert "https://api.home.arpa/v1/upload" in source(server, "/api")


# Limits


def test_limits_are_those_of_an_unchanged_server(servers):
    for path in ("/api/quick-start.md", "/api/reference.md"):
        text = source(servers["default"], path)
        for words in (
            "20 pictures an hour and 100 a day",
            "20 MB",
            "70 MB",
            "$10/mo",
            "100,000 a month",
            "5 TB",
            "HEIC",
        ):
            assert words in text, (path, words)
    for path in ("/openapi.json", "/openapi.yaml", "/api/reference.md"):
        text = " ".join(source(servers["default"], path).replace("\\n", " ").split())
        assert "up to 20 MB without a key, 70 MB with one, 10 MB for SVG." in text
        assert "has 3 keys at most." in text
        assert "within 30 seconds," in text


def test_limits_are_those_of_a_box_at_home(servers):
    server = servers["homelab"]
    for path in ("/api/quick-start.md", "/api/reference.md", "/api/ai-agents.md", "/llms.txt"):
        text = source(server, path)
        assert "33 MB" in text, path
        assert "JPEG, PNG, GIF, WebP, AVIF, BMP and ICO" in text, path
        for words in ("HEIC", "SVG,", "$10", "20 MB", "70 MB", "5 GB", "you@example.org"):
            assert words not in text, (path, words)
    for path in ("/openapi.json", "/openapi.yaml", "/api/reference.md"):
        text = " ".join(source(server, path).replace("\\n", " ").split())
        assert "JPEG, PNG, GIF, WebP, AVIF, BMP and ICO are taken" in text, path
        assert "up to 33 MB with one." in text, path
        assert "has 5 keys at most." in text, path
        assert "within 7 seconds," in text, path
        assert "that its operator has not changed" not in text
    assert "| a key | unlimited | unlimited | until deleted | 33 MB |" in source(server, "/api/quick-start.md")
    assert "This does not happen on this server" in source(server, "/api/errors.md")
    assert "The first upload needs a key:" in source(server, "/openapi.yaml")
    assert f"curl -H X-API-Key:$KEY -F file=@shot.png {HOME}/v1/upload" in source(server, "/openapi.json")
    assert "`POST /v1/upload` · Needs a key on this server." in source(server, "/api/reference.md")


def test_who_may_come_in_is_said(servers):
    team = source(servers["team"], "/api/quick-start.md")
    assert "local network only" in team
    assert "invites people itself" in team
    assert "/v1/import" not in team
    assert "100 pictures a day from one address" in team
    assert "kept until you delete it" in team
    assert "| imports | turned off |" in source(servers["team"], "/api/reference.md")
    assert "Turned off on this server." in source(servers["team"], "/api/reference.md")
    home = source(servers["homelab"], "/api/quick-start.md")
    assert "with an API key only" in home
    assert "takes no new accounts" in home
    assert home.index("## Get a key") < home.index("## Upload a picture")
    assert "sends no mail" in source(servers["default"], "/api/quick-start.md")


# Complete


def test_the_reference_tells_everything_that_openapi_does(servers):
    server = servers["default"]
    text, document = source(server, "/api/reference.md"), json.loads(source(server, "/openapi.json"))
    sections = text.split("\n### ")
    told = 0
    for path, item in document["paths"].items():
        for method, operation in item.items():
            (section,) = [one for one in sections if f"`{method.upper()} {path}` ·" in one]
            told += 1
            for parameter in operation.get("parameters", ()):
                name = _resolved(document, parameter)["name"]
                assert f"| `{name}` |" in section, (path, method, name)
            body = _resolved(document, operation.get("requestBody", {}))
            for kind, media in body.get("content", {}).items():
                assert f"Body, `{kind}`" in section
                for field in _resolved(document, media["schema"]).get("properties", {}):
                    assert f"| `{field}` |" in section, (path, method, field)
            for status in operation["responses"]:
                assert re.search(rf"\*\*{status}\*\*|[:,] {status}\b", section), (path, method, status)
    assert told >= 20
    for name, schema in document["components"]["schemas"].items():
        section = text.split(f"\n### {name}\n", 1)[1].partition("\n### ")[0]
        for field in schema.get("properties", {}):
            assert f"| `{field}` |" in section, (name, field)
    for name in document["components"]["headers"]:
        assert f"\n| `{name}` |" in text.split("\n## Headers of answers\n")[1]


def test_every_error_is_told(servers):
    text = source(servers["default"], "/api/errors.md")
    for kind in _told_over_http(ImgproError):
        section = text.split(f"\n## {kind.code}\n", 1)[1].partition("\n## ")[0]
        assert f"Status {kind.status}" in section
        examples = [json.loads(one) for one in re.findall(r"(?s)```json\n(.*?)```", section)]
        assert {one["error"] for one in examples} == {kind.code}
        assert all(one["action"]["type"] for one in examples)
        assert f"| [`{kind.code}`](#{kind.code}) | {kind.status}, `" in text
    assert "Upgrade to Pro ($10/mo) for 1,000 uploads" in text


def test_the_example_of_an_error_is_what_is_answered(servers):
    server = servers["default"]
    section = source(server, "/api/errors.md").split("\n## not_found\n")[1]
    assert json.loads(re.search(r"(?s)```json\n(.*?)```", section)[1]) == server.get("/v1/media/000000000000").json()


def test_what_is_to_be_put_into_files_can_be_read_there(server):
    for path in [path for path in TEXTS if not path.startswith("/openapi")]:
        for example in re.findall(r"(?s)```json\n(.*?)```", source(server, path)):
            json.loads(example)
    agents = source(server, "/api/ai-agents.md")
    for kind, read in (("json", json.loads), ("toml", tomllib.loads)):
        for example in re.findall(rf"(?s)```{kind}\n(.*?)```", agents):
            assert f"{base_of(server)}/mcp" in example
            assert read(example)
    assert agents.count('/mcp"') >= 3


# What is pasted


def expectations(text):
    """Return each line of each shell block, and the error that the document says the block ends with, if it does."""
    found = []
    for block in re.finditer(FENCED, text):
        said = re.match(r"\n\nAnswers (\d{3}) `([a-z_]+)`", text[block.end() :])
        lines = shell_lines(block[0] + "\n")
        found += [(line, None) for line in lines[:-1]]
        found.append((lines[-1], (int(said[1]), said[2]) if said else None))
    return found


@pytest.mark.parametrize("kind", ["default", "homelab"])
@pytest.mark.parametrize("path", [path for path in TEXTS if not path.startswith("/openapi")])
def test_every_line_runs_from_top_to_bottom(tmp_path, kind, path):
    settings = {"default": DEFAULT, "homelab": HOMELAB}[kind]
    folder = tmp_path / "here"
    folder.mkdir()
    with picture_peer(PNG) as port, running(tmp_path / "data", {**settings, **importing_from(port)}) as server:
        expected = expectations(source(server, path))
        assert expected or path == "/llms.txt"
        lines = [from_peer(line, port) for line, _ in expected]
        if kind == "homelab":
            key = operator_key(server)
            lines = [line.replace("img_live_your_key_here", key) for line in lines]
        way = f"--connect-to nas.home.arpa:8123:127.0.0.1:{server.port}"
        for run, (_, error) in zip(run_lines(lines, folder, picture=JPEG, options=way), expected, strict=True):
            # A shell that has a key asks for no other.
            assert bool(run.statuses) is ("curl " in run.line) or run.line.startswith('[ "$KEY" ]'), run
            if error is None:
                assert all(200 <= status < 400 for status in run.statuses), run
            else:
                assert run.statuses[-1] == error[0], run
                assert f'"error":"{error[1]}"' in run.output, run
        assert sum("curl " in line for line in lines) >= (0 if path == "/llms.txt" else 8)


def test_the_line_in_what_there_is_to_read_runs(servers, tmp_path):
    (line,) = re.findall(r"`(curl [^`]*)`", source(servers["default"], "/llms.txt"))
    (run,) = run_lines([line], tmp_path, picture=JPEG)
    assert run.statuses == [201]


def test_the_line_on_the_interactive_page_runs(servers, tmp_path):
    (line,) = page(servers["default"], "/api").curl_lines()
    (run,) = run_lines([line], tmp_path, picture=JPEG)
    assert run.statuses == [201]
    assert page(servers["homelab"], "/api").curl_lines() == []


# Files from elsewhere


def test_files_from_elsewhere_are_those_that_were_taken(servers):
    told = (ROOT / "imgpro" / "static" / "VENDORED.md").read_text()
    rows = re.findall(r"(?m)^\| `[^`]+` \| `([^`]+)` \| `([0-9a-f]{64})` \|$", told)
    present = {path.name for path in (ROOT / "imgpro" / "static").glob("swagger-*")}
    assert {name for name, _ in rows} == present
    assert re.search(r"version \d+\.\d+\.\d+", told)
    for name, digest in rows:
        body = (ROOT / "imgpro" / "static" / name).read_bytes()
        body = gzip.decompress(body) if name.endswith(".gz") else body
        assert hashlib.sha256(body).hexdigest() == digest, name
        served = servers["default"].get(f"/static/{name.removesuffix('.gz')}")
        assert served.status == 200
        assert served.body == body


def test_a_packed_file_is_sent_as_it_lies_there(servers):
    server = servers["default"]
    plain = server.get("/static/swagger-ui-bundle.js")
    packed = server.get("/static/swagger-ui-bundle.js", Accept_Encoding="gzip, br")
    assert plain.headers["Content-Type"] == packed.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.body == (ROOT / "imgpro" / "static" / "swagger-ui-bundle.js.gz").read_bytes()
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert plain.headers["ETag"] != packed.headers["ETag"]
    again = server.get("/static/swagger-ui-bundle.js", Accept_Encoding="gzip", If_None_Match=packed.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert server.get("/static/swagger-ui-bundle.js", If_None_Match=packed.headers["ETag"]).status == 200
    assert server.get("/static/VENDORED.md").status == 404


def _resolved(document, node):
    while "$ref" in node:
        found = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def _told_over_http(kind):
    below = [
        one for child in kind.__subclasses__() if not issubclass(child, OperatorError) for one in _told_over_http(child)
    ]
    return [kind, *below]


def operator_key(server):
    """Claim the server and return its operator's key."""
    token = urlsplit(server.operate("setup-link")["link"]).query.removeprefix("t=")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    made = server.request("POST", "/setup", f"t={token}&email=op@home.arpa".encode(), form)
    return re.search(rb"img_live_\w+", made.body)[0].decode()
