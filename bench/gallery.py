"""The gallery with very many pictures in a real browser: elements, memory, long frames, time of a page.

    python -m bench.gallery --pictures 100000

Needs playwright and chromium, as the tests do. Prints one line of JSON per step.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.archives import multiply
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, Server

SHAPES = ((600, 400), (400, 600), (640, 360), (500, 500), (900, 400), (480, 640), (720, 480), (300, 700))
WATCH = """
    window.long = [];
    new PerformanceObserver((list) => window.long.push(...list.getEntries().map((entry) => entry.duration)))
        .observe({type: "longtask", buffered: true});
"""
WORK = ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration")  # of the page's own thread; the rest is drawing
FRAMES = """async ([step, seconds]) => {
    const frames = [];
    const end = performance.now() + seconds * 1000;
    let last = performance.now();
    while (performance.now() < end) {
        scrollBy(0, step);
        await new Promise(requestAnimationFrame);
        frames.push(performance.now() - last);
        last = performance.now();
    }
    return frames;
}"""


def told(page: Page, what: str, **values: Any) -> None:
    """Print a step: the page's elements, its heap after a collection, and the tasks that were longer than 50 ms."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    metrics = _metrics(session)
    long = page.evaluate("window.long.splice(0)")
    values |= {
        "loaded": page.evaluate("document.getElementById('grid').style.height"),
        "elements": page.evaluate("document.querySelectorAll('*').length"),
        "heap_mb": round(metrics["JSHeapUsedSize"] / 1e6, 1),
        "long_tasks": len(long),
        "longest_ms": round(max(long, default=0)),
    }
    print(json.dumps({"step": what, **values}), flush=True)


def _metrics(session: Any) -> dict[str, float]:
    session.send("Performance.enable")
    return {row["name"]: row["value"] for row in session.send("Performance.getMetrics")["metrics"]}


def scrolled(page: Page, what: str, step: int, seconds: float) -> None:
    session = page.context.new_cdp_session(page)
    before = _metrics(session)
    frames = sorted(page.evaluate(FRAMES, [step, seconds]))
    after = _metrics(session)
    work_ms = sum(after[name] - before[name] for name in WORK) * 1000
    slow = sum(1 for frame in frames if frame > 50)
    told(
        page,
        what,
        frames=len(frames),
        own_work_ms=round(work_ms / len(frames), 1),
        median_ms=round(statistics.median(frames), 1),
        p99_ms=round(frames[int(len(frames) * 0.99)], 1),
        worst_ms=round(frames[-1], 1),
        over_50_ms=slow,
    )


def measure(server: Server, cookie: dict[str, str], pictures: int) -> None:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.add_cookies([cookie])  # type: ignore[list-item]
        page = context.new_page()
        page.set_default_timeout(600_000)
        page.add_init_script(WATCH)
        begun = time.perf_counter()
        page.goto(f"{server.base}/dashboard")
        page.locator(".live .tile").first.wait_for()
        told(page, "open", first_tile_ms=round((time.perf_counter() - begun) * 1000))
        scrolled(page, "scroll 40 px a frame", 40, 10)
        scrolled(page, "scroll 400 px a frame", 400, 10)
        begun = time.perf_counter()
        page.mouse.move(700, 500)
        page.locator(".tile .pick").first.click()
        page.get_by_role("button", name="Select all").click()
        page.get_by_text(f"{pictures:,} selected").wait_for()
        told(page, "select all", seconds=round(time.perf_counter() - begun, 1))
        page.keyboard.press("Escape")
        page.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
        page.wait_for_timeout(500)
        scrolled(page, "in the middle, 400 px a frame", 400, 10)
        scrolled(page, "flying, 40,000 px a frame", 40_000, 3)
        begun = time.perf_counter()
        page.set_viewport_size({"width": 1100, "height": 900})
        page.wait_for_timeout(300)
        told(page, "resize", ms=round((time.perf_counter() - begun) * 1000) - 300)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100_000)
    pictures = parser.parse_args().pictures
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", UNLIMITED)
        try:
            server.start()
            key = server.new_key("ann@example.org")
            for shape in SHAPES:
                server.must_upload(encoded(make_image("RGB", shape), "JPEG"), "real.jpg", key=key)
            server.stop()
            multiply(server.data, pictures - len(SHAPES))
            server.start()
            answer = server.request(
                "POST",
                "/dashboard/sign-in",
                f"key={key}".encode(),
                {"Content-Type": "application/x-www-form-urlencoded", "Origin": server.base},
            )
            name, value = answer.headers["Set-Cookie"].split(";")[0].split("=", 1)
            measure(server, {"name": name, "value": value, "url": server.base}, pictures)
        finally:
            server.close()


if __name__ == "__main__":
    main()
