"""Which server the commands talk to, and with which key: the file that `imgpro login` writes, and what overrides it."""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import platformdirs

from imgpro.cli.remote import Server, check_key, parse_server
from imgpro.errors import Action, ConfigError

SERVER_VARIABLE: Final = "IMGPRO_SERVER"
KEY_VARIABLE: Final = "IMGPRO_KEY"
_MODE: Final = 0o600  # a key is in it


def login_file() -> Path:
    """Return where the server and its key are kept."""
    return Path(platformdirs.user_config_dir("imgpro", appauthor=False)) / "client.toml"


def save(server: Server) -> Path:
    """Keep a server as the one that is meant from now on. Raises StorageFault."""
    from imgpro.cli import disk  # only this command writes
    from imgpro.store import durable

    path = login_file()
    lines = ["# Written by `imgpro login`.", f"server = {_quoted(server.base)}"]
    lines += [f"key = {_quoted(server.key)}"] if server.key else []
    try:
        durable.make_directories(path.parent)
        durable.write_file(path, ("\n".join(lines) + "\n").encode(), _MODE)
    except OSError as error:
        raise disk.fault(error, f"writing {path}") from error
    return path


def forget() -> bool:
    """Delete the file; False if there was none. Raises StorageFault."""
    from imgpro.cli import disk
    from imgpro.store import durable

    path = login_file()
    try:
        path.unlink()
        durable.fsync_directory(path.parent)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise disk.fault(error, f"deleting {path}") from error
    return True


def chosen(option: str | None, environ: Mapping[str, str] | None = None) -> Server:
    """Return the server to talk to: the option, else `IMGPRO_SERVER`, else the one that was logged in to.

    The key of a login goes to the server of that login and to no other. Raises ConfigError.
    """
    env = os.environ if environ is None else environ
    named = option or env.get(SERVER_VARIABLE)
    key = check_key(env[KEY_VARIABLE]) if env.get(KEY_VARIABLE) else None
    if named:
        base = parse_server(named)[0]
        if key is None:
            held = _saved()
            key = held.key if held is not None and held.base == base else None
        return Server(base, key)
    held = _saved()
    if held is None:
        label = "imgpro login http://img.lan:8080 (your server's address), or --server URL"
        raise ConfigError("It is not known which server to send to.", Action("fix", label=label))
    return Server(held.base, key or held.key)


def _saved() -> Server | None:
    path = login_file()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        key = document.get("key")
        return Server(parse_server(str(document["server"]))[0], None if key is None else check_key(str(key)))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, ConfigError) as error:
        label = f"imgpro login URL, which writes {path} anew"
        raise ConfigError(f"{path} cannot be used: {error}.", Action("fix", label=label)) from None


def _quoted(text: str) -> str:
    # A JSON string of printable ASCII is a TOML string.
    return json.dumps(text)
