"""Clients that upload, look and delete all at once, and remember exactly what the server acknowledged."""

import http.client
import io
import random
import threading
import time
from collections import Counter
from typing import Any

import msgspec
from PIL import Image

from tests.servers import Server


class Kept(msgspec.Struct):
    """One acknowledged upload: what was sent and where the answer said it is."""

    id: str
    path: str
    delete_path: str
    body: bytes

    @property
    def webp(self) -> str:
        """The path of a derivative."""
        return self.path.rpartition(".")[0] + ".webp"


def small_png(dice: random.Random, side: int = 48) -> bytes:
    """Return a clean PNG that is like no other: stored as it is sent."""
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), dice.randbytes(side * side * 3)).save(out, "PNG", compress_level=0)
    return out.getvalue()


class Load:
    """A number of threads against one server, until `stop`. What a cut connection left open is counted as unknown."""

    def __init__(self, server: Server, clients: int = 4, *, seed: int = 1, deletes: float = 0.3) -> None:
        self._server = server
        self._deletes = deletes
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.kept: dict[str, Kept] = {}
        self.deleted: dict[str, Kept] = {}
        self.unsure: dict[str, Kept] = {}  # asked to be deleted, no answer
        self.owned: list[str] = []  # ids that belong to the account, deleted or not
        self._key: str | None = None
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self._turns = [0] * clients  # requests that each has begun
        self._threads = [
            threading.Thread(target=self._run, args=(number, random.Random(seed * 100 + number)))
            for number in range(clients)
        ]

    def start(self) -> "Load":
        self._key = self._new_key()
        for thread in self._threads:
            thread.start()
        return self

    def _new_key(self) -> str | None:
        """Return the key of an account that half of the uploads belong to; None if the server takes none now."""
        try:
            answer = self._server.api("POST", "/v1/keys", {"email": f"load{random.random():.9f}@example.org"})
        except (OSError, http.client.HTTPException, AttributeError):
            return None
        key: str | None = answer.json()["key"] if answer.status == 201 else None
        return key

    def stop(self) -> "Load":
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"
        return self

    def wait_until_dead(self, timeout_s: float = 30.0) -> int:
        """Go on until the server has ended; return its exit code."""
        assert self._server.process is not None
        code = self._server.process.wait(timeout_s)
        self.stop()
        return code

    def wait_for(self, uploads: int, timeout_s: float = 30.0) -> None:
        """Go on until so many uploads have been acknowledged."""
        deadline = time.monotonic() + timeout_s
        while len(self.kept) + len(self.deleted) < uploads:
            assert time.monotonic() < deadline, f"only {len(self.kept)} uploads, {self.statuses}\n{self._server.log()}"
            time.sleep(0.01)

    def wait_for_everyone(self, timeout_s: float = 60.0) -> None:
        """Go on until every client has an answer to what it had asked by now."""
        deadline = time.monotonic() + timeout_s
        before = list(self._turns)
        while not all(now > then for now, then in zip(self._turns, before, strict=True)):
            assert time.monotonic() < deadline, f"a client hangs, {self.statuses}\n{self._server.log()}"
            time.sleep(0.002)

    def merge(self, other: "Load") -> None:
        """Take over what an earlier run is owed; a picture it was unsure of stays so."""
        self.kept = {**other.kept, **self.kept}
        self.deleted = {**other.deleted, **self.deleted}

    def _run(self, number: int, dice: random.Random) -> None:
        twin = small_png(random.Random(7))  # all clients share some of their pictures
        while not self._stop.is_set():
            self._turns[number] += 1
            try:
                if self.kept and dice.random() < self._deletes:
                    self._delete(dice)
                elif self.kept and dice.random() < 0.4:
                    self._look(dice)
                elif self.owned and dice.random() < 0.2:
                    self._change(dice)
                else:
                    self._upload(twin if dice.random() < 0.2 else small_png(dice), dice)
            except (OSError, http.client.HTTPException, AttributeError):  # the last: http.client's way of saying cut
                if self._server.process is None or self._server.process.poll() is not None:
                    return
                time.sleep(0.005)

    def _upload(self, body: bytes, dice: random.Random) -> None:
        key = self._key if dice.random() < 0.5 else None
        fields = {"tags": dice.choice(["sea", "sea,früh", ""]), "namespace": dice.choice(["trip", "work"])}
        answer = self._server.upload(body, "x.png", key=key, **(fields if key else {}))
        self.statuses[answer.status] += 1
        if answer.status == 201:
            found: dict[str, Any] = answer.json()
            base = self._server.base
            kept = Kept(found["id"], found["src"].removeprefix(base), found["delete_url"].removeprefix(base), body)
            with self._lock:
                self.kept[kept.id] = kept
                if key:
                    self.owned.append(kept.id)

    def _change(self, dice: random.Random) -> None:
        """Change what is said about a picture; whether it is still there does not matter."""
        body = {
            "tags": dice.choice(["late", "sea,late", ""]),
            "namespace": dice.choice(["trip", "other", ""]),
            "name": "y",
        }
        answer = self._server.api("PATCH", f"/v1/media/{dice.choice(self.owned)}", body, key=self._key)
        self.statuses[answer.status] += 1

    def _look(self, dice: random.Random) -> None:
        with self._lock:
            kept = self.kept.get(dice.choice(list(self.kept) or [""]))
        if kept is None:
            return
        path = dice.choice([kept.path, kept.webp, kept.webp + "?size=s"])
        answer = self._server.get(path)
        self.statuses[answer.status] += 1
        if answer.status == 200 and path == kept.path and answer.body != kept.body:
            self.wrong.append(f"{kept.id}: other bytes")
        if answer.status == 404 and kept.id in self.kept:
            self.wrong.append(f"{kept.id}: gone before anyone asked")

    def _delete(self, dice: random.Random) -> None:
        with self._lock:
            kept = self.kept.pop(dice.choice(list(self.kept) or [""]), None)
            if kept is None:
                return
            self.unsure[kept.id] = kept
        try:
            answer = self._server.request("POST", kept.delete_path)
        except ConnectionRefusedError:
            with self._lock:  # nobody has heard it
                self.kept[kept.id] = self.unsure.pop(kept.id)
            raise
        self.statuses[answer.status] += 1
        with self._lock:
            if answer.status == 200:
                self.deleted[kept.id] = self.unsure.pop(kept.id)
        if answer.status == 200 and self._server.get(kept.path).status == 200:
            self.wrong.append(f"{kept.id}: served after its deletion")
