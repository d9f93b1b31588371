"""Lines to paste into terminals and configurations, the phone's shortcut, and what announces a server on a network."""

import json
import shlex
from typing import Final
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from imgpro.integrations.target import Piece, Target, filled

_FUNCTION: Final = r"""# img FILE... uploads pictures and prints a link for each.
img() {
  for file; do
    printf 'header = "Authorization: Bearer %s"\n' @KEY@ |
      curl -sS -K - -F "file=@\"$(printf %s "$file" | sed 's/[\\"]/\\&/g')\"" -F tags=curl @ADDRESS@
  done
}
"""
_ACTIONS: Final = """1. Receive Images from Share Sheet
2. Get Contents of URL
   URL: the address above
   Method: POST
   Request Body: Form
   Add new field, File: the key is file, the value Shortcut Input
3. Get Text from Contents of URL
4. Copy Text to Clipboard
"""
_SERVICE: Final = """<?xml version="1.0" standalone="no"?>
<!DOCTYPE service-group SYSTEM "avahi-service.dtd">
<service-group>
  <name replace-wildcards="yes">@NAME@ on %h</name>
  <service>
    <type>_@SCHEME@._tcp</type>
    <port>@PORT@</port>
    <txt-record>path=@PATH@</txt-record>
  </service>
</service-group>
"""


def curl(target: Target) -> tuple[Piece, ...]:
    """Return a line that uploads a file, and a function for a shell's start file."""
    address = f"{target.base}/v1/upload?link=src"
    header = shlex.quote(f"Authorization: {target.bearer}")
    function = filled(_FUNCTION, {"KEY": shlex.quote(target.key), "ADDRESS": shlex.quote(address)})
    return (
        Piece(label="One file", content=f"curl -F file=@shot.png -H {header} {shlex.quote(address)}"),
        Piece(label="A command of your own, for ~/.bashrc or ~/.zshrc", content=function),
    )


def mcp(target: Target) -> tuple[Piece, ...]:
    """Return the configurations of common clients of the Model Context Protocol."""
    name = "imgpro" if target.file_stem[:1].isdigit() else target.file_stem.replace(".", "-")
    server = {"type": "http", "url": f"{target.base}/mcp", "headers": {"Authorization": target.bearer}}
    header = shlex.quote(f"Authorization: {target.bearer}")
    url = shlex.quote(f"{target.base}/mcp")
    return (
        Piece(label="Claude Code", content=f"claude mcp add --transport http {name} {url} --header {header}"),
        Piece(
            label="Claude Code (.mcp.json), Cursor (.cursor/mcp.json) and others that read mcpServers",
            content=json.dumps({"mcpServers": {name: server}}, indent=2) + "\n",
        ),
        Piece(
            label="VS Code (.vscode/mcp.json)",
            content=json.dumps({"servers": {name: server}}, indent=2) + "\n",
        ),
        Piece(
            label="Codex (~/.codex/config.toml)",
            content=(
                f"[mcp_servers.{name}]\nurl = {json.dumps(server['url'])}\n"
                f'http_headers = {{ "Authorization" = {json.dumps(target.bearer)} }}\n'
            ),
        ),
    )


def shortcut(target: Target) -> tuple[Piece, ...]:
    """Return the one address that a shortcut on an iPhone or iPad needs, and the actions of the shortcut."""
    return (
        Piece(label="The address", content=f"{target.base}/v1/upload?key={target.key}&link=src&tags=phone"),
        Piece(label="The actions", content=_ACTIONS),
    )


def avahi(target: Target) -> Piece:
    """Return the file that announces this server on the local network; it holds no key."""
    parts = urlsplit(target.base)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    values = {"NAME": escape(target.title), "SCHEME": parts.scheme, "PORT": str(port), "PATH": escape(f"{parts.path}/")}
    return Piece(
        label="Save as /etc/avahi/services/imgpro.service",
        name="imgpro.service",
        content=filled(_SERVICE, values),
        content_type="application/xml; charset=utf-8",
    )
