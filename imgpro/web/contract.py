"""The shapes of the API: what its answers hold, as structs; what requests may hold is in `contract_requests`.

Answers are made of these; `components.schemas` of the OpenAPI document is generated from them and compared by a test.
Times are integer Unix seconds, sizes bytes or pixels.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta
from msgspec import UnsetType as Unset

from imgpro.web.contract_requests import REQUESTS
from imgpro.web.contract_words import Ability, Amount, ImageId, KeyId, Link, Moment, Positive, Shape

Format = Literal["jpeg", "png", "gif", "webp", "avif", "heic", "svg", "bmp", "ico"]
ErrorCode = Literal[
    "bad_request", "unauthorized", "forbidden", "quota_exceeded", "key_limit_reached", "registration_closed",
    "not_found", "method_not_allowed", "request_timeout", "idempotency_key_conflict", "idempotency_key_in_progress",
    "file_too_large", "unsupported_format", "range_not_satisfiable", "validation_error", "image_broken",
    "image_too_large", "image_damaged", "rate_limited", "server_error", "fetch_failed", "busy", "storage_full",
]  # fmt: skip


class Size(Shape, frozen=True, kw_only=True):
    """One size of a picture."""

    src: Link
    width: Positive
    height: Positive


class Sizes(Shape, frozen=True, kw_only=True):
    """The three sizes: 320, 640 and 1080 pixels on the short edge, never enlarged."""

    s: Size
    m: Size
    l: Size  # noqa: E741 - the API's name


class Image(Shape, frozen=True, kw_only=True):
    """A picture as anyone sees it who may see it."""

    id: ImageId
    name: Annotated[str, Meta(description="The file name, without path parts and control characters.")]
    url: Annotated[Link, Meta(description="The page of the picture.")]
    src: Annotated[Link, Meta(description="The picture itself, in a format that browsers show.")]
    width: Annotated[Positive, Meta(description="In pixels as displayed, that is with the orientation applied.")]
    height: Positive
    filesize: Annotated[Amount, Meta(description="Bytes as stored.")]
    format: Annotated[Format, Meta(description="Format of the stored bytes.")]
    public: Annotated[bool, Meta(description="Whether anyone with the link sees it.")]
    created_at: Moment
    tags: Annotated[list[str], Meta(description="In lower case, each once.")]
    namespace: Annotated[str | None, Meta(description="The collection it is in, if any.")]
    description: str
    date: Annotated[str | None, Meta(description="Display date, as it was given.")]
    sizes: Sizes
    placeholder: Annotated[str | None, Meta(description="A tiny preview as a data URI.")]
    thumb: Annotated[Link, Meta(description="The same as `sizes.s.src`, for clients that read flat fields only.")]
    frames: Annotated[Annotated[int, Meta(ge=2)] | Unset, Meta(description="Of an animation; else absent.")] = UNSET
    expires_at: Annotated[int | Unset, Meta(description="Unix seconds; absent for a picture that is kept.")] = UNSET
    signed_src: Annotated[
        Link | Unset, Meta(description="Private pictures, to their owner: a link that works without a key.")
    ] = UNSET


class Upgrade(Shape, frozen=True, kw_only=True):
    """The way from anonymous uploads to a key."""

    type: Literal["register"]
    url: Link
    message: str
    label: str


class Created(Image, frozen=True, kw_only=True):
    """The answer to an upload or import."""

    metadata_removed: Annotated[
        list[str], Meta(description="Kinds of private data that were taken out of the file, e.g. gps, exif, xmp.")
    ]
    delete_url: Annotated[Link, Meta(description="Signed: a page for people, DELETE for programs.")]
    markdown: Annotated[str, Meta(description="Ready to paste.")]
    html: Annotated[str, Meta(description="Ready to paste.")]
    bbcode: Annotated[str, Meta(description="Ready to paste.")]
    upgrade: Annotated[Upgrade | Unset, Meta(description="Only without a key.")] = UNSET


class Pagination(Shape, frozen=True, kw_only=True):
    """The same two facts as beside `data`."""

    next_cursor: Annotated[str | None, Meta(description="Send it as `cursor` to get the next page.")]
    has_more: bool


class ImageList(Shape, frozen=True, kw_only=True):
    """One page of pictures, newest first."""

    success: bool
    data: list[Image]
    next_cursor: Annotated[str | None, Meta(description="Send it as `cursor` to get the next page.")]
    has_more: bool
    pagination: Pagination


class Failure(Shape, frozen=True, kw_only=True):
    """One picture of a batch that was left as it was."""

    id: ImageId
    error: Annotated[str, Meta(description="A code, as in `Error`.")]
    message: str


class BatchUpdated(Shape, frozen=True, kw_only=True):
    """What became of a change of many pictures. `success` tells whether all went well."""

    success: bool
    updated: Annotated[Amount, Meta(description="How many were changed.")]
    ids: Annotated[list[ImageId], Meta(description="Those that were.")]
    failed: list[Failure]


class BatchDeleted(Shape, frozen=True, kw_only=True):
    """What became of a deletion of many pictures. `success` tells whether all went well."""

    success: bool
    deleted: Annotated[Amount, Meta(description="How many were deleted.")]
    ids: Annotated[list[ImageId], Meta(description="Those that were.")]
    failed: list[Failure]


class Success(Shape, frozen=True, kw_only=True):
    """It is done."""

    success: bool


class Total(Shape, frozen=True, kw_only=True):
    """A namespace or tag and what carries it."""

    name: str
    count: Annotated[Amount, Meta(description="Pictures.")]
    bytes: Annotated[Amount, Meta(description="Their bytes as stored.")]


class TotalList(Shape, frozen=True, kw_only=True):
    """All namespaces or tags, by name."""

    success: bool
    data: list[Total]


Abilities = Annotated[list[Ability], Meta(description="`write` includes `upload`.")]
KeyStatus = Annotated[
    Literal["active", "pending"],
    Meta(description="`pending`: of no use until the owner of the address has opened the mailed link."),
]


class KeyLimits(Shape, frozen=True, kw_only=True):
    """What an account may do: uploads a month, storage in MiB, days kept. Null: without a limit."""

    uploads: Amount | None
    storage_mb: Amount | None
    retention_days: Amount | None


class KeyCreated(Shape, frozen=True, kw_only=True):
    """A fresh key; `key` is shown this once."""

    key: Annotated[str, Meta(pattern="^img_live_[0-9A-Za-z]{32}$", description="The secret. Only its hash is stored.")]
    key_id: KeyId
    name: str
    abilities: Abilities
    namespace: Annotated[str | None, Meta(description="Where pictures go that name no namespace themselves.")]
    status: KeyStatus
    verified: Annotated[bool, Meta(description="Whether the owner of the address has opened the mailed link.")]
    limits: KeyLimits
    message: Annotated[str, Meta(description="What to do next, for people.")]


class Key(Shape, frozen=True, kw_only=True):
    """A key without its secret."""

    key_id: KeyId
    name: str
    abilities: Abilities
    namespace: str | None
    status: KeyStatus
    created_at: Moment
    last_used_at: Moment | None


class KeyList(Shape, frozen=True, kw_only=True):
    """The keys of an account."""

    success: bool
    data: list[Key]


class Count(Shape, frozen=True, kw_only=True):
    """How many of how many; null: without a limit."""

    used: Amount
    limit: Amount | None


class UsageReport(Shape, frozen=True, kw_only=True):
    """How much of its plan an account has used. A month is a calendar month in UTC."""

    plan: str
    verified: bool
    uploads: Annotated[Count, Meta(description="This month. Deleting gives none back.")]
    storage: Annotated[Count, Meta(description="In bytes. Deleting gives them back.")]
    keys: Count
    retention_days: Annotated[Amount | None, Meta(description="How long pictures are kept; null: for good.")]
    resets_at: Annotated[Moment, Meta(description="When the next month begins, in Unix seconds.")]


class Accepted(Shape, frozen=True, kw_only=True):
    """It is on its way."""

    success: bool
    message: str


class PicGoPicture(Shape, frozen=True, kw_only=True, rename={"image_url": "imgUrl"}):
    """One picture that was uploaded by PicGo's protocol; send it back to delete the picture."""

    image_url: Link
    id: ImageId
    delete: Annotated[str, Meta(description="Proves the uploader of this picture.")]


