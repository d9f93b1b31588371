"""The closed set of sizes and formats a picture can be asked for, and the canonical key of each.

A recipe is all that a derivative depends on besides the original. Its key names the file in the cache and is
part of the ETag, so it carries the version of the pipeline: a change that alters pixels must raise
`PIPELINE_VERSION`. Knows nothing of Pillow, files or HTTP.
"""

from typing import Final, Literal

import msgspec

PIPELINE_VERSION: Final = 1

Size = Literal["o", "s", "m", "l"]
OutputFormat = Literal["jpeg", "png", "webp", "avif", "gif"]

SHORT_EDGE_PX: Final[dict[str, int]] = {"s": 320, "m": 640, "l": 1080}
SIZES: Final[tuple[Size, ...]] = ("s", "m", "l")
EXTENSIONS: Final[dict[str, OutputFormat]] = {
    "jpeg": "jpeg",
    "jpg": "jpeg",
    "png": "png",
    "webp": "webp",
    "avif": "avif",
    "gif": "gif",
}
ANIMATED_OUTPUT: Final = frozenset({"gif", "webp"})

# The longest side each output format can carry (from the formats' own header fields; AVIF: libavif's limit).
MAX_SIDE_PX: Final[dict[OutputFormat, int]] = {
    "jpeg": 65_500,
    "png": 2_147_483_647,
    "webp": 16_383,
    "avif": 65_535,
    "gif": 65_535,
}

# What `src` ends in for each stored format. HEIC, BMP and ICO are not shown by every browser, so their `src`
# is a format that is.
SRC_EXTENSION: Final[dict[str, str]] = {
    "jpeg": "jpeg",
    "png": "png",
    "gif": "gif",
    "webp": "webp",
    "avif": "avif",
    "heic": "jpeg",
    "bmp": "png",
    "ico": "png",
    "svg": "svg",
}

CONTENT_TYPE: Final[dict[str, str]] = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "heic": "image/heic",
    "bmp": "image/bmp",
    "ico": "image/x-icon",
    "svg": "image/svg+xml",
}


class Recipe(msgspec.Struct, frozen=True, eq=True):
    """One way to show a picture: output format and size. Hashable; `key` is canonical."""

    format: OutputFormat
    size: Size

    @property
    def key(self) -> str:
        """File-name-safe name of the recipe, e.g. `m-1.webp` for size m by pipeline 1."""
        return f"{self.size}-{PIPELINE_VERSION}.{self.format}"


def parse(extension: str, size: str | None) -> Recipe | None:
    """Return the recipe of a link, or None for an extension that is not offered.

    An unknown or absent size means the original size.
    """
    fmt = EXTENSIONS.get(extension)
    if fmt is None:
        return None
    return ALL[fmt, size if size in SHORT_EDGE_PX else "o"]


def target_size(width: int, height: int, size: str) -> tuple[int, int]:
    """Return the displayed size in pixels: `size` fixes the short edge, the long one is floored, nothing grows."""
    edge = SHORT_EDGE_PX.get(size)
    if edge is None or min(width, height) <= edge:
        return width, height
    if width <= height:
        return edge, height * edge // width
    return width * edge // height, edge


def resolve(recipe: Recipe, stored_format: str, width: int, height: int) -> Recipe | None:
    """Return the recipe to render for a picture of this displayed size, or None for "serve the stored bytes".

    A size that would not shrink the picture is the original size: one derivative serves both.
    """
    shrinks = target_size(width, height, recipe.size) != (width, height)
    if shrinks:
        return recipe
    if recipe.format == stored_format:
        return None
    return ALL[recipe.format, "o"]


ALL: Final[dict[tuple[str, str | None], Recipe]] = {
    (fmt, size): Recipe(fmt, size) for fmt in ("jpeg", "png", "webp", "avif", "gif") for size in ("o", "s", "m", "l")
}
