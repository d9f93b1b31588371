"""`imgpro export` as an operator runs it: beside a server and without one, cut off, onto bad disks, and in a browser."""

import contextlib
import functools
import http.server
import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.archives import multiply
from tests.browser import WATCH, Watch, until
from tests.crash.disks import disk
from tests.exports import HOSTILE, WORDS, by_name, change, check, copied, export, files, filled, here, index, rows_of
from tests.pictures import encoded, make_image
from tests.servers import ROOT, UNLIMITED, running
from tests.terminals import IMGPRO, Person


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A data directory with pictures of every kind that no server works on; not to be changed."""
    return filled(tmp_path_factory.mktemp("shelf") / "data")


@pytest.fixture(scope="module")
def out(shelf, tmp_path_factory):
    """An export of all of it, not to be changed; small pictures are from the cache."""
    found = tmp_path_factory.mktemp("export") / "out"
    export(shelf, found)
    return found


def tree(data):
    """Return every file below a folder with its owner, length and time."""
    found = {}
    for path in [data, *data.rglob("*")]:
        seen = path.lstat()
        found[str(path)] = (seen.st_uid, seen.st_gid, stat.S_IFMT(seen.st_mode), seen.st_size, seen.st_mtime_ns)
    return found


# What is written


def test_everything_that_a_server_holds_while_it_serves(shelf, tmp_path):
    with running(copied(shelf, tmp_path / "data"), UNLIMITED) as server:
        before = tree(server.data)
        done = export(server.data, tmp_path / "out")
        after = tree(server.data)
        assert server.must_upload(encoded(make_image(), "PNG"))
    assert re.fullmatch(rf"19 pictures \([\d.]+ [KM]B\) in {tmp_path / 'out'}: 19 new\n", done.stdout)
    assert done.stderr == ""
    check(tmp_path / "out")
    # Who only looks leaves nothing behind; the server itself may write to its database at any time.
    assert before.keys() == after.keys()
    assert {Path(path).name for path in after if after[path] != before[path]} <= {
        "imgpro.db",
        "imgpro.db-wal",
        "imgpro.db-shm",
    }
    _, pictures = index(tmp_path / "out")
    with sqlite3.connect(f"file:{shelf}/imgpro.db?mode=ro", uri=True) as conn:
        conn.row_factory = sqlite3.Row
        rows = conn.execute(
            "SELECT i.*, a.email, b.digest, b.width, b.height, b.frames, b.has_alpha FROM images i "
            "JOIN blobs b ON b.seq = i.blob LEFT JOIN accounts a ON a.seq = i.account ORDER BY i.seq"
        ).fetchall()
    conn.close()
    same = "id name description created_ms expires_ms wanted_end_ms display_date namespace format origin width height frames"
    for row, picture in zip(rows, pictures, strict=True):
        assert {name: picture[name] for name in same.split()} == {name: row[name] for name in same.split()}
        assert picture["account"] == row["email"]
        assert picture["digest"] == row["digest"].hex()
        assert picture["bytes"] == row["stored_bytes"]
        assert (picture["public"], picture["has_alpha"]) == (bool(row["public"]), bool(row["has_alpha"]))
        assert picture["tags"] == json.loads(row["tags"])
        assert picture["metadata_removed"] == json.loads(row["metadata_removed"])


def test_as_root_nothing_in_the_data_directory_becomes_roots(shelf, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    data = copied(shelf, tmp_path / "data")
    for path in [data, *data.rglob("*")]:
        os.chown(path, 65_534, 65_534)
    before = tree(data)
    told = json.loads(export(data, tmp_path / "out", "--json").stdout)
    assert (told["pictures"], told["added"], told["damaged"], told["without_thumbnail"]) == (19, 19, 0, 0)
    check(tmp_path / "out")
    assert tree(data) == before
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


@pytest.mark.parametrize("cache", ["cached", "made"])
def test_small_pictures_stand_still_and_every_browser_shows_them(shelf, out, tmp_path, cache):
    if cache == "made":
        data = copied(shelf, tmp_path / "data")
        shutil.rmtree(data / "cache")
        out = tmp_path / "out"
        export(data, out)
    rows = {row[2]: row for row in rows_of(out)}
    assert len(rows) == 18  # of the twins one
    for name in ("harbour.jpg", "window.png", "film.gif", "film.webp", "paint.bmp", "phone.heic"):
        key, small = rows[name][13:15]
        with Image.open(out / "gallery" / "thumbs" / key[:2] / f"{key}.{small}") as image:
            assert image.format.lower() == small
            assert getattr(image, "n_frames", 1) == 1
            assert min(image.size) <= 320
    assert rows["logo.svg"][14:] == ["original", ""]
    key, view = rows["phone.heic"][13], rows["phone.heic"][15]
    with Image.open(out / "gallery" / "views" / key[:2] / f"{key}.{view}") as image:
        assert image.format == "JPEG"


def test_the_gallery_follows(shelf, tmp_path):
    data, out = copied(shelf, tmp_path / "data"), tmp_path / "out"
    export(data, out)
    rows = {row[2]: row for row in rows_of(out)}
    pieces = {path: path.stat().st_mtime_ns for path in (out / "gallery").rglob("*") if path.name != "pictures.js"}
    assert export(data, out).stdout.endswith(": 19 there already\n")
    assert {path: path.stat().st_mtime_ns for path in pieces if path.is_file()} == {
        path: at for path, at in pieces.items() if path.is_file()
    }
    change(data, "DELETE FROM images WHERE name = 'film.gif'")
    assert export(data, out).stdout.endswith(": 18 there already, 1 removed\n")
    assert "film.gif" not in {row[2] for row in rows_of(out)}
    key, small = rows["film.gif"][13:15]
    assert not (out / "gallery" / "thumbs" / key[:2] / f"{key}.{small}").exists()
    here(data, out)
    assert {path.name for path in out.iterdir() if "@" not in path.name} == {
        "gallery",
        "index.jsonl",
        "without-account",
    }


# Cut off, and onto bad disks


def test_killed_at_any_time_it_goes_on_where_it_was(shelf, tmp_path):
    data, out = copied(shelf, tmp_path / "data"), tmp_path / "out"
    # One account, as `multiply` wants it.
    change(data, "DELETE FROM images WHERE account IS NOT (SELECT seq FROM accounts WHERE email = 'ann@example.org')")
    multiply(data, 600)
    journal = out / ".imgpro-export" / "placed.jsonl"
    command = [*IMGPRO, "export", str(out), "--data", str(data)]
    for kill in range(2):
        process = subprocess.Popen(command, env=Person(tmp_path).env, cwd=ROOT)
        known = journal.stat().st_size if journal.exists() else 0
        deadline = time.monotonic() + 60
        while (journal.stat().st_size if journal.exists() else 0) <= known + 100_000 and time.monotonic() < deadline:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (out / "index.jsonl").exists(), kill
    placed = {path.stat().st_ino for path in map(out.joinpath, files(out)) if ".imgpro-export" not in path.parts}
    assert len(placed) > 20
    with journal.open("ab") as torn:
        torn.write(b'{"id":"torn')
    done = export(data, out)
    check(out)
    [(kept,)] = (re.findall(r"(?:, |: )([\d,]+) (?:there already)", done.stdout),)
    assert 0 < int(kept.replace(",", "")) < 607
    assert placed <= {(out / path).stat().st_ino for path in files(out)}  # none was written again


def test_two_at_a_time_are_one_too_many_and_ctrl_c_ends_one(shelf, tmp_path):
    data, out = copied(shelf, tmp_path / "data"), tmp_path / "out"
    change(data, "DELETE FROM images WHERE account IS NOT (SELECT seq FROM accounts WHERE email = 'ann@example.org')")
    multiply(data, 4_000)
    command = [*IMGPRO, "export", str(out), "--data", str(data)]
    first = subprocess.Popen(command, env=Person(tmp_path).env, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out / ".imgpro-export" / "placed.jsonl").exists() and time.monotonic() < deadline:
        assert first.poll() is None
    first.send_signal(signal.SIGSTOP)
    assert "Another export into" in export(shelf, out, code=1).stderr
    first.send_signal(signal.SIGCONT)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert (first.returncode, said) == (130, "imgpro: broken off. Run it again: it goes on where it was.\n")
    assert not (out / "index.jsonl").exists()


def test_a_full_disk_is_said_before_and_gone_on_with_after(shelf, tmp_path):
    def short_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    out = tmp_path / "out"
    command = [*IMGPRO, "export", str(out), "--data", str(shelf), "--no-gallery"]
    env = Person(tmp_path).env
    done = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, preexec_fn=short_files, check=False
    )
    assert done.returncode == 74, done.stderr
    assert "There is no more room in" in done.stderr
    assert "it goes on where it was" in done.stderr
    assert not (out / "index.jsonl").exists()
    here(shelf, out)
    check(out)
    with disk(tmp_path / "small", 8) as small, small.filled(leave_bytes=600_000):
        assert "has room for" in export(shelf, small.root / "out", code=74).stderr
        assert files(small.root / "out") == set()


def test_a_disk_that_cannot_be_written_to(shelf, tmp_path):
    with disk(tmp_path / "sealed", 32) as sealed:
        here(shelf, sealed.root / "out")
        subprocess.run(["mount", "-o", "remount,ro", str(sealed.root)], check=True)
        for name in ("new", "out"):
            told = export(shelf, sealed.root / name, code=74).stderr
            assert "cannot be written to: Read-only file system" in told
        check(sealed.root / "out")


def test_what_is_damaged_is_told_by_the_exit_code(shelf, tmp_path):
    data = copied(shelf, tmp_path / "data")
    here(data, tmp_path / "before")
    hurt = by_name(tmp_path / "before")["harbour.jpg"]
    path = data / "blobs" / hurt["digest"][:2] / hurt["digest"][2:4] / hurt["digest"]
    path.chmod(0o640)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    done = export(data, tmp_path / "out", code=3)
    assert f"imgpro: left out: harbour.jpg ({hurt['id']}): its bytes are not those that were stored." in done.stderr
    assert "1 picture left out" in done.stderr
    assert "18 pictures" in done.stdout
    assert "harbour.jpg" not in {row[2] for row in rows_of(tmp_path / "out")}
    check(tmp_path / "out")


# The gallery in a browser


@pytest.fixture
def show(browser):
    """Open a gallery; at the end of the test nothing may have gone wrong, and nothing been asked of anybody else."""
    opened = []

    def open_gallery(address, width=1440, height=900, hosts=("",), expected=(), **options):
        context = browser.new_context(viewport={"width": width, "height": height}, locale="en-GB", **options)
        context.set_default_timeout(15_000)
        opened.append(Watch(context, set(hosts)))
        opened[-1].expected |= set(expected)
        page = context.new_page()
        page.add_init_script(WATCH)
        page.goto(address)
        until(page, "!document.getElementById('status').textContent.includes('Reading')")
        return page

    yield open_gallery
    for watch in opened:
        watch.check()
        watch.context.close()


@contextlib.contextmanager
def served(folder):
    """Put a folder on a web server that knows nothing of it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{found.server_port}"
        finally:
            found.shutdown()
            thread.join()


