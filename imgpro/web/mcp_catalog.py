"""The MCP tools: what `tools/list` shows to a model.

Nothing here depends on who asks or where this server stands.
"""

import functools
from typing import Final, get_args

from imgpro.flows.browse import MAX_LIMIT, MAX_TEXT_CHARS
from imgpro.flows.fetch import MAX_URL_CHARS
from imgpro.flows.options import MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, MAX_TAG_CHARS
from imgpro.model import StoredFormat
from imgpro.recipes import EXTENSIONS, SHORT_EDGE_PX, SIZES
from imgpro.store.queries import MAX_TAGS
from imgpro.web import contract
from imgpro.web.mcp_schema import HIDDEN_IN_LISTS, Deleted, PictureLink, PictureList, Schema, Tool, UploadTicket

DEFAULT_LIMIT: Final = 20
MAX_DATA_BYTES: Final = 1024 * 1024  # of a file inside a call
MAX_DATA_CHARS: Final = MAX_DATA_BYTES // 3 * 4 + 200  # in base64, after a `data:` prefix


def _text(description: str, **limits: object) -> Schema:
    return {"type": "string", "description": description, **limits}


_ID: Final = _text("The picture's id: 12 letters and digits.", pattern="^[0-9A-Za-z]{12}$")
_PUBLIC: Final = {
    "type": "boolean",
    "description": "true (as when absent): whoever has the link sees it. false: only this account, or a signed link.",
}
_TTL: Final = _text(
    "Delete the picture by itself after this long: 5 minutes to 90 days, in seconds or with a unit, such as 3600, "
    "30m, 12h or 7d. Absent: kept as long as the plan keeps it.",
    pattern="^[0-9]{1,12}[mhd]?$",
)
_DAY: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.Z+-]+)?"
_DATE: Final = _text(
    "Date shown with the picture, such as 2026-05-31 or 2026-05-31T18:30:00Z.", pattern=f"^{_DAY}$", maxLength=40
)
_NAMESPACE: Final = _text(
    "Collection to put it in, made by use: 2 to 64 of a-z, 0-9 and hyphens.",
    pattern="^[a-z0-9][a-z0-9-]{0,62}[a-z0-9]$",
)


def _tags(description: str) -> Schema:
    item = {"type": "string", "maxLength": MAX_TAG_CHARS}
    return {"type": "array", "items": item, "maxItems": MAX_TAGS, "description": description}


_OPTIONS: Final[Schema] = {
    "name": _text("File name to show, with its extension.", maxLength=MAX_NAME_CHARS),
    "description": _text("What is in the picture; it can be searched.", maxLength=MAX_DESCRIPTION_CHARS),
    "tags": _tags("Labels to find it by; stored in lower case."),
    "namespace": _NAMESPACE,
    "public": _PUBLIC,
    "ttl": _TTL,
    "date": _DATE,
}
_FORMATS: Final = ", ".join(name for name in EXTENSIONS if name != "jpg")
_EDGES: Final = ", ".join(f"{size} = {SHORT_EDGE_PX[size]}" for size in SIZES)
_BY_LINK: Final = "Sizes and formats are not made by uploading again but by another link: see image_url."

