"""`./run shots`: pictures of every page, phone and laptop, light and dark, of a server filled with real photographs.

They go into `shots/`, which git ignores, to be looked at. Anything that a browser complains about ends the run.
"""

import argparse
import io
import os
import random
import re
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps
from playwright.sync_api import sync_playwright

from tests.browser import ARGS, WATCH, Watch
from tests.servers import ROOT, UNLIMITED, Server
from tests.signed_in import by_key, claimed

PHOTOS = ROOT.parent / "shared" / "photos"
SIZES = {"phone": (390, 844), "laptop": (1440, 900)}
DAY_MS = 86_400_000
NAMES = ("harbour", "stairs", "night bus", "error dialog", "invoice", "garden", "whiteboard", "receipt", "cat", "map")
TAGS = ("bug", "trip", "ui", "work", "family", "sea", "receipt")
SPACES = ("screens", "holiday-2026", "docs", "")


def pictures(count):
    """Yield names and bytes of `count` different pictures: pieces of the photographs, of many shapes."""
    chance = random.Random(7)
    found = [p for p in sorted(PHOTOS.glob("*")) if p.suffix in (".jpg", ".webp", ".png") and "cmyk" not in p.name]
    sources = []
    for path in found:
        with Image.open(path) as image:
            sources.append(ImageOps.exif_transpose(image).convert("RGB"))
    for number in range(count):
        source = chance.choice(sources)
        ratio = chance.choice((0.56, 0.75, 1, 1.33, 1.5, 1.78, 1.78, 2.4))
        width = int(source.width * chance.uniform(0.45, 1))
        height = min(source.height, int(width / ratio))
        x, y = chance.randint(0, source.width - width), chance.randint(0, source.height - height)
        piece = source.crop((x, y, x + width, y + height))
        piece.thumbnail((1600, 1600))
        out = io.BytesIO()
        piece.save(out, "JPEG", quality=80)
        yield f"{NAMES[number % len(NAMES)]} {number}.jpg", out.getvalue()


def fill(server, key, count):
    """Upload pictures for an account, with tags and namespaces."""
    for number, (name, body) in enumerate(pictures(count)):
        fields = {"tags": ",".join({TAGS[number % 7], TAGS[number * 3 % 7]})}
        if SPACES[number % 4]:
            fields["namespace"] = SPACES[number % 4]
        if number % 9 == 4:
            fields["public"] = "false"
        server.must_upload(body, name, key=key, **fields)


def spread(data):
    """Let the pictures have come over some months, as a server's pictures do."""
    with sqlite3.connect(data / "imgpro.db") as conn:
        trigger = conn.execute("SELECT sql FROM sqlite_master WHERE name = 'images_keep_their_facts'").fetchone()[0]
        conn.execute("DROP TRIGGER images_keep_their_facts")
        rows = conn.execute("SELECT seq FROM images WHERE account IS NOT NULL ORDER BY seq DESC").fetchall()
        for place, (seq,) in enumerate(rows):
            back = int((place / 12) ** 1.7 * DAY_MS) + place * 60_000
            conn.execute("UPDATE images SET created_ms = created_ms - ? WHERE seq = ?", (back, seq))
            conn.execute("UPDATE image_tags SET created_ms = created_ms - ? WHERE image = ?", (back, seq))
        conn.execute(trigger)


class Studio:
    """One browser on one filled server."""

    def __init__(self, browser, server, out, only):
        self.browser, self.server, self.out, self.only = browser, server, out, only
        self.taken = []

    def page(self, size, scheme, cookie=None):
        width, height = SIZES[size]
        phone = size == "phone"
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            has_touch=phone,
            is_mobile=phone,
            device_scale_factor=2 if phone else 1,
            locale="en-GB",
            timezone_id="Europe/London",
        )
        context.set_default_timeout(10_000)
        context.add_init_script(WATCH)
        if cookie:
            context.add_cookies([{"name": "imgpro_session", "value": cookie, "url": self.server.base}])
        self.watch = Watch(context, {f"127.0.0.1:{self.server.port}"})
        self.watch.expected |= {"404", "401", "403"}
        return context.new_page()

    def take(self, name, path, *, cookie=None, act=None, full=False):
        """Take a scene in both sizes and both schemes. `act(page, size)` brings the page into its state."""
        if self.only and not re.search(self.only, name):
            return
        for size in SIZES:
            for scheme in ("light", "dark"):
                page = self.page(size, scheme, cookie)
                page.goto(self.server.base + path)
                page.wait_for_load_state("load")
                if act is not None:
                    act(page, size)
                page.wait_for_timeout(700)
                target = self.out / f"{name}-{size}-{scheme}.png"
                page.screenshot(path=target, full_page=full)
                self.taken.append(target)
                self.watch.check()
                page.context.close()
        print(name, flush=True)