def names(page):
    return page.evaluate("[...document.querySelectorAll('.live .tile > a')].map((tile) => tile.dataset.name)")


def loaded(page):
    """Wait until all small pictures are there, and show something."""
    until(page, "[...document.querySelectorAll('.tile img')].every((image) => image.complete && image.naturalWidth)")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_the_gallery_opens_from_disk(show, out, width):
    page = show(f"file://{out}/index.html", width=width, height=900)
    loaded(page)
    assert page.title() == "Pictures · imgpro"
    assert len(names(page)) == 19
    assert names(page)[0] == "twin.png"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width < 960:
        page.locator("#side summary").click()
    page.locator("#order").select_option("old")
    until(page, "document.querySelector('.live .tile > a')?.dataset.name === 'harbour.jpg'")
    page.locator("#q").fill("HÁRBOUR")
    until(page, "document.querySelectorAll('.live .tile').length === 1")
    page.locator("#q").fill("trip boats")
    until(page, "document.getElementById('status').textContent === '1 of 19 pictures.'")
    page.locator("#q").fill("nowhere")
    until(page, "document.getElementById('status').textContent === 'No picture matches.'")
    page.locator("#q").fill("")
    for button, count in (("ann@example.org", 7), ("sea", 2), ("trip", 1)):
        page.locator(".facets button", has=page.get_by_text(button, exact=True)).click()
        until(page, "(count) => document.querySelectorAll('.live .tile').length === count", count)
    for _ in range(3):
        page.locator("#chosen button").first.click()
    until(page, "document.querySelectorAll('.live .tile').length === 19")
    page.locator(".facets button", has=page.get_by_text("Without an account")).click()
    until(page, "document.querySelectorAll('.live .tile').length === 2")


