"""`imgpro login`, `logout` and `upload`: pictures from a terminal, an editor or a screenshot tool to a server.

Standard output holds links and nothing else, because other programs read it; all words go to standard error.
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from imgpro.cli.words import hint, note, plain
from imgpro.errors import Action, ImgproError, OperatorError

if TYPE_CHECKING:
    from imgpro.cli.pictures import Picture
    from imgpro.cli.remote import Outcome, Server

INTERRUPTED = 130


@click.command()
@click.argument("url")
@click.option("--key", "key_source", metavar="-", help="'-' reads the API key from standard input, for scripts.")
def login(url: str, key_source: str | None) -> None:
    """Keep a server's address and an API key for `imgpro upload`. Asks for the key; an empty one means none.

    The key is never an argument, because others on this machine can see those. Scripts set IMGPRO_KEY or pipe it in.

    Example: imgpro login http://img.lan:8080
    """
    if key_source not in (None, "-"):
        raise click.BadParameter("use --key - and standard input: others can see arguments.", param_hint="--key")
    from imgpro.cli import login_file, remote

    base, told = remote.parse_server(url)
    if told is not None:
        click.echo(told, err=True)
    key = _ask_key(base, from_pipe=key_source == "-")
    server = remote.Server(base, remote.check_key(key) if key.strip() else None)
    outcome = server.probe()
    if outcome.verdict != "sent":
        raise outcome.problem
    words = _standing(server)
    path = login_file.save(server)
    if key and remote.goes_in_the_clear(base):
        note(f"the key goes to {base} unencrypted; prefer an address with https://")
    click.echo(f"Uploads go to {base}, {words}. Kept in {path}.")


def _ask_key(base: str, *, from_pipe: bool) -> str:
    from imgpro.cli.login_file import KEY_VARIABLE

    if from_pipe or (not os.environ.get(KEY_VARIABLE) and not sys.stdin.isatty()):
        return sys.stdin.readline()
    if os.environ.get(KEY_VARIABLE):
        return os.environ[KEY_VARIABLE]
    click.echo(f"{base}/dashboard/connect has a key for you.", err=True)
    key: str = click.prompt("API key (empty for none)", hide_input=True, default="", show_default=False, err=True)
    return key


def _standing(server: "Server") -> str:
    """Say as whom pictures will be sent."""
    if server.key is None:
        return "without an account"
    outcome = server.usage()
    if outcome.status == 403:
        return "with a key that may only upload"
    uploads, plan = outcome.answer.get("uploads"), plain(str(outcome.answer.get("plan", "")))
    if not isinstance(uploads, dict):
        return "with a key"
    limit = uploads.get("limit")
    used = f"{uploads.get('used', 0)} of {limit}" if limit is not None else str(uploads.get("used", 0))
    return f"on the plan {plan}, {plain(used)} uploads used this month" if plan else "with a key"


@click.command()
def logout() -> None:
    """Forget the server and the key that `imgpro login` kept. The key itself stays valid: end it in the dashboard.

    Example: imgpro logout
    """
    from imgpro.cli import login_file

    if login_file.forget():
        click.echo("Forgotten.")
    else:
        hint("There was nothing to forget.")


@click.command()
@click.argument("files", nargs=-1, metavar="FILE... | -", type=click.Path())
@click.option(
    "--link",
    type=click.Choice(["src", "page", "markdown", "html", "bbcode"]),
    default="src",
    show_default=True,
    help="What to print.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the server's whole answer, one line of JSON for each file."
)
@click.option("--tags", help="Comma list of tags; needs a key.")
@click.option("--namespace", help="Namespace; needs a key.")
@click.option("--private", is_flag=True, help="Only you can see it, or whoever you give its signed link to.")
@click.option("--ttl", metavar="TIME", help="Delete it after 300 (seconds) to 90d; units m, h, d.")
@click.option("--name", help="Name of the picture, where one file or standard input is sent.")
@click.option("--copy", is_flag=True, help="Put what is printed on the clipboard, too.")
@click.option("--notify", is_flag=True, help="Show a desktop notification.")
@click.option(
    "--partial", is_flag=True, help="If files fail, print the others' links and an empty line for each of them."
)
@click.option("--recursive", is_flag=True, help="A folder stands for all pictures in it and below.")
@click.option("--watch", metavar="DIR", type=click.Path(), help="Stay, and send each new picture in this folder.")
@click.option("--existing", is_flag=True, help="With --watch: the pictures that are there already, too.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--server", metavar="URL", help="Another server than that of the login [env: IMGPRO_SERVER].")
def upload(files: tuple[str, ...], watch: str | None, server: str | None, **options: Any) -> None:
    """Send pictures, and print a link for each: one line per file, in their order, on standard output.

    If one fails, no link is printed at all (the links of those that were stored are named on standard error), and the
    exit code is not 0: a program that pairs lines with files never pairs them wrongly. `-` reads standard input.

    With --watch the command stays. What was sent is remembered; while the server is away, pictures wait.

    Server and key are those of `imgpro login`, or IMGPRO_SERVER and IMGPRO_KEY.

    \b
    Example: imgpro upload holiday.jpg
             grim - | imgpro upload - --name screen.png --copy
             imgpro upload --watch ~/Pictures/Screenshots --copy --notify
    """  # \b is click's: these lines stay as they are
    _check_usage(files, watch, options)
    try:
        _upload(files, watch, server, options)
    except ImgproError as problem:
        # Editors that were made for PicGo look for these two words, and take anything else for links.
        if not (sys.stdout.isatty() or watch or options["as_json"] or options["partial"]):
            click.echo(f"PicGo ERROR: {plain(problem.message)}")
        raise
    except KeyboardInterrupt:
        note("stopped")
        sys.exit(INTERRUPTED)


def _check_usage(files: Sequence[str], watch: str | None, options: dict[str, Any]) -> None:
    """Refuse what makes no sense together. Raises UsageError."""
    if watch is not None:
        if files or options["name"] or options["partial"]:
            raise click.UsageError("--watch goes with neither FILE, --name nor --partial.")
        return
    if options["existing"]:
        raise click.UsageError("--existing goes with --watch only.")
    if not files:
        raise click.UsageError("Name at least one file, or - for standard input.")
    if files.count("-") > 1:
        raise click.UsageError("Standard input can be sent only once.")
    if options["name"] and len(files) > 1:
        raise click.UsageError("--name goes with one file only.")
    if "-" in files and sys.stdin.isatty():
        raise click.UsageError(
            "Standard input is this terminal. Pipe a picture into it, as in: grim - | imgpro upload -"
        )


def _fields(server: "Server", options: dict[str, Any]) -> dict[str, str]:
    if server.key is None and (options["tags"] or options["namespace"]):
        label = f"imgpro login {server.base}, with a key"
        raise OperatorError(f"--tags and --namespace need an API key for {server.base}.", Action("fix", label=label))
    fields = {name: options[name] for name in ("tags", "namespace", "ttl") if options[name]}
    return {**fields, "public": "false"} if options["private"] else fields


def _upload(files: Sequence[str], watch: str | None, address: str | None, options: dict[str, Any]) -> None:
    from imgpro.cli import login_file

    server, show = login_file.chosen(address), _Show(options)
    fields = _fields(server, options)
    if watch is None:
        _send_files(server, files, fields, show, options)
        return
    from imgpro.cli.watching import watch_folder

    watch_folder(server, watch, fields, show.one, recursive=options["recursive"], existing=options["existing"])


def _send_files(
    server: "Server", files: Sequence[str], fields: dict[str, str], show: "_Show", options: dict[str, Any]
) -> None:
    from imgpro.cli.pictures import gather
    from imgpro.cli.transfers import Transfers

    recursive, name = options["recursive"], options["name"]
    pictures = gather(files, recursive=recursive, name=name, standard_input=sys.stdin.buffer)
    transfers = Transfers(server, fields)
    try:
        with _progress(pictures, quiet=options["quiet"]) as advance:
            transfers.send(pictures, advance, keep_going=options["partial"])
    except KeyboardInterrupt:
        transfers.stop()
        _list_stored(pictures, transfers.outcomes, show)
        raise
    for picture in pictures:
        picture.close()
    _report(pictures, transfers.outcomes, show, options)


@contextlib.contextmanager
def _progress(pictures: Sequence["Picture"], *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar over the bytes of all files, on a terminal; nothing elsewhere. What it yields is for threads."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    count, lock = len(pictures), threading.Lock()
    label = plain(os.path.basename(pictures[0].label))[-40:] if count == 1 else f"{count} pictures"
    with click.progressbar(length=sum(picture.size for picture in pictures), label=label, file=sys.stderr) as bar:

        def advance(more: int) -> None:
            with lock:
                bar.update(more)

        yield advance


def _report(
    pictures: Sequence["Picture"], outcomes: Sequence["Outcome | None"], show: "_Show", options: dict[str, Any]
) -> None:
    """Print the links if all files were stored, or all there are with --partial. Raises the error of what was not."""
    pairs = list(zip(pictures, outcomes, strict=True))
    failed = sum(not _stored(outcome) for outcome in outcomes)
    if options["partial"] or not failed:
        show.all([outcome.answer if outcome is not None and _stored(outcome) else None for outcome in outcomes])
    else:
        _list_stored(pictures, outcomes, show)
    told = [(picture, outcome.problem) for picture, outcome in pairs if outcome is not None and not _stored(outcome)]
    if not told:
        return
    picture, first = told[0]
    said = f"{plain(picture.label)}: {first.message}"
    if len(pictures) > 1:
        for picture, problem in told:
            note(" ".join([f"{picture.label}:", problem.message, *problem.details.values()]))
        untried = f", and {failed - len(told)} were not tried" if failed > len(told) else ""
        said = f"{len(told)} of {len(pictures)} files failed{untried}."
    summary = OperatorError(said, first.action, first.details if len(pictures) == 1 else None)
    summary.exit_code = first.exit_code
    raise summary


def _stored(outcome: "Outcome | None") -> bool:
    return outcome is not None and outcome.verdict == "sent"


def _list_stored(pictures: Sequence["Picture"], outcomes: Sequence["Outcome | None"], show: "_Show") -> None:
    for picture, outcome in zip(pictures, outcomes, strict=False):
        if outcome is not None and _stored(outcome):
            note(f"stored nonetheless: {picture.label}: {show.line(outcome.answer)}")


class _Show:
    """Prints, copies and notifies of links as the options say."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._told: set[str] = set()

    def line(self, answer: dict[str, Any]) -> str:
        """Return the one line that an answer is printed as."""
        if self._options["as_json"]:
            return json.dumps(answer)
        from imgpro.cli.remote import LINKS

        return plain(str(answer.get(LINKS[self._options["link"]]) or answer["src"]))

    def one(self, answer: dict[str, Any]) -> None:
        """Print one answer's line."""
        self.all([answer])

    def all(self, answers: Sequence[dict[str, Any] | None]) -> None:
        """Print a line for each answer, an empty one for None."""
        lines = ["" if answer is None else self.line(answer) for answer in answers]
        click.echo("\n".join(lines))
        stored = [line for line in lines if line]
        if not stored or not (self._options["copy"] or self._options["notify"]):
            return
        from imgpro.cli import desktop

        if self._options["copy"] and not desktop.copy("\n".join(stored)):
            self._tell_once("nothing was copied: none of wl-copy, xclip, xsel and pbcopy reaches a clipboard here")
        title = "Uploaded" if len(stored) == 1 else f"{len(stored)} pictures uploaded"
        if self._options["notify"] and not desktop.notify(title, stored[0]):
            self._tell_once("no notification was shown: notify-send is not here or has no desktop")

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            note(text)
