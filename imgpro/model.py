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
    wanted_end_ms: int | None = None  # the end its uploader asked for; `expires_ms` may come earlier
    account: int | None = None  # its owner, as `Account.seq`; None: uploaded without an account
    key: int | None = None  # the key that brought it, as `Key.seq`
    namespace: str | None = None
    tags: tuple[str, ...] = ()

    def expired(self, now_ms: float) -> bool:
        """Tell whether the picture has ended at `now_ms`."""
        return self.expires_ms is not None and now_ms >= self.expires_ms


LeadsTo = Literal["page", "o", "s", "m", "l"]  # the viewer page, or the picture: as it is, or in a smaller size


class OldLink(msgspec.Struct, frozen=True):
    """An address that a picture had elsewhere: path, and query where it mattered, as its host wrote it."""

    path: str
    leads_to: LeadsTo = "o"


Ability = Literal["read", "write", "upload"]
Role = Literal["member", "operator"]
PlanName = Literal["free", "pro", "scale", "max"]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One mail address and what belongs to it. Times are Unix milliseconds."""

    seq: int
    id: str
    email: str
    role: Role
    plan: PlanName
    plan_changes: int
    created_ms: int
    verified_ms: int | None
    blocked_ms: int | None
    images: int = 0  # as of when the row was read
    stored_bytes: int = 0
    leaving_ms: int | None = None  # since when it is being deleted; nothing of it works then

    @property
    def verified(self) -> bool:
        """Tell whether the owner of the address has shown that it is theirs."""
        return self.verified_ms is not None


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One API key, without its secret."""

    seq: int
    id: str
    account: int
    name: str
    abilities: tuple[Ability, ...]
    namespace: str | None
    network: str
    created_ms: int
    confirmed_ms: int | None
    last_used_ms: int | None


class Principal(msgspec.Struct, frozen=True):
    """Who is asking: an account, through one of its keys or (key None) through a browser's session."""

    account: Account
    key: Key | None

    @property
    def own_key_only(self) -> int | None:
        """Return the key whose pictures alone may be seen and changed; None: all of the account's.

        Anybody can ask for a key under anybody's address. Until the owner of the address has confirmed a key, it
        reaches what it brought itself and nothing else.
        """
        if self.key is None or self.key.confirmed_ms is not None:
            return None
        return self.key.seq

    def owns(self, image: Image) -> bool:
        """Tell whether a picture is this principal's to see and change."""
        only = self.own_key_only
        return image.account == self.account.seq and (only is None or image.key == only)

    def may(self, ability: Ability) -> bool:
        """Tell whether the key carries an ability; `write` includes `upload`."""
        if self.key is None:
            return True
        return ability in self.key.abilities or (ability == "upload" and "write" in self.key.abilities)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a plan an account has used. None as a limit: without one. Sizes in bytes."""

    plan: str
    uploads_used: int
    uploads_limit: int | None
    storage_used_bytes: int
    storage_limit_bytes: int | None


class Caller(msgspec.Struct, frozen=True):
    """Who asks. `network` is the IPv4 address or the IPv6 /64 that limits are counted by."""

    network: str
    principal: Principal | None = None
    by_ticket: bool = (
        False  # through a one-use ticket: whoever holds it is not its maker, and learns nothing of the account
    )


class UploadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The validated fields of an upload or import."""

    name: str | None = None
    description: str = ""
    public: bool = True
    ttl_s: int | None = None
    display_date: str | None = None
    tags: tuple[str, ...] = ()
    namespace: str | None = None


class MailLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One mail to be sent: `link` is what it is for, `expires_ms` when it has no use any more."""

    account: int | None
    recipient: str
    subject: str
    body_text: str
    body_html: str
    link: str
    created_ms: int
    expires_ms: int


class WaitingMail(msgspec.Struct, frozen=True, kw_only=True):
    """A mail in the queue and how sending it went so far."""

    seq: int
    letter: MailLetter
    attempts: int
    last_error: str | None
    next_ms: int