@pytest.mark.browser
def test_a_picture_in_the_whole_window_by_keyboard(show, out):
    page = show(f"file://{out}/index.html", height=500)
    page.locator(".tile > a").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    until(page, "document.activeElement.dataset.name === 'harbour.jpg'")
    page.keyboard.press("Enter")
    shown = "document.querySelector('#glass img')?.naturalWidth === 900 && document.getElementById('viewer').open"
    until(page, shown)
    assert page.locator("#name").inner_text() == "harbour.jpg"
    assert "900 × 600" in page.locator("#facts").inner_text()
    assert page.locator("#original").get_attribute("href") == "ann%40example.org/trip/harbour.jpg"
    seen = []
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
        until(page, "(last) => document.getElementById('name').textContent !== last", (seen or ["harbour.jpg"])[-1])
        until(page, "document.querySelector('#glass img')?.naturalWidth > 0")
        seen.append(page.locator("#name").inner_text())
        inside = "(([a, b]) => a.top >= b.top - 1 && a.bottom <= b.bottom + 1 && a.left >= b.left - 1 && a.right <= b.right + 1)"
        boxes = "['#glass img', '#glass'].map((name) => document.querySelector(name).getBoundingClientRect())"
        assert page.evaluate(f"{inside}({boxes})"), seen
    assert seen == ["window.png", "film.gif", "film.webp", "paint.bmp", "phone.heic", "logo.svg"]
    page.keyboard.press("z")
    assert page.locator("#zoom").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    until(page, "!document.getElementById('viewer').open && document.activeElement.dataset.name === 'logo.svg'")
    assert page.url.partition("#")[2] == ""
    page.keyboard.press("Enter")
    until(page, "document.getElementById('viewer').open")
    page.go_back()
    until(page, "!document.getElementById('viewer').open")


