"""What JSON requests may hold, as structs.

Requests are checked by hand, so that one answer names every mistake; these say the same, for the document.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta
from msgspec import UnsetType as Unset

from imgpro.web.contract_words import Ability, ImageId, Shape

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


class _Said(Shape, frozen=True, kw_only=True):
    """What may be said about a picture that is brought in. Null is as good as absent."""

    name: Annotated[NameOrNone | Unset | None, Meta(description="File name; absent: as it came.")] = UNSET
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


class ImportRequest(_Said, frozen=True, kw_only=True):
    """The address of a picture and what is to be said about it. Null is as good as absent."""

    url: Annotated[
        str,
        Meta(max_length=2_048, pattern="^[Hh][Tt][Tt][Pp][Ss]?://", description="http or https, on a public server."),
    ]


class UploadRequest(_Said, frozen=True, kw_only=True):
    """A picture as text and what is to be said about it. Null is as good as absent."""

    file: Annotated[
        str,
        Meta(
            min_length=1,
            description="The picture in base64, with or without the beginning of a data URI. Any other name will do.",
            extra_json_schema={"format": "byte"},
        ),
    ]


class PicGoDeletable(Shape, frozen=True, kw_only=True):
    """What `/upload` answered about one picture, as far as it is needed."""

    id: ImageId
    delete: str


class PicGoDeletion(Shape, frozen=True, kw_only=True, rename={"pictures": "list"}):
    """Pictures to delete."""

    pictures: Annotated[list[PicGoDeletable], Meta(min_length=1, max_length=100)]


class ChangeRequest(Shape, frozen=True, kw_only=True):
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


class KeyRequest(Shape, frozen=True, kw_only=True):
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


class VerifyRequest(Shape, frozen=True, kw_only=True):
    """Whose address is to be verified."""

    email: Annotated[
        Email | Unset | None, Meta(description="Needed, except with a key: then it is that account's or absent.")
    ] = UNSET


REQUESTS: Final[tuple[type[msgspec.Struct], ...]] = (
    UploadRequest,
    ImportRequest,
    ChangeRequest,
    KeyRequest,
    VerifyRequest,
    PicGoDeletion,
)