class PicGoUploaded(Shape, frozen=True, kw_only=True, rename={"details": "fullResult"}):
    """All files are stored; the lists have their order."""

    success: bool
    result: list[Link]
    details: list[PicGoPicture]


class PicGoFailed(Shape, frozen=True, kw_only=True):
    """Nothing was done, with status 200 as this protocol has it."""

    success: bool
    message: Annotated[str, Meta(description="What happened and what to do about it, for people.")]


class PicGoAlive(Shape, frozen=True, kw_only=True):
    """The server is there."""

    success: bool
    result: Literal["alive"]


ActionType = Literal["upgrade", "verify", "wait", "redirect", "fix"]


class ActionShape(Shape, frozen=True, kw_only=True, rename={"kind": "type"}):
    """What to do about an error."""

    kind: Annotated[
        ActionType,
        Meta(
            description="`fix`: change the request as `label` says. `wait`: send it again after `seconds`. `verify`, "
            "`upgrade`, `redirect`: a person has to open `url`."
        ),
    ]
    url: str | Unset = UNSET
    label: Annotated[str | Unset, Meta(description="For a button or a log line.")] = UNSET
    seconds: Annotated[Positive | Unset, Meta(description="The same as Retry-After.")] = UNSET


class UsageShape(Shape, frozen=True, kw_only=True):
    """What is used up, with errors about a plan."""

    plan: str
    uploads_used: Amount
    uploads_limit: Amount | None
    storage_used_bytes: Amount
    storage_limit_bytes: Amount | None


class Error(Shape, frozen=True, kw_only=True):
    """The one shape of all errors."""

    error: Annotated[ErrorCode, Meta(description="For programs.")]
    message: Annotated[str, Meta(description="One sentence for people.")]
    action: ActionShape
    usage: UsageShape | Unset = UNSET
    details: Annotated[
        dict[str, str] | Unset,
        Meta(description="With `validation_error`: the fields that are wrong, a sentence for each."),
    ] = UNSET


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
    PicGoUploaded,
    PicGoFailed,
    PicGoAlive,
    Error,
)


def schemas() -> dict[str, Any]:
    """Return `components.schemas` of the OpenAPI document."""
    _, components = msgspec.json.schema_components((*ANSWERS, *REQUESTS), ref_template="#/components/schemas/{name}")
    return components
