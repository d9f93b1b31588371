"""The shapes of `/v1`: what requests may hold and what answers hold, as structs.

Answers are made of these; `components.schemas` of the OpenAPI document is generated from them and compared by a test.
Times are integer Unix seconds, sizes bytes or pixels.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

ImageId = Annotated[str, Meta(pattern="^[0-9A-Za-z]{12}$", description="12 letters and digits.")]
Format = Literal["jpeg", "png", "gif", "webp", "avif", "heic", "svg", "bmp", "ico"]


class _Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all shapes."""


class Size(_Shape, frozen=True, kw_only=True):
    """One size of a picture."""

    src: str
    width: int
    height: int


class Sizes(_Shape, frozen=True, kw_only=True):
    """The three sizes: 320, 640 and 1080 pixels on the short edge, never enlarged."""

    s: Size
    m: Size
    l: Size  # noqa: E741 - the API's name


class Image(_Shape, frozen=True, kw_only=True):
    """A picture as anyone sees it who may see it."""

    id: ImageId
    name: str
    url: Annotated[str, Meta(description="The page of the picture.")]
    src: Annotated[str, Meta(description="The picture itself.")]
    width: Annotated[int, Meta(description="As displayed.")]
    height: int
    filesize: int
    format: Annotated[Format, Meta(description="Format of the stored bytes.")]
    public: bool
    created_at: int
    tags: list[str]
    namespace: str | None
    description: str
    date: Annotated[str | None, Meta(description="Display date, as it was given.")]
    sizes: Sizes
    placeholder: Annotated[str | None, Meta(description="A tiny preview as a data URI.")]
    thumb: str
    expires_at: int | msgspec.UnsetType = msgspec.UNSET
    signed_src: Annotated[
        str | msgspec.UnsetType, Meta(description="Private pictures, to their owner: a link that works without a key.")
    ] = msgspec.UNSET


class Upgrade(_Shape, frozen=True, kw_only=True):
    """The way from anonymous uploads to a key."""

    type: Literal["register"]
    url: str
    message: str
    label: str


class Created(Image, frozen=True, kw_only=True):
    """The answer to an upload or import."""

    metadata_removed: list[str]
    delete_url: Annotated[str, Meta(description="Signed: a page for people, DELETE for programs.")]
    markdown: str
    html: str
    bbcode: str
    upgrade: Upgrade | msgspec.UnsetType = msgspec.UNSET


class Pagination(_Shape, frozen=True, kw_only=True):
    """The same two facts as beside `data`."""

    next_cursor: str | None
    has_more: bool


class ImageList(_Shape, frozen=True, kw_only=True):
    """One page of pictures, newest first."""

    success: bool
    data: list[Image]
    next_cursor: str | None
    has_more: bool
    pagination: Pagination


class Failure(_Shape, frozen=True, kw_only=True):
    """One picture of a batch that was left as it was."""

    id: str
    error: str
    message: str


class BatchUpdated(_Shape, frozen=True, kw_only=True):
    """What became of a change of many pictures. `success` tells whether all went well."""

    success: bool
    updated: Annotated[int, Meta(description="How many were changed.")]
    ids: Annotated[list[str], Meta(description="Those that were.")]
    failed: list[Failure]


class BatchDeleted(_Shape, frozen=True, kw_only=True):
    """What became of a deletion of many pictures. `success` tells whether all went well."""

    success: bool
    deleted: Annotated[int, Meta(description="How many were deleted.")]
    ids: Annotated[list[str], Meta(description="Those that were.")]
    failed: list[Failure]


class Success(_Shape, frozen=True, kw_only=True):
    """It is done."""

    success: bool


class Total(_Shape, frozen=True, kw_only=True):
    """A namespace or tag and what carries it."""

    name: str
    count: int
    bytes: int


class TotalList(_Shape, frozen=True, kw_only=True):
    """All namespaces or tags, by name."""

    success: bool
    data: list[Total]


class KeyLimits(_Shape, frozen=True, kw_only=True):
    """What an account may do: uploads a month, storage in MiB, days kept. Null: without a limit."""

    uploads: int | None
    storage_mb: int | None
    retention_days: int | None


class KeyCreated(_Shape, frozen=True, kw_only=True):
    """A fresh key; `key` is shown this once."""

    key: str
    key_id: str
    name: str
    abilities: list[str]
    namespace: str | None
    status: Literal["active", "pending"]
    verified: bool
    limits: KeyLimits
    message: str


class Key(_Shape, frozen=True, kw_only=True):
    """A key without its secret."""

    key_id: str
    name: str
    abilities: list[str]
    namespace: str | None
    status: Literal["active", "pending"]
    created_at: int
    last_used_at: int | None


class KeyList(_Shape, frozen=True, kw_only=True):
    """The keys of an account."""

    success: bool
    data: list[Key]


class Count(_Shape, frozen=True, kw_only=True):
    """How many of how many; null: without a limit."""

    used: int
    limit: int | None


class UsageReport(_Shape, frozen=True, kw_only=True):
    """How much of its plan an account has used. A month is a calendar month in UTC."""

    plan: str
    verified: bool
    uploads: Count
    storage: Annotated[Count, Meta(description="In bytes.")]
    keys: Count
    retention_days: int | None
    resets_at: int


class Accepted(_Shape, frozen=True, kw_only=True):
    """It is on its way."""

    success: bool
    message: str


ActionType = Literal["upgrade", "verify", "wait", "redirect", "fix"]


class ActionShape(_Shape, frozen=True, kw_only=True, rename={"kind": "type"}):
    """What to do about an error."""

    kind: ActionType
    url: str | msgspec.UnsetType = msgspec.UNSET
    label: str | msgspec.UnsetType = msgspec.UNSET
    seconds: int | msgspec.UnsetType = msgspec.UNSET


class UsageShape(_Shape, frozen=True, kw_only=True):
    """What is used up, with errors about a plan."""

    plan: str
    uploads_used: int
    uploads_limit: int | None
    storage_used_bytes: int
    storage_limit_bytes: int | None


class Error(_Shape, frozen=True, kw_only=True):
    """The one shape of all errors."""

    error: str
    message: str
    action: ActionShape
    usage: UsageShape | msgspec.UnsetType = msgspec.UNSET
    details: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


ANSWERS: Final[tuple[type[msgspec.Struct], ...]] = (
    Created,
    Image,
    ImageList,
    BatchUpdated,
    BatchDeleted,
    Success,
    TotalList,
    KeyCreated,
    KeyList,
    UsageReport,
    Accepted,
    Error,
)


def schemas() -> dict[str, Any]:
    """Return `components.schemas` of the OpenAPI document."""
    _, components = msgspec.json.schema_components(ANSWERS, ref_template="#/components/schemas/{name}")
    return components
