"""The shapes of `/v1`: what requests may hold and what answers hold, as structs.

Answers are made of these; `components.schemas` of the OpenAPI document is generated from them and compared by a test.
Times are integer Unix seconds, sizes bytes or pixels.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta
from msgspec import UnsetType as Unset

ImageId = Annotated[str, Meta(pattern="^[0-9A-Za-z]{12}$", description="12 letters and digits.")]
KeyId = Annotated[str, Meta(pattern="^key_[0-9A-Za-z]{6,32}$", description="Names the key in the API; not the secret.")]
Format = Literal["jpeg", "png", "gif", "webp", "avif", "heic", "svg", "bmp", "ico"]
ErrorCode = Literal[
    "bad_request", "unauthorized", "forbidden", "quota_exceeded", "key_limit_reached", "registration_closed",
    "not_found", "method_not_allowed", "request_timeout", "idempotency_key_conflict", "idempotency_key_in_progress",
    "file_too_large", "unsupported_format", "range_not_satisfiable", "validation_error", "image_broken",
    "image_too_large", "rate_limited", "server_error", "fetch_failed", "busy", "storage_full",
]  # fmt: skip
Link = Annotated[str, Meta(extra_json_schema={"format": "uri"})]
Positive = Annotated[int, Meta(ge=1)]
Amount = Annotated[int, Meta(ge=0)]
Moment = Annotated[int, Meta(ge=0, description="Unix seconds.")]


class _Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all shapes."""


class Size(_Shape, frozen=True, kw_only=True):
    """One size of a picture."""

    src: Link
    width: Positive
    height: Positive


class Sizes(_Shape, frozen=True, kw_only=True):
    """The three sizes: 320, 640 and 1080 pixels on the short edge, never enlarged."""

    s: Size
    m: Size
    l: Size  # noqa: E741 - the API's name


class Image(_Shape, frozen=True, kw_only=True):
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
    expires_at: Annotated[int | Unset, Meta(description="Unix seconds; absent for a picture that is kept.")] = UNSET
    signed_src: Annotated[
        Link | Unset, Meta(description="Private pictures, to their owner: a link that works without a key.")
    ] = UNSET


class Upgrade(_Shape, frozen=True, kw_only=True):
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


class Pagination(_Shape, frozen=True, kw_only=True):
    """The same two facts as beside `data`."""

    next_cursor: Annotated[str | None, Meta(description="Send it as `cursor` to get the next page.")]
    has_more: bool


class ImageList(_Shape, frozen=True, kw_only=True):
    """One page of pictures, newest first."""

    success: bool
    data: list[Image]
    next_cursor: Annotated[str | None, Meta(description="Send it as `cursor` to get the next page.")]
    has_more: bool
    pagination: Pagination


class Failure(_Shape, frozen=True, kw_only=True):
    """One picture of a batch that was left as it was."""

    id: ImageId
    error: Annotated[str, Meta(description="A code, as in `Error`.")]
    message: str


class BatchUpdated(_Shape, frozen=True, kw_only=True):
    """What became of a change of many pictures. `success` tells whether all went well."""

    success: bool
    updated: Annotated[Amount, Meta(description="How many were changed.")]
    ids: Annotated[list[ImageId], Meta(description="Those that were.")]
    failed: list[Failure]


class BatchDeleted(_Shape, frozen=True, kw_only=True):
    """What became of a deletion of many pictures. `success` tells whether all went well."""

    success: bool
    deleted: Annotated[Amount, Meta(description="How many were deleted.")]
    ids: Annotated[list[ImageId], Meta(description="Those that were.")]
    failed: list[Failure]


class Success(_Shape, frozen=True, kw_only=True):
    """It is done."""

    success: bool


class Total(_Shape, frozen=True, kw_only=True):
    """A namespace or tag and what carries it."""

    name: str
    count: Annotated[Amount, Meta(description="Pictures.")]
    bytes: Annotated[Amount, Meta(description="Their bytes as stored.")]


class TotalList(_Shape, frozen=True, kw_only=True):
    """All namespaces or tags, by name."""

    success: bool
    data: list[Total]


