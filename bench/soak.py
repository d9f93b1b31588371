"""Memory over time: thousands of mixed requests and a burst of large transforms, with what the server holds after each.

`python -m bench.soak` prints both as tables. The requests themselves are also what the soak tests are made of.
"""

import argparse
import asyncio
import io
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image

from bench import cost, load, servers
from imgpro import sources
from imgpro.cli import office

MIB = 1024 * 1024
REST_S = 2.5  # workers give memory back after one second without work
POPULATION = 120
SIZES = ((48, 48), (300, 200), (800, 600), (1600, 1200))
SETTINGS = {
    "IMGPRO_PLANS_UNLIMITED": "true",
    "IMGPRO_LOG_ACCESS": "false",
    "IMGPRO_ACCOUNTS_KEYS_PER_ADDRESS_PER_HOUR": "unlimited",
    "IMGPRO_ACCOUNTS_REQUESTS_PER_MINUTE": "unlimited",
}


@dataclass(frozen=True)
class Held:
    """What is held after so many requests: by the server alone (resident, its share), and with its workers. Bytes."""

    requests: int
    server_rss: int
    server_pss: int
    tree_pss: int


def held(pid: int, requests: int = 0) -> Held:
    """Look, after a rest."""
    time.sleep(REST_S)
    fields = {"Rss": 0, "Pss": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in fields:
            fields[name] = int(value.split()[0]) * 1024
    return Held(requests, fields["Rss"], fields["Pss"], cost.pss_bytes(pid))


def picture(dice: random.Random, sizes: Sequence[tuple[int, int]]) -> tuple[str, bytes]:
    """Return the name and the bytes of a picture like no other, in one of the sizes."""
    width, height = dice.choice(sizes)
    kind = dice.choice(("PNG", "JPEG", "JPEG", "WEBP", "GIF"))
    colour = tuple(dice.randrange(256) for _ in range(3))
    image = Image.new("RGB", (width, height), colour)
    grain = Image.frombytes("RGB", (40, 40), dice.randbytes(4800))
    image.paste(grain.resize((width // 2, height // 2)), (width // 4, height // 4))
    out = io.BytesIO()
    image.save(out, kind)
    return f"picture.{kind.lower()}", out.getvalue()


class Soak:
    """All kinds of requests against one server, in a mix that keeps about as many pictures as there were."""

    def __init__(self, port: int, data: Path, seed: int = 1, sizes: Sequence[tuple[int, int]] = SIZES) -> None:
        self.port = port
        self._sizes = sizes
        self._data = data
        self.statuses: Counter[int] = Counter()
        self.failed: list[str] = []
        self._dice = random.Random(seed)
        self._key = ""
        self._cookie = self._csrf = ""
        self._kept: list[dict[str, str]] = []
        self._left = 0
        self._mix: tuple[tuple[int, Callable[[load.Connection], Awaitable[None]]], ...] = (
            (22, self._upload),
            (34, self._view),
            (8, self._original),
            (8, self._list),
            (5, self._search),
            (5, self._page),
            (5, self._wrong),
            (5, self._change),
            (6, self._delete),
            (1, self._events),
            (1, self._zip),
        )

    async def begin(self) -> None:
        """Make an account and sign in."""
        connection = load.Connection(self.port)
        kind = "Content-Type: application/json\r\n"
        email = f"soak{self._dice.random():.12f}@example.org"
        answer = await connection.ask(
            "/v1/keys", method="POST", headers=kind, body=json.dumps({"email": email}).encode()
        )
        made = json.loads(answer.body)
        self._key = str(made["key"])
        vouch = {"email": email, "keep": [made["key_id"]]}
        await asyncio.to_thread(office.perform, sources.load({}, None, {}), self._data, "verify", vouch)
        form = f"Content-Type: application/x-www-form-urlencoded\r\nOrigin: http://127.0.0.1:{self.port}\r\n"
        body = urlencode({"key": self._key}).encode()
        answer = await connection.ask("/dashboard/sign-in", method="POST", headers=form, body=body)
        self._cookie = answer.headers["set-cookie"].partition(";")[0]
        page = await connection.ask("/dashboard/account", headers=f"Cookie: {self._cookie}\r\n")
        self._csrf = page.body.decode().partition('<meta name="csrf" content="')[2].partition('"')[0]
        connection.close()

    async def requests(self, count: int, clients: int = 8) -> None:
        """Send so many requests."""
        self._left = count
        await asyncio.gather(*(self._client() for _ in range(clients)))

    async def _client(self) -> None:
        connection = load.Connection(self.port)
        while self._left > 0:
            self._left -= 1
            if self._dice.random() < 0.05:
                connection.close()
            (act,) = self._dice.choices([act for _, act in self._mix], [weight for weight, _ in self._mix])
            await act(connection)
        connection.close()

    async def _ask(
        self, connection: load.Connection, path: str, wanted: tuple[int, ...], **options: str | bytes
    ) -> load.Answer:
        answer = await connection.ask(path, **options)  # type: ignore[arg-type]
        self.statuses[answer.status] += 1
        if answer.status not in wanted:
            self.failed.append(f"{path}: {answer.status} {answer.body[:200]!r}")
        return answer

    def _owner(self) -> str:
        return f"Authorization: Bearer {self._key}\r\n"

    async def _upload(self, connection: load.Connection) -> None:
        name, body = picture(self._dice, self._sizes)
        headers, parts = load.multipart(name, body)
        if self._dice.random() < 0.8:
            headers += self._owner()
        answer = await self._ask(connection, "/v1/upload", (201,), method="POST", headers=headers, body=parts)
        if answer.status == 201:
            found = json.loads(answer.body)
            paths = {name: str(found[name]).partition(str(self.port))[2] for name in ("src", "delete_url")}
            self._kept.append({"id": str(found["id"]), "owned": "yes" if self._key in headers else "", **paths})
        if len(self._kept) > POPULATION:
            await self._delete(connection)

    async def _view(self, connection: load.Connection) -> None:
        if self._kept:
            size = self._dice.choice(("s", "s", "m", "l", "o"))
            kind = self._dice.choices(("webp", "jpeg", "png", "avif"), (6, 5, 2, 1))[0]
            found = self._dice.choice(self._kept)
            await self._ask(connection, f"/t/{found['id']}.{kind}?size={size}", (200, 404))

    async def _original(self, connection: load.Connection) -> None:
        if self._kept:
            headers = self._dice.choice(("", "", "Range: bytes=0-99\r\n"))
            await self._ask(connection, self._dice.choice(self._kept)["src"], (200, 206, 404), headers=headers)

    async def _list(self, connection: load.Connection) -> None:
        path = self._dice.choice(
            ("/v1/media?limit=50", "/v1/media?sort=size", "/v1/tags", "/v1/usage", "/v1/namespaces")
        )
        await self._ask(connection, path, (200, 422), headers=self._owner())

    async def _search(self, connection: load.Connection) -> None:
        await self._ask(connection, f"/v1/media?q=n{self._dice.randrange(50)}", (200,), headers=self._owner())

    async def _page(self, connection: load.Connection) -> None:
        paths = ["/", "/api", "/llms.txt", "/dashboard", "/healthz", "/readyz"]
        if self._kept:
            paths.append(f"/{self._dice.choice(self._kept)['id']}")
        await self._ask(connection, self._dice.choice(paths), (200, 404), headers=f"Cookie: {self._cookie}\r\n")

    async def _wrong(self, connection: load.Connection) -> None:
        path = self._dice.choice(("/t/nothing12.webp", "/nothing", "/v1/media", "/v1/nothing", "/v1/upload"))
        headers, parts = load.multipart("broken.png", self._dice.randbytes(2000))
        upload: dict[str, str | bytes] = {"method": "POST", "headers": headers, "body": parts}
        await self._ask(connection, path, (401, 404, 405, 415, 422), **(upload if path == "/v1/upload" else {}))

    async def _change(self, connection: load.Connection) -> None:
        owned = [found for found in self._kept if found["owned"]]
        if owned:
            body = json.dumps({"name": f"n{self._dice.randrange(50)}", "tags": f"t{self._dice.randrange(9)}"}).encode()
            headers = self._owner() + "Content-Type: application/json\r\n"
            path = f"/v1/media/{self._dice.choice(owned)['id']}"
            await self._ask(connection, path, (200, 404), method="PATCH", headers=headers, body=body)

    async def _delete(self, connection: load.Connection) -> None:
        if len(self._kept) > POPULATION // 2:
            found = self._kept.pop(self._dice.randrange(len(self._kept)))
            await self._ask(connection, found["delete_url"], (200, 404), method="POST")

    async def _events(self, connection: load.Connection) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET /v1/events HTTP/1.1\r\nHost: soak\r\n{self._owner()}\r\n".encode())
        line = await reader.readuntil(b"\r\n\r\n")
        self.statuses[int(line.split()[1])] += 1
        await asyncio.sleep(self._dice.random() / 5)
        writer.close()

    async def _zip(self, connection: load.Connection) -> None:
        owned = [found["id"] for found in self._kept if found["owned"]]
        if owned:
            fields = {"csrf": self._csrf, "ids": ",".join(owned[-10:])}
            headers = (
                f"Content-Type: application/x-www-form-urlencoded\r\nCookie: {self._cookie}\r\n"
                f"Origin: http://127.0.0.1:{self.port}\r\n"
            )
            body = urlencode(fields).encode()
            await self._ask(connection, "/dashboard/zip", (200, 503), method="POST", headers=headers, body=body)


async def burst(port: int, clients: int = 16, first: int = 0) -> None:
    """Have so many pictures of 24 megapixels taken, each by a client of its own, and each made small once more.

    Pictures numbered from `first`: those that the server has already are no work for it.
    """
    small = Image.frombytes("RGB", (60, 40), random.Random(5).randbytes(7200))
    large = small.resize((6000, 4000))

    async def one(number: int) -> None:
        large.putpixel((number, 0), (number, 1, 2))
        out = io.BytesIO()
        large.save(out, "JPEG", quality=90)
        connection = load.Connection(port)
        headers, parts = load.multipart("large.jpg", out.getvalue())
        answer = await connection.ask("/v1/upload", method="POST", headers=headers, body=parts)
        path = f"/t/{json.loads(answer.body)['id']}.webp?size=o"
        made = await connection.ask(path)
        connection.close()
        if (answer.status, made.status) != (201, 200):
            raise RuntimeError(f"a large picture: {answer.status}, then {made.status}")

    await asyncio.gather(*(one(number) for number in range(first, first + clients)))


def mb(size: int) -> str:
    return f"{size / MIB:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--step", type=int, default=1_000, help="requests between two looks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imgpro-soak-") as temporary:
        server = servers.Imgpro(Path(temporary), Path(temporary) / "work")
        server.settings = SETTINGS
        server.start()
        try:
            run(server, options.requests, options.step)
        finally:
            server.stop()


def run(server: servers.Imgpro, count: int, step: int) -> None:
    """Measure and print."""
    port, pid, begun = server.port, server.pid, time.monotonic()
    looks = [held(pid)]
    soak = Soak(port, server.work / "data")
    asyncio.run(soak.begin())
    for done in range(step, count + 1, step):
        asyncio.run(soak.requests(step))
        looks.append(held(pid, done))
    print("| requests | server, resident MB | server, its share MB | with workers MB |\n| --- | --- | --- | --- |")
    for look in looks:
        print(f"| {look.requests:,} | {mb(look.server_rss)} | {mb(look.server_pss)} | {mb(look.tree_pss)} |")
    print(f"\n{time.monotonic() - begun:.0f} s; answers: {dict(sorted(soak.statuses.items()))}")
    for failure in soak.failed[:10]:
        print(f"not as expected: {failure}")
    with cost.Watch(pid) as watch:
        asyncio.run(burst(port))
    after = held(pid)
    print(f"\nburst of 16 x 24 MP: {mb(looks[-1].tree_pss)} MB before, {mb(watch.peak_bytes)} at its peak, "
          f"{mb(after.tree_pss)} after {REST_S} s without work")  # fmt: skip


if __name__ == "__main__":
    main()