TOOLS: Final[tuple[Tool, ...]] = (
    Tool(
        name="import_image",
        title="Import a picture from the web",
        description=(
            "Store a copy of a picture that is already on the web, by its address. The server fetches it itself, so "
            "the address must be public and must lead to the picture file, not to a page around it. For a file on "
            f"disk use create_upload. Answers with the links of the stored picture. {_BY_LINK}"
        ),
        ability="upload",
        arguments={
            "url": _text("http or https address of the picture file.", pattern="^https?://", maxLength=MAX_URL_CHARS),
            **_OPTIONS,
        },
        required=("url",),
        result=contract.Created,
        open_world=True,
    ),
    Tool(
        name="create_upload",
        title="Make a one-use upload address",
        description=(
            "The way to upload a file from disk, of any allowed size: makes an address that takes one file, once, "
            "within 15 minutes and without a key, and a ready curl line for it. Replace PATH in the line by the path "
            "of the file and run it in a shell; it prints the links of the stored picture as JSON. What is said here "
            f"about the picture (name, tags, ...) holds for that file. {_BY_LINK}"
        ),
        ability="upload",
        arguments=_OPTIONS,
        result=UploadTicket,
    ),
    Tool(
        name="upload_image",
        title="Upload a small picture",
        description=(
            "Store a small picture whose bytes are at hand as base64, at most 1 MiB as a file. Only where no shell "
            "can be used: base64 in a call is slow and costs context; create_upload is the better way for files. "
            f"{_BY_LINK}"
        ),
        ability="upload",
        arguments={
            "data": _text(
                "The file in base64, with or without a data: prefix; at most 1 MiB (1,048,576 bytes) when decoded.",
                minLength=1,
                maxLength=MAX_DATA_CHARS,
            ),
            **_OPTIONS,
        },
        required=("data",),
        result=contract.Created,
    ),
    Tool(
        name="list_images",
        title="List or search pictures",
        description=(
            "List this account's pictures, newest first; all filters that are given must hold. For the next page call "
            "again with the same filters and the next_cursor of the answer as cursor, until has_more is false. "
            "get_image shows one of them, with a preview."
        ),
        ability="read",
        arguments={
            "q": _text("Words to find in name, description and tags; beginnings of words.", maxLength=MAX_TEXT_CHARS),
            "tags": _tags("Only pictures with these tags."),
            "tag_mode": _text("any (as when absent): one of the tags is enough. all: every tag.", enum=["any", "all"]),
            "namespace": {**_NAMESPACE, "description": "Only this collection."},
            "type": _text("Only this stored format.", enum=sorted(get_args(StoredFormat))),
            "since": {"type": "integer", "minimum": 0, "description": "Uploaded at or after, in Unix seconds."},
            "until": {"type": "integer", "minimum": 0, "description": "Uploaded before, in Unix seconds."},
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_LIMIT,
                "description": f"Pictures on a page; {DEFAULT_LIMIT} when absent.",
            },
            "cursor": _text("next_cursor of the page before.", maxLength=200),
        },
        result=PictureList,
        hidden=HIDDEN_IN_LISTS,
        reads_only=True,
    ),
    Tool(
        name="get_image",
        title="Look at a picture",
        description=(
            "Show one picture by its id: its links, size, tags and so on, and a small preview as an image to look at. "
            "Public pictures of others can be shown too, without a key. Use preview: false where the picture itself "
            "does not matter."
        ),
        ability=None,
        arguments={
            "id": _ID,
            "preview": {"type": "boolean", "description": "Add a small preview; true when absent. None for SVG."},
        },
        required=("id",),
        result=contract.Image,
        reads_only=True,
    ),
    Tool(
        name="image_url",
        title="Make a link to a picture",
        description=(
            "Return the link that shows a picture in a size and format, with the width and height it will have. This "
            "is how to resize and convert: nothing is stored, the link does it. Sizes set the short edge in pixels "
            f"({_EDGES}), keep the proportions and never enlarge; o is the original size. Formats: {_FORMATS}; gif and "
            "webp keep an animation. SVG is always served as it is. A private picture of this account gets a signed "
            "link that works for a week for whoever has it."
        ),
        ability=None,
        arguments={
            "id": _ID,
            "format": _text("Absent: the picture's own, if browsers show it.", enum=list(EXTENSIONS)),
            "size": _text("o (original) when absent.", enum=["s", "m", "l", "o"]),
        },
        required=("id",),
        result=PictureLink,
        reads_only=True,
    ),
    Tool(
        name="update_image",
        title="Change a picture's details",
        description=(
            "Change what is said about a picture of this account: only what is given changes. The pixels cannot be "
            "changed: upload a new picture for that, or use image_url for another size or format."
        ),
        ability="write",
        arguments={
            "id": _ID,
            "name": _text("New file name.", minLength=1, maxLength=MAX_NAME_CHARS),
            "description": _text("New description; empty clears it.", maxLength=MAX_DESCRIPTION_CHARS),
            "tags": _tags("Tags; tag_mode says what is done with them."),
            "tag_mode": _text(
                "replace (as when absent): the tags become these. add, remove: the others stay.",
                enum=["replace", "add", "remove"],
            ),
            "public": _PUBLIC,
            "namespace": _text(
                "Collection to move it to; empty takes it out.", pattern="^([a-z0-9][a-z0-9-]{0,62}[a-z0-9])?$"
            ),
            "date": _text("Date shown with the picture; empty clears it.", pattern=f"^({_DAY})?$", maxLength=40),
            "ttl": _text(
                "Delete the picture by itself this long from now, such as 3600, 30m, 12h or 7d (5 minutes to 90 "
                "days); empty: keep it as long as the plan does.",
                pattern="^([0-9]{1,12}[mhd]?)?$",
            ),
        },
        required=("id",),
        result=contract.Image,
        destructive=True,
        idempotent=True,
    ),
    Tool(
        name="delete_image",
        title="Delete a picture",
        description=(
            "Delete a picture of this account for good. Every link to it stops working at once and nothing brings it "
            "back: ask the person first unless they asked for it."
        ),
        ability="write",
        arguments={"id": _ID},
        required=("id",),
        result=Deleted,
        destructive=True,
        idempotent=True,
    ),
    Tool(
        name="usage",
        title="See what the plan has left",
        description=(
            "Say how much of the account's plan is used: uploads this month, storage in bytes, keys, how long pictures "
            "are kept, and when the month's uploads start anew."
        ),
        ability="read",
        arguments={},
        result=contract.UsageReport,
        reads_only=True,
    ),
)
BY_NAME: Final = {tool.name: tool for tool in TOOLS}

INSTRUCTIONS: Final = (
    "An image host. Upload a file from disk with create_upload and run the curl line it returns; copy a picture from "
    "the web with import_image; upload_image is for small pictures without a shell. Every picture has an id; links in "
    "other sizes and formats come from image_url and need no new upload. list_images searches, get_image shows one. "
    "Tools that store or change something need an API key, sent as `Authorization: Bearer KEY` with each request. "
    "When a call fails, its `action` says what to do: fix the call as `label` says, wait `seconds`, or have a person "
    "open `url`."
)


@functools.cache
def listed_tools() -> tuple[Schema, ...]:
    """Return all tools as `tools/list` shows them, always in the same order."""
    return tuple(tool.listed() for tool in TOOLS)