def session(server, key):
    """Sign in and return the session's token."""
    return by_key(server, key).cookie.partition("=")[2]


def choose_three(page, size):
    files = [PHOTOS / "screenshot-1440p.png", PHOTOS / "photo-2mp.jpg", PHOTOS / "window-alpha.png"]
    page.locator("input[type=file]").first.set_input_files(files)
    page.wait_for_timeout(4_000)


def choose_one(page, size):
    page.locator("input[type=file]").first.set_input_files(PHOTOS / "screenshot-1440p.png")
    page.wait_for_timeout(2_500)


def scenes(studio, server, ann, op, empty):
    """Take every scene."""

    def shared(name, **fields):
        return server.must_upload((PHOTOS / name).read_bytes(), name, **fields)

    photo = shared("photo-12mp-gps.jpg", key=ann[0], namespace="holiday-2026", tags="sea,trip", description="The bay.")
    alpha, public = shared("window-alpha.png"), shared("screenshot-1440p.png", ttl="7d")
    studio.take("gallery", "/dashboard", cookie=ann[1])
    studio.take("gallery-search", "/dashboard?q=harbour", cookie=ann[1])
    studio.take("gallery-empty", "/dashboard", cookie=empty)
    studio.take("home", "/")
    studio.take("home-one", "/", act=choose_one)
    studio.take("home-three", "/", act=choose_three)
    studio.take("home-signed-in", "/", cookie=ann[1], act=choose_three)
    studio.take("viewer", f"/{public['id']}", full=True)
    studio.take("viewer-alpha", f"/{alpha['id']}")
    studio.take("viewer-owner", f"/{photo['id']}", cookie=ann[1], full=True)
    studio.take("viewer-zoom", f"/{public['id']}", act=lambda page, size: page.locator(".stage img").last.click())
    studio.take("gone", "/abcdefghijkl")
    studio.take("sign-in", "/dashboard")
    studio.take("account", "/dashboard/account", cookie=ann[1], full=True)
    studio.take("connect", "/dashboard/connect", cookie=ann[1], full=True)
    studio.take("connect-sharex", "/dashboard/connect/sharex", cookie=ann[1], full=True)
    studio.take("operator", "/operator", cookie=op, full=True)
    studio.take("api", "/api")


def main():
    """Fill a server, take all scenes; the name of the folder is printed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("only", nargs="?", help="a regular expression: only scenes whose name it matches")
    parser.add_argument("--out", type=Path, default=ROOT / "shots")
    parser.add_argument("--count", type=int, default=120)
    chosen = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("shots: no chromium on this machine")
    chosen.out.mkdir(exist_ok=True)
    env = {**UNLIMITED, "IMGPRO_SERVER_LISTEN": "127.0.0.1:0"}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        data = Path(folder) / "data"
        server = Server(data, env).start()
        try:
            keys = [server.new_key(f"{who}@example.org") for who in ("ann", "ben")]
            server.operate("plan", email="ann@example.org", plan="pro")
            op = claimed(server).cookie.partition("=")[2]
            fill(server, keys[0], chosen.count)
            server.stop()
            spread(data)
            server.start()
            args = [ARGS[0], *(f"--{arg}" for arg in ARGS[1:])]
            browser = started.chromium.launch(executable_path=chromium, args=args)
            studio = Studio(browser, server, chosen.out, chosen.only)
            ann = (keys[0], session(server, keys[0]))
            scenes(studio, server, ann, op, session(server, keys[1]))
            browser.close()
        finally:
            server.close()
    print(f"{len(studio.taken)} pictures in {os.path.relpath(chosen.out)}")


if __name__ == "__main__":
    main()