Ability = Literal["read", "write", "upload"]
Abilities = Annotated[list[Ability], Meta(description="`write` includes `upload`.")]
KeyStatus = Annotated[
    Literal["active", "pending"],
    Meta(description="`pending`: of no use until the owner of the address has opened the mailed link."),
]


class KeyLimits(_Shape, frozen=True, kw_only=True):
    """What an account may do: uploads a month, storage in MiB, days kept. Null: without a limit."""

    uploads: Amount | None
    storage_mb: Amount | None
    retention_days: Amount | None


class KeyCreated(_Shape, frozen=True, kw_only=True):
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


class Key(_Shape, frozen=True, kw_only=True):
    """A key without its secret."""

    key_id: KeyId
    name: str
    abilities: Abilities
    namespace: str | None
    status: KeyStatus
    created_at: Moment
    last_used_at: Moment | None


class KeyList(_Shape, frozen=True, kw_only=True):
    """The keys of an account."""

    success: bool
    data: list[Key]


class Count(_Shape, frozen=True, kw_only=True):
    """How many of how many; null: without a limit."""

    used: Amount
    limit: Amount | None


class UsageReport(_Shape, frozen=True, kw_only=True):
    """How much of its plan an account has used. A month is a calendar month in UTC."""

    plan: str
    verified: bool
    uploads: Annotated[Count, Meta(description="This month. Deleting gives none back.")]
    storage: Annotated[Count, Meta(description="In bytes. Deleting gives them back.")]
    keys: Count
    retention_days: Annotated[Amount | None, Meta(description="How long pictures are kept; null: for good.")]
    resets_at: Annotated[Moment, Meta(description="When the next month begins, in Unix seconds.")]


class Accepted(_Shape, frozen=True, kw_only=True):
    """It is on its way."""

    success: bool
    message: str


ActionType = Literal["upgrade", "verify", "wait", "redirect", "fix"]


class ActionShape(_Shape, frozen=True, kw_only=True, rename={"kind": "type"}):
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


class UsageShape(_Shape, frozen=True, kw_only=True):
    """What is used up, with errors about a plan."""

    plan: str
    uploads_used: Amount
    uploads_limit: Amount | None
    storage_used_bytes: Amount
    storage_limit_bytes: Amount | None


class Error(_Shape, frozen=True, kw_only=True):
    """The one shape of all errors."""

    error: Annotated[ErrorCode, Meta(description="For programs.")]
    message: Annotated[str, Meta(description="One sentence for people.")]
    action: ActionShape
    usage: UsageShape | Unset = UNSET
    details: Annotated[
        dict[str, str] | Unset,
        Meta(description="With `validation_error`: the fields that are wrong, a sentence for each."),
    ] = UNSET


# What JSON requests may hold. They are checked by hand, so that one answer names every mistake; these say the same.

Name = Annotated[str, Meta(min_length=1, max_length=255)]
NameOrNone = Annotated[str, Meta(max_length=255)]
Description = Annotated[str, Meta(max_length=2_000)]
Namespace = Annotated[str, Meta(pattern="^([a-z0-9][a-z0-9-]{0,62}[a-z0-9])?$")]
_DATE: Final = (
    "[0-9]{4}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9](:[0-5][0-9]([.][0-9]{1,6})?)?"
    "(Z|[+-][0-2][0-9]:?[0-5][0-9])?)?"
)
_DATES: Final = ["2026-05-31", "2026-05-31T18:30:00Z"]
_SPANS: Final = ["7d", "12h", "30m"]
Date = Annotated[str, Meta(pattern=f"^{_DATE}$", examples=_DATES)]
DateOrNone = Annotated[str, Meta(pattern=f"^({_DATE})?$", examples=_DATES)]
TagList = list[Annotated[str, Meta(max_length=50)]]
Seconds = Annotated[int, Meta(ge=300, le=7_776_000)]
Span = Annotated[str, Meta(pattern="^[0-9]{1,12}[mhd]?$", examples=_SPANS)]
SpanOrNone = Annotated[str, Meta(pattern="^([0-9]{1,12}[mhd]?)?$", examples=_SPANS)]
Switch = bool | Literal["true", "false", "1", "0", 1, 0]
# Not a pattern: msgspec 0.22 frees the pattern of a text that stands beside a list twice.
AbilityText = Literal["read,write", "read", "write", "upload", "read,upload"]
Email = Annotated[str, Meta(max_length=254, extra_json_schema={"format": "email"})]


