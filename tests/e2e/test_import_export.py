"""`imgpro import export`: what `imgpro export` wrote comes back as it was; what is in the way is named."""

import json
import subprocess
import sys

import pytest
from blake3 import blake3

from imgpro.model import OldLink
from tests.moving import brought, dot, handed_over, rows
from tests.servers import ROOT, UNLIMITED, bearer, running


def exported(data, folder):
    words = [sys.executable, "-m", "imgpro", "export", str(folder), "--data", str(data), "--no-gallery"]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return [json.loads(line) for line in (folder / "index.jsonl").read_bytes().splitlines()[1:]]


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """A folder with the pictures of two people and of nobody, and what its index says of them."""
    place = tmp_path_factory.mktemp("export")
    with running(place / "data", UNLIMITED) as server:
        for person in ("ann", "bob"):
            key = server.new_key(f"{person}@example.org")
            facts = {"tags": "sea,blue", "namespace": f"of-{person}", "description": "Two\nlines", "date": "2001-02-03"}
            server.must_upload(dot(1), f"{person}.png", key=key, public="false", ttl="30d", **facts)
            server.must_upload(dot(2), "same name.png", key=key)
        server.must_upload(dot(3), "nobody.png")
        handed_over(
            server.data, dot(4), created_ms=1_000_000_000_000, old_links=[OldLink("/u/4.png"), OldLink("/4", "page")]
        )
        yield place / "out", exported(server.data, place / "out")


def test_all_comes_back_as_it_was(export, tmp_path):
    folder, index = export
    with running(tmp_path / "data", UNLIMITED) as server:
        dry = brought(server.data, "export", folder, "--add-accounts", "--dry-run")
        assert len(dry.outcomes("would_bring")) == 6
        assert rows(server.data, "SELECT count(*) FROM accounts") == [(0,)]
        run = brought(server.data, "export", folder, "--add-accounts")
        assert (run.out, run.err) == ("pictures: 6 brought\n", "")
        again = brought(server.data, "export", folder)
        assert len(again.outcomes("there")) == 6
        by_id = {line["id"]: line for line in exported(server.data, tmp_path / "again")}
        assert by_id == {line["id"]: line for line in index}
        assert server.get("/4", Accept="text/html").headers["Location"].endswith(f"/{_id(index, 'page')}")
        key = server.new_key("ann@example.org")
        found = server.request("GET", "/v1/media?tags=sea", headers=bearer(key)).json()["data"]
        assert [row["name"] for row in found] == ["ann.png"]


def _id(index, leads_to):
    return next(line["id"] for line in index for link in line["old_links"] if link["leads_to"] == leads_to)


def test_what_is_in_the_way_is_told(export, tmp_path):
    folder, index = export
    with running(tmp_path / "data", UNLIMITED) as server:
        missing = brought(server.data, "export", folder, code=3)
        assert len(missing.outcomes("left_out")) == 4
        assert "There is no account ann@example.org here. --add-accounts makes it." in missing.err
        assert len(missing.outcomes("brought")) == 2
        taken = next(line for line in index if line["account"] == "bob@example.org")
        handed_over(server.data, dot(90), id=taken["id"])
        server.new_key("carl@example.org")
        to = "carl@example.org"
        run = brought(server.data, "export", folder, "--map", f"ann@example.org={to}", "--map", f"bob@example.org={to}")
        assert "is another picture's here; it has a new one" in run.lines[taken["id"]]["notes"][0]
        assert run.lines[taken["id"]]["id"] != taken["id"]
        assert rows(server.data, "SELECT images FROM accounts") == [(4,)]


def test_an_index_that_was_tampered_with(export, tmp_path):
    folder, index = export
    evil = tmp_path / "evil"
    evil.mkdir()
    (tmp_path / "secret.png").write_bytes(dot(91))
    (evil / "link.png").symlink_to(tmp_path / "secret.png")
    header = (folder / "index.jsonl").read_bytes().splitlines()[0]
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "in.png").write_bytes(dot(92))
    (evil / "folder").symlink_to(tmp_path / "private")
    paths = ("../secret.png", str(tmp_path / "secret.png"), "link.png", "gone.png", "folder/in.png", "a\0b.png")
    lines = [{**index[0], "account": None, "id": f"{number:012}", "file": path} for number, path in enumerate(paths)]
    lines.append({**lines[0], "id": f"{6:012}", "old_links": [{"path": f"/{number}"} for number in range(5_000)]})
    (evil / "index.jsonl").write_bytes(b"\n".join([header, *(json.dumps(line).encode() for line in lines)]))
    with running(tmp_path / "data", UNLIMITED) as server:
        run = brought(server.data, "export", evil, code=3)
        assert len(run.outcomes("left_out")) == 7
        assert rows(server.data, "SELECT count(*) FROM images") == [(0,)]
        (evil / "good.png").write_bytes(dot(93))
        endless = {**lines[0], "file": "good.png", "expires_ms": 2**62, "wanted_end_ms": 2**62}
        said = ["gps", "exif", "\x1b[2J", "gps", *(f"kind_{number}" for number in range(20_000))]
        endless |= {"digest": blake3(dot(93)).hexdigest(), "metadata_removed": said}
        others = [
            {**endless, "id": "000000000008", "digest": "no hex"},
            {**endless, "id": "000000000009", "digest": "0" * 64},
        ]
        told = [json.dumps(line).encode() for line in (endless, *others)]
        (evil / "index.jsonl").write_bytes(b"\n".join([header, *told]))
        rehearsal = brought(server.data, "export", evil, "--dry-run", code=3)
        run = brought(server.data, "export", evil, code=3)
        assert rehearsal.outcomes("left_out") == run.outcomes("left_out") == ["000000000008", "000000000009"]
        assert run.reason("000000000009") == "Its bytes are no longer those that were exported."
        assert "20003 kinds of removed data that it names, 19971 were dropped" in run.lines[endless["id"]]["notes"][0]
        ((kept,),) = rows(server.data, "SELECT metadata_removed FROM images")
        assert json.loads(kept)[:3] == ["gps", "exif", "kind_0"]
        assert server.get(f"/{endless['id']}", Accept="text/html").status == 200
        (evil / "index.jsonl").unlink()
        (evil / "index.jsonl").symlink_to("/dev/zero")
        assert "is not a file" in brought(server.data, "export", evil, code=1).err
        (evil / "index.jsonl").unlink()
        (evil / "index.jsonl").write_bytes(b"nothing of ours\n")
        brought(server.data, "export", evil, code=65)
        refused = brought(server.data, "folder", folder, "--nobody", code=1)
        assert "imgpro import export" in refused.err
