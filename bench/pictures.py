"""The pictures that are measured: real photographs, in copies that differ in bytes and cost the same."""

import socket
from pathlib import Path

from PIL import Image

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "photos"
SOURCES = {"12mp": "photo-12mp-gps.jpg", "24mp": "photo-24mp.jpg", "shot": "screenshot-1440p.png"}
SHORT_EDGE_PX = {"s": 320, "m": 640, "l": 1080}
COPIES = 8


def variant(data: bytes, number: int) -> bytes:
    """Return a JPEG that differs from `data` and from other numbers in two quantisation steps of high frequencies.

    A comment would be taken out as private and leave identical pictures; this changes the picture, hardly seen.
    """
    table = data.index(b"\xff\xdb") + 5  # marker, length, table number
    changed = bytearray(data)
    changed[table + 63] = 1 + (data[table + 63] + number % 100) % 255
    changed[table + 62] = 1 + (data[table + 62] + number // 100) % 255
    return bytes(changed)


def _copy_png(source: Path, number: int, target: Path) -> None:
    with Image.open(source, formats=("PNG",)) as image:
        image.load()
        image.putpixel((number, 0), (number, 0, 0) if image.mode == "RGB" else (number, 0, 0, 255))
        image.save(target, compress_level=6)


def lay_out(folder: Path) -> dict[str, list[str]]:
    """Fill `folder` with copies of each source; return their names by source."""
    names: dict[str, list[str]] = {}
    for key, source in SOURCES.items():
        suffix = Path(source).suffix
        names[key] = [f"{key}-{number}{suffix}" for number in range(COPIES)]
        for number, name in enumerate(names[key]):
            if suffix == ".jpg":
                (folder / name).write_bytes(variant((PHOTOS / source).read_bytes(), number))
            else:
                _copy_png(PHOTOS / source, number, folder / name)
    return names


def width_px(key: str, size: str) -> int:
    """Return the width that gives the short edge of `size`."""
    with Image.open(PHOTOS / SOURCES[key]) as image:
        width, height = image.size
    return width * SHORT_EDGE_PX[size] // min(width, height)


def present() -> bool:
    return all((PHOTOS / name).is_file() for name in SOURCES.values())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
