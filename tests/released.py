"""Data directories as released versions of imgpro left them, and what must still hold of them."""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.servers import Server, bearer

FOLDER = Path(__file__).resolve().parent / "data" / "released"
SCHEMAS = sorted(int(path.stem.removeprefix("schema-")) for path in FOLDER.glob("schema-*.json"))


def unpacked(schema: int, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Unpack the data directory of a schema; return where it is and what was stored in it."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(FOLDER / f"schema-{schema}.tar.gz") as tar:
        tar.extractall(folder, filter="tar")
    return folder / "data", json.loads((FOLDER / f"schema-{schema}.json").read_text("utf-8"))


def hashes(folder: Path) -> dict[str, str]:
    """Return a digest of every file below a folder, and the names of the folders."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
        if not path.is_socket()
    }


def check_all(server: Server, stored: dict[str, Any]) -> None:
    """Hold a server of today against what an old one stored."""
    for picture in stored["pictures"]:
        key = bearer(picture["key"])
        answer = server.request("GET", picture["src"], headers=key)
        assert answer.status == 200, picture
        assert hashlib.sha256(answer.body).hexdigest() == picture["sha256"], picture
        assert server.request("GET", picture["page"], headers=key).status == 200, picture
        path, _, signature = picture["src"].partition("?")
        small = server.request("GET", f"{path.rpartition('.')[0]}.webp?size=s&{signature}", headers=key)
        assert (small.status, small.headers["Content-Type"]) == (200, "image/webp"), picture
    for path in stored["hidden"]:
        assert server.get(path).status == 404, path
    for account in stored["accounts"]:
        listed = server.api("GET", "/v1/media", key=account["key"]).json()["data"]
        assert {row["id"] for row in listed} == set(account["ids"])
        assert sorted(tag for row in listed for tag in row["tags"]) == ["café", "holiday"]
        assert server.api("GET", "/v1/usage", key=account["key"]).json()["uploads"]["used"] == len(account["ids"])
    if stored["accounts"]:
        rows = {row["email"]: row for row in server.operate("list")["accounts"]}
        for account in stored["accounts"]:
            assert rows[account["email"]]["verified"] is account["verified"]
            links = [urlsplit(link) for link in rows[account["email"]]["links"]]
            assert bool(links) is not account["verified"], "who did not press the link yet still can"
            for link in links:
                page = server.get(f"{link.path}?{link.query}")
                assert (page.status, account["email"].encode() in page.body) == (200, True)
    for session in stored["sessions"]:
        page = server.get("/dashboard/account", Cookie=session["cookie"])
        assert page.status == 200
        assert session["email"].encode() in page.body
