"""Frozen values that cross layers. No behaviour beyond what follows from the fields themselves."""

from typing import Literal

import msgspec

from imgpro.recipes import Recipe

StoredFormat = Literal["jpeg", "png", "gif", "webp", "avif", "heic", "svg", "bmp", "ico"]


class Limits(msgspec.Struct, frozen=True):
    """What a picture may cost. Enforced inside the worker before and while it decodes."""

    max_pixels: int = 50_000_000
    max_side_px: int = 20_000
    max_frames: int = 1_000
    max_frame_pixels: int = 500_000_000  # summed over all frames of an animation
    max_jpeg_scans: int = 100
    max_scan_pixels: int = 2_000_000_000  # scans x pixels of a progressive JPEG
    max_png_chunks: int = 1_000  # besides IDAT and fdAT
    max_comment_bytes: int = 65_536
    max_svg_bytes: int = 10 * 1024 * 1024
    svg: bool = True
    heic: bool = True


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What the container says before any pixel is decoded. Sizes in pixels, as stored (orientation not applied)."""

    format: StoredFormat
    width: int
    height: int
    frames: int = 1
    has_alpha: bool = False
    orientation: int = 1  # EXIF values 1-8
    has_icc: bool = False

    @property
    def displayed(self) -> tuple[int, int]:
        """Width and height as a viewer shows them."""
        if self.orientation >= 5:
            return self.height, self.width
        return self.width, self.height


class Warm(msgspec.Struct, frozen=True, kw_only=True):
    """One derivative that an ingest job left in its output file, at `offset`, `length` bytes long."""

    recipe: Recipe
    offset: int
    length: int


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's report on an uploaded picture that proved whole."""

    format: StoredFormat
    width: int  # displayed, pixels
    height: int
    frames: int
    has_alpha: bool
    orientation: int
    placeholder: str  # data URI
    phash: int | None  # 64-bit difference hash, signed for SQLite; None for SVG
    removed: tuple[str, ...]  # kinds of private data taken out: "gps", "exif", "xmp", "iptc", "comment", ...
    cleaned_bytes: int | None  # length of the cleaned file; None: the upload was clean as it came
    warm: tuple[Warm, ...] = ()


class RenderJob(msgspec.Struct, frozen=True, kw_only=True):
    """All a worker needs, besides two open files, to make one derivative."""

    format: StoredFormat  # of the original
    recipe: Recipe


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """A finished derivative: its bytes are in the job's output file."""

    length: int
    width: int
    height: int


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of stored bytes, whoever uploaded them. `digest` is lower-case hex BLAKE3."""

    digest: str
    format: StoredFormat
    stored_bytes: int
    width: int  # displayed, pixels
    height: int
    frames: int
    has_alpha: bool
    placeholder: str
    phash: int | None


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One upload: a row, its blob's facts beside it. Times are Unix milliseconds."""

    id: str
    blob: Blob
    name: str
    description: str
    public: bool
    created_ms: int
    expires_ms: int | None
    display_date: str | None  # ISO date or timestamp, as given
    origin: Literal["upload", "import"]
    metadata_removed: tuple[str, ...]

    def expired(self, now_ms: float) -> bool:
        """Tell whether the picture has ended at `now_ms`."""
        return self.expires_ms is not None and now_ms >= self.expires_ms


class Caller(msgspec.Struct, frozen=True):
    """Who asks. `network` is the IPv4 address or the IPv6 /64 that limits are counted by."""

    network: str


class UploadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The validated fields of an upload or import."""

    name: str | None = None
    description: str = ""
    public: bool = True
    ttl_s: int | None = None
    display_date: str | None = None