@pytest.mark.browser
def test_names_are_words_and_nothing_else_also_on_a_web_server(show, out):
    with served(out) as host:
        page = show(f"http://{host}/index.html", hosts=(host,))
        loaded(page)
        assert set(names(page)) == {picture["name"] for picture in index(out)[1]}
        assert {HOSTILE[1], HOSTILE[2], "script><img src=x onerror=document.title='owned'>.png"} <= set(names(page))
        for tile in page.locator(".tile > a", has_text="").all()[:14]:
            tile.click()
            until(
                page, "document.getElementById('viewer').open && document.querySelector('#glass img')?.naturalWidth > 0"
            )
            page.keyboard.press("Escape")
            until(page, "!document.getElementById('viewer').open")
        assert page.title() == "Pictures · imgpro"
        assert page.evaluate("document.querySelectorAll('img[onerror], svg, b').length") == 0
        page.locator(f'[data-name="{"IMG.png"}"]').click()
        until(page, f"document.getElementById('description').innerText === {json.dumps(WORDS)}")


@pytest.mark.browser
def test_many_pictures_are_a_few_elements(show, shelf, tmp_path):
    data, out = copied(shelf, tmp_path / "data"), tmp_path / "out"
    change(data, "DELETE FROM images WHERE name != 'logo.svg'")
    multiply(data, 2_001)
    export(data, out)
    assert sorted(path.name for path in (out / "gallery").glob("pictures-*.js")) == [
        f"pictures-000{n}.js" for n in (1, 2, 3)
    ]
    (out / "gallery" / "pictures-0002.js").unlink()
    page = show(f"file://{out}/index.html", expected=["lost"])
    until(page, "document.getElementById('status').textContent.includes('pictures-0002.js could not be read')")
    assert page.evaluate("document.querySelectorAll('.tile').length") < 200
    page.locator(".tile > a").first.focus()
    page.keyboard.press("End")
    until(page, "document.activeElement.dataset.name?.includes(' 2001.')")
