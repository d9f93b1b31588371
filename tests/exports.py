"""Exports as people make them, and all that an export says, read as a stranger would: with json and blake3."""

import asyncio
import json
import shutil
import sqlite3
import subprocess
from pathlib import Path

from blake3 import blake3

from imgpro.flows.errands import Progress
from imgpro.flows.export import Export
from imgpro.flows.export_index import Choice
from imgpro.flows.export_plan import Outcome, Source
from imgpro.store.layout import read_marker
from tests.pictures import encoded, film, make_image
from tests.servers import ROOT, UNLIMITED, Server, running
from tests.terminals import IMGPRO, Person

HOSTILE = (
    "</script><img src=x onerror=document.title='owned'>.png",
    "\"><svg onload=document.title='owned'>.png",
    "a%2f#?b&amp;.png",
    "con.png",
    "IMG.png",
    "img.png",
    "日本語 😀.png",
    "trailing . .png",
    "n" * 250 + ".png",
    "']);document.title='owned'//.png",
)
WORDS = "</script><script>document.title='owned'</script>"
DRAWING = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 200"><rect width="320" height="200" fill="#1f6f5c"/></svg>'
ALL = Choice()
HEIC = ROOT / "tests" / "data" / "gps-rotated.heic"


def fill(server: Server) -> dict[str, str]:
    """Upload pictures of every kind, for two accounts and for nobody; return the accounts' keys by their addresses."""
    keys = {email: server.new_key(email) for email in ("ann@example.org", "ben@example.org")}
    ann, ben = keys.values()
    big = make_image("RGB", (900, 600))
    server.must_upload(
        encoded(big, "JPEG"), "harbour.jpg", key=ann, namespace="trip", tags="sea,boats", date="2020-02-03"
    )
    server.must_upload(
        encoded(make_image("RGBA", (700, 500)), "PNG"), "window.png", key=ann, namespace="aux", public="false"
    )
    server.must_upload(film("GIF", size=(700, 500)), "film.gif", key=ann, description="Moves.\nOn two lines.", ttl="7d")
    server.must_upload(film("WEBP", size=(600, 500)), "film.webp", key=ann)
    server.must_upload(encoded(big, "BMP"), "paint.bmp", key=ann)
    server.must_upload(HEIC.read_bytes(), "phone.heic", key=ann, tags="sea")
    server.must_upload(DRAWING, "logo.svg", key=ann)
    for number, name in enumerate(HOSTILE):
        picture = encoded(make_image("RGB", (60 + number, 40)), "PNG")
        server.must_upload(picture, name, key=ben, description=WORDS, tags='<b>bold</b>,"quoted"')
    server.must_upload(encoded(make_image("RGB", (90, 70)), "PNG"), "twin.png")
    server.must_upload(encoded(make_image("RGB", (90, 70)), "PNG"), "twin.png")
    return keys


def filled(data: Path) -> Path:
    """Make a data directory with pictures of every kind that no server works on, and return it."""
    with running(data, UNLIMITED) as server:
        fill(server)
        assert server.stop() == 0
    return data


def copied(data: Path, target: Path) -> Path:
    """Return a copy of a data directory that no server works on."""
    shutil.copytree(data, target, ignore=shutil.ignore_patterns("admin.sock"))
    return target


def export(
    data: Path, folder: Path, *args: str, code: int = 0, prefix: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    """Export a data directory with the command; its exit code must be `code`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [*prefix, *IMGPRO, "export", str(folder), "--data", str(data), *args]
    env = Person(folder.parent).env
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def here(
    data: Path, folder: Path, choice: Choice = ALL, *, force: bool = False, said: list[str] | None = None
) -> Outcome:
    """Export in this process and without a gallery, which takes a fraction of the time."""
    source = Source(data / "imgpro.db", data / "blobs", data / "cache", read_marker(data).instance_id, "imgpro")
    work = Export(source, choice, Progress(), [].append if said is None else said.append)
    return asyncio.run(work.run(folder, None, force=force))


def delete(data: Path, name: str) -> None:
    """Delete pictures from a database that no server has open."""
    change(data, "DELETE FROM images WHERE name = ?", name)


def change(data: Path, statement: str, *values: str | int) -> None:
    with sqlite3.connect(data / "imgpro.db") as conn:
        conn.execute(statement, values)
    conn.close()


def index(folder: Path) -> tuple[dict, list[dict]]:
    """Return the header of an export and what it says of each picture."""
    header, *pictures = [json.loads(line) for line in (folder / "index.jsonl").read_text("utf-8").splitlines()]
    return header, pictures


def by_name(folder: Path) -> dict[str, dict]:
    return {picture["name"]: picture for picture in index(folder)[1]}


def files(folder: Path) -> set[str]:
    """Return the files of an export that are pictures, by their paths."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {path for path in found if not path.startswith("gallery/") and path not in ("index.html", "index.jsonl")}


def check(folder: Path) -> None:
    """Prove that an export is whole: each picture's file is there with its bytes and time, and nothing else is."""
    header, pictures = index(folder)
    assert header["imgpro_export"] == 1
    assert header["pictures"] == len(pictures)
    assert header["bytes"] == sum(picture["bytes"] for picture in pictures)
    assert files(folder) == {picture["file"] for picture in pictures}
    assert len({picture["file"].casefold() for picture in pictures}) == len(pictures)
    for picture in pictures:
        file = folder / picture["file"]
        assert blake3(file.read_bytes()).hexdigest() == picture["digest"], picture["file"]
        assert file.stat().st_mtime_ns // 1_000_000 == picture["created_ms"]
    assert not (folder / ".imgpro-export").exists()


def rows_of(folder: Path) -> list[list]:
    """Return what the gallery is told of each picture, by running its scripts as far as they are data."""
    found = []
    for piece in sorted((folder / "gallery").glob("pictures-*.js")):
        text = piece.read_text("utf-8")
        assert text.startswith("imgproPictures(")
        assert text.endswith(");\n")
        found += json.loads(text[text.index(",") + 1 : -3])
    return found
