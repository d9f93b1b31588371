"""Shell scripts around programs that take screenshots but know no servers, and for editors that run a command.

POSIX sh, curl and what the desktop has. The key is handed to curl on its standard input, because arguments are seen by
everybody on the machine; files are copied into a folder of their own first, because curl gives meaning to characters
in their names.
"""

import shlex
from typing import Final

from imgpro.integrations.target import Piece, Target, filled

_HEAD: Final = r"""#!/bin/sh
# @ABOUT@
# It sends to @HOST@ with a key that can do nothing but upload. The dashboard there can revoke it.
set -u
umask 077
server=@SERVER@
key=@KEY@
title=@TITLE@
keep=

notify() {
  if command -v notify-send >/dev/null 2>&1; then
    notify-send -a "$title" "$1" "$2" >/dev/null 2>&1 || :
  fi
}

fail() {
  words=$1
  if [ -n "$keep" ] && cp picture "$keep"; then
    words="$words The picture is kept as $keep."
  fi
  printf '%s\n' "$words" >&2
  notify "Not uploaded" "$words"
  exit 1
}

need() {
  command -v "$1" >/dev/null 2>&1 || fail "$1 is not installed."
}

# Upload the file `picture` under the name that the file `name` holds; the answer is then in the file `answer`.
upload() {
  code=$(printf 'header = "Authorization: Bearer %s"\n' "$key" |
    curl -sS -K - --connect-timeout 15 --max-time 300 -o answer -w '%{http_code}' \
      -F 'file=@picture' -F 'name=<name' -F 'tags=@TAG@' "$server/v1/upload?link=src" 2>trouble) ||
    fail "The server did not answer: $(cat trouble)."
  if [ "$code" != 201 ]; then
    reason=$(sed -n 's/.*"message":"\([^"]*\)".*/\1/p' answer)
    fail "${reason:-The server answered with status $code.}"
  fi
}

need curl
start=$PWD
folder=$(mktemp -d) || fail "No temporary folder could be made."
trap 'rm -rf "$folder"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$folder" || fail "The temporary folder cannot be used."
"""

_CAPTURED: Final = r"""[ -s picture ] || exit 1 # nothing was taken: cancelled
date '+Screenshot %Y-%m-%d %H.%M.%S.png' | tr -d '\n' >name
keep=${HOME:-/tmp}/$(cat name)
upload
cat answer

copy() {
  if [ -n "${WAYLAND_DISPLAY:-}" ] && command -v wl-copy; then
    wl-copy
  elif command -v xclip; then
    xclip -selection clipboard
  elif command -v xsel; then
    xsel --clipboard --input
  else
    false
  fi >/dev/null 2>&1
}

if tr -d '\n' <answer | copy; then
  notify "Link copied" "$(cat answer)"
else
  notify "Uploaded" "$(cat answer)"
fi
"""

_FLAMESHOT: Final = r"""
need flameshot
flameshot gui -r >picture || :
"""
_SPECTACLE: Final = r"""
need spectacle
spectacle -b -n -r -o "$folder/picture.png" || :
[ -e picture.png ] && mv picture.png picture
"""
_GRIM: Final = r"""
need grim
need slurp
area=$(slurp) || exit 1 # cancelled
grim -g "$area" picture || fail "grim took no picture."
"""

_KSNIP: Final = r"""
[ $# = 1 ] || fail "Call this with one file, as ksnip does."
case $1 in
  /*) file=$1 ;;
  *) file=$start/$1 ;;
esac
cp "$file" picture || fail "The file $1 cannot be read."
date '+Screenshot %Y-%m-%d %H.%M.%S.png' | tr -d '\n' >name
upload
cat answer
"""

_TYPORA: Final = r"""
[ $# != 0 ] || fail "Call this with one or more files, as Typora does."
for given; do
  case $given in
    /*) file=$given ;;
    *) file=$start/$given ;;
  esac
  cp "$file" picture || fail "The file $given cannot be read."
  printf %s "${given##*/}" >name
  upload
  cat answer >>links
done
cat links
"""

_DESKTOP: Final = r"""[Desktop Entry]
Type=Application
Name=Screenshot to @HOST@
Comment=Take a picture of a part of the screen and copy a link to it
Exec=sh -c "exec \\"\\$HOME/.local/bin/imgpro-spectacle\\""
Icon=spectacle
Categories=Graphics;
"""


def flameshot(target: Target) -> tuple[Piece, ...]:
    """Return the script for Flameshot."""
    about = "Take a screenshot with Flameshot, upload it and copy the link."
    script = _script(target, "flameshot", about, _FLAMESHOT + _CAPTURED)
    return script, _install(script)


def spectacle(target: Target) -> tuple[Piece, ...]:
    """Return the script for KDE's Spectacle and its entry in the menu."""
    about = "Take a screenshot with Spectacle, upload it and copy the link."
    script = _script(target, "spectacle", about, _SPECTACLE + _CAPTURED)
    entry = Piece(
        label="For the menu: save in ~/.local/share/applications",
        name="imgpro-spectacle.desktop",
        content=filled(_DESKTOP, {"HOST": target.host}),
        content_type="application/x-desktop; charset=utf-8",
    )
    return script, _install(script), entry


def grim(target: Target) -> tuple[Piece, ...]:
    """Return the script for grim and slurp, and a line for sway."""
    about = "Choose a part of the screen with slurp, take it with grim, upload it and copy the link."
    script = _script(target, "grim", about, _GRIM + _CAPTURED)
    sway = Piece(label="A line for ~/.config/sway/config", content=f"bindsym Print exec ~/.local/bin/{script.name}")
    return script, _install(script), sway


def ksnip(target: Target) -> tuple[Piece, ...]:
    """Return the script for ksnip, which copies what it prints."""
    script = _script(target, "ksnip", "Upload a picture for ksnip and print the link.", _KSNIP)
    return script, _install(script), Piece(label="Result filter in ksnip", content=r"https?://\S+")


def typora(target: Target) -> tuple[Piece, ...]:
    """Return the script for Typora, which takes the last lines for the links of its pictures."""
    about = "Upload pictures for Typora and print a link for each, in their order."
    script = _script(target, "typora", about, _TYPORA)
    return (
        script,
        _install(script),
        Piece(label="Command in Typora", content=f"~/.local/bin/{script.name}"),
        Piece(label="Instead, where imgpro is installed and has logged in", content="imgpro upload"),
    )


def _script(target: Target, tool: str, about: str, body: str) -> Piece:
    head = _HEAD if "$start" in body else _HEAD.replace("start=$PWD\n", "")
    values = {
        "ABOUT": about,
        "HOST": target.host,
        "SERVER": shlex.quote(target.base),
        "KEY": shlex.quote(target.key),
        "TITLE": shlex.quote(target.title),
        "TAG": tool,
    }
    return Piece(
        label="The script",
        name=f"imgpro-{tool}",
        content=filled(head + body, values),
        content_type="text/x-shellscript; charset=utf-8",
        executable=True,
    )


def _install(script: Piece) -> Piece:
    folder = "~/.local/bin"
    line = f"mkdir -p {folder} && mv ~/Downloads/{script.name} {folder} && chmod 700 {folder}/{script.name}"
    return Piece(label="In a terminal, after the download", content=line)
