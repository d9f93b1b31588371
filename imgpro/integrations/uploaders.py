"""Configurations of programs that can send to a server of one's own: ShareX, PicGo, PicList, uPic, Obsidian."""

import json
import zlib
from typing import Any, Final
from urllib.parse import urlsplit

from imgpro.integrations.target import Piece, Target

_JSON: Final = "application/json; charset=utf-8"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def sharex(target: Target) -> tuple[Piece, ...]:
    """Return a custom uploader for ShareX, whose values are templates where its syntax appears in them."""
    config = {
        "Version": "17.0.0",
        "Name": f"{target.title} ({target.host})",
        "DestinationType": "ImageUploader, FileUploader",
        "RequestMethod": "POST",
        "RequestURL": _sharex_text(f"{target.base}/v1/upload"),
        "Headers": {"Authorization": _sharex_text(target.bearer)},
        "Body": "MultipartFormData",
        "Arguments": {"tags": "sharex"},
        "FileFormName": "file",
        "URL": "{json:src}",
        "ThumbnailURL": "{json:thumb}",
        "DeletionURL": "{json:delete_url}",
        "ErrorMessage": "{json:message}",
    }
    return (Piece(label="The uploader", name=f"{target.file_stem}.sxcu", content=_pretty(config), content_type=_JSON),)


def _sharex_text(text: str) -> str:
    return "".join("\\" + char if char in "{}|\\" else char for char in text)


def picgo(target: Target) -> tuple[Piece, ...]:
    """Return the settings of PicGo's plugin web-uploader, two of which are JSON within text."""
    settings = {
        "url": f"{target.base}/v1/upload",
        "paramName": "file",
        "jsonPath": "src",
        "customHeader": json.dumps({"Authorization": target.bearer}),
        "customBody": json.dumps({"tags": "picgo"}),
    }
    config = {
        "picBed": {"current": "web-uploader", "uploader": "web-uploader", "web-uploader": settings},
        "picgoPlugins": {"picgo-plugin-web-uploader": True},
    }
    whole = Piece(
        part="Or as a file",
        label="For PicGo's command line",
        name="picgo-config.json",
        content=_pretty(config),
        content_type=_JSON,
    )
    return *_values(settings), whole


def piclist(target: Target) -> tuple[Piece, ...]:
    """Return PicList's settings for its custom uploader, and for its own protocol."""
    parts = urlsplit(target.base)
    custom = {
        "endpoint": f"{target.base}/v1/upload",
        "method": "POST",
        "formDataKey": "file",
        "headers": json.dumps({"Authorization": target.bearer}),
        "body": json.dumps({"tags": "piclist"}),
        "customPrefix": "",
        "webPath": "",
        "resDataPath": "src",
    }
    # It puts the port behind the host; in front of a path that is wrong, and without a port it adds none to a name.
    name = parts.netloc + parts.path if parts.path else parts.netloc.removesuffix(f":{parts.port}")
    own = {
        "host": f"https://{name}" if parts.scheme == "https" else name,
        "port": "" if parts.path else str(parts.port or _DEFAULT_PORTS[parts.scheme]),
        "picbed": "",
        "configName": "Default",
        "serverKey": target.key,
    }
    config = {
        "picBed": {"current": "advancedplist", "uploader": "advancedplist", "advancedplist": custom, "piclist": own}
    }
    whole = Piece(
        part="Or as a file",
        label="Both, for PicList's command line",
        name="piclist-config.json",
        content=_pretty(config),
        content_type=_JSON,
    )
    own_values = {"Host": own["host"], "Port": own["port"], "Key": own["serverKey"]}
    return *_values(custom, "Custom uploader (advanced)"), *_values(own_values, "PicList's own uploader"), whole


def upic(target: Target) -> tuple[Piece, ...]:
    """Return a file that uPic imports: an array of texts, each a JSON object that holds JSON as text again.

    The header with the type of the body is needed: without it some versions send base64 in JSON, which works too.
    """
    settings = {
        "url": f"{target.base}/v1/upload",
        "method": "POST",
        "field": "file",
        "bodys": json.dumps([{"key": "tags", "value": "upic"}]),
        "headers": json.dumps(
            [
                {"key": "Content-Type", "value": "multipart/form-data"},
                {"key": "Authorization", "value": target.bearer},
            ]
        ),
        "resultPath": json.dumps(["src"]),
        "domain": "",
        "saveKeyPath": "{filename}{.suffix}",
        "suffix": "",
        "useBase64": False,
    }
    # A host whose number is known already is not imported again.
    number = str(zlib.crc32(target.key.encode()))
    host = {"id": number, "name": target.title, "type": "custom", "data": json.dumps(settings)}
    content = json.dumps([json.dumps(host)], indent=2) + "\n"
    return (Piece(label="The host", name=f"{target.file_stem}-upic.json", content=content, content_type=_JSON),)


def obsidian(target: Target) -> tuple[Piece, ...]:
    """Return the addresses for Obsidian's plugin Image auto upload, which cannot send headers."""
    return (
        Piece(label="PicGo server", content=f"{target.base}/upload?key={target.key}&tags=obsidian"),
        Piece(label="PicGo delete server", content=f"{target.base}/delete?key={target.key}"),
        Piece(
            part="On a computer with imgpro, after imgpro login",
            label="Path of PicGo-Core, with PicGo-Core as uploader",
            content="imgpro",
        ),
    )


def _values(settings: dict[str, str], part: str = "") -> list[Piece]:
    filled = [(name, value) for name, value in settings.items() if value]
    return [Piece(label=name, content=value, part=part if not at else "") for at, (name, value) in enumerate(filled)]


def _pretty(config: dict[str, Any]) -> str:
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"