class ImportRequest(_Shape, frozen=True, kw_only=True):
    """The address of a picture and what is to be said about it. Null is as good as absent."""

    url: Annotated[
        str,
        Meta(max_length=2_048, pattern="^[Hh][Tt][Tt][Pp][Ss]?://", description="http or https, on a public server."),
    ]
    name: Annotated[NameOrNone | Unset | None, Meta(description="File name; absent: from the address.")] = UNSET
    description: Annotated[Description | Unset | None, Meta(description="Free text.")] = UNSET
    public: Annotated[Switch | Unset | None, Meta(description="Absent: true.")] = UNSET
    ttl: Annotated[
        Seconds | Span | Unset | None,
        Meta(description="5 minutes to 90 days, in seconds or such as 30m, 12h, 7d; absent: as the plan keeps it."),
    ] = UNSET
    date: Annotated[Date | Unset | None, Meta(description="Display date: a day or a timestamp, ISO 8601.")] = UNSET
    tags: Annotated[
        TagList | str | Unset | None,
        Meta(description="A list or comma list, 10 different ones at most; ignored without a key."),
    ] = UNSET
    namespace: Annotated[Namespace | Unset | None, Meta(description="Made by use; ignored without a key.")] = UNSET


class ChangeRequest(_Shape, frozen=True, kw_only=True):
    """What is to change of a picture: at least one field. What is absent stays."""

    name: Annotated[Name | Unset, Meta(description="File name.")] = UNSET
    description: Annotated[Description | Unset | None, Meta(description="Empty or null clears it.")] = UNSET
    tags: Annotated[TagList | str | Unset, Meta(description="A list or comma list, 10 different ones at most.")] = UNSET
    tag_mode: Annotated[
        Literal["replace", "add", "remove"] | Unset, Meta(description="What is done with `tags`; absent: replace.")
    ] = UNSET
    public: Switch | Unset = UNSET
    namespace: Annotated[Namespace | Unset | None, Meta(description="Empty or null: in none.")] = UNSET
    date: Annotated[DateOrNone | Unset | None, Meta(description="Empty or null clears it.")] = UNSET
    ttl: Annotated[
        Seconds | SpanOrNone | Unset | None,
        Meta(description="From now on, as at upload. Empty or null: as long as the plan keeps it."),
    ] = UNSET


class KeyRequest(_Shape, frozen=True, kw_only=True):
    """Whose key, and what it may do."""

    email: Annotated[
        Email | Unset | None, Meta(description="Needed, except with a key: then it is that account's or absent.")
    ] = UNSET
    name: Annotated[Annotated[str, Meta(max_length=100)] | Unset, Meta(description="Absent: Default.")] = UNSET
    abilities: Annotated[
        Annotated[list[Ability], Meta(min_length=1)] | AbilityText | Unset,
        Meta(description="`write` includes `upload`. Absent: read and write."),
    ] = UNSET
    namespace: Annotated[
        Namespace | Unset | None, Meta(description="Where pictures go that name no namespace themselves.")
    ] = UNSET
    invitation: Annotated[
        Annotated[str, Meta(max_length=1_000)] | Unset | None, Meta(description="Where accounts are by invitation.")
    ] = UNSET


class VerifyRequest(_Shape, frozen=True, kw_only=True):
    """Whose address is to be verified."""

    email: Annotated[
        Email | Unset | None, Meta(description="Needed, except with a key: then it is that account's or absent.")
    ] = UNSET


REQUESTS: Final[tuple[type[msgspec.Struct], ...]] = (ImportRequest, ChangeRequest, KeyRequest, VerifyRequest)
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
    _, components = msgspec.json.schema_components((*ANSWERS, *REQUESTS), ref_template="#/components/schemas/{name}")
    return components
