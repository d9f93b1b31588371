"""`imgpro setup-link` and `imgpro accounts`: the operator's commands. Data goes to standard output, hints to error."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from imgpro.cli.options import config_option, data_dir, data_option
from imgpro.cli.progress import ProgressLine
from imgpro.cli.words import hint, plain
from imgpro.errors import DoneInPart
from imgpro.forms import show_bytes
from imgpro.sources import load


def perform(data: str | None, config: Path | None, command: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out an operator's command where these options lead. Raises what `office.perform` does."""
    from imgpro.cli import office  # loads asyncio, which a command that only sends pictures does not wait for

    loaded = load({"storage.data": data}, config)
    return office.perform(loaded, data_dir(loaded), command, values)


@click.command("setup-link")
@data_option
@config_option
def setup_link(data: str | None, config: Path | None) -> None:
    """Print a fresh link that makes the operator's account; the one before stops working.

    Example: imgpro setup-link --data /srv/img
    """
    answer = perform(data, config, "setup-link", {})
    click.echo(answer["link"])
    hint(f"It works once, for {answer['minutes']} minutes.")


@click.group()
def accounts() -> None:
    """See accounts, verify, block, grant plans, invite, delete.

    Example: imgpro accounts list --data /srv/img
    """


@accounts.command("list")
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@config_option
def list_accounts(data: str | None, as_json: bool, config: Path | None) -> None:
    """List accounts, their keys, what they ask for, and links that wait to be handed on.

    Example: imgpro accounts list --json
    """
    rows = perform(data, config, "list", {})["accounts"]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(plain(_line(row)))
        for key in row["keys"]:
            used = f"used {_day(key['last_used_at'])}" if key["last_used_at"] else "never used"
            click.echo(plain(f"    {key['id']}  {key['status']:<11}  {key['name']}, from {key['network']}, {used}"))
        for link in row["links"]:
            click.echo(f"    waiting mail: {link}")
    if not rows:
        hint("There are no accounts yet.")


def _line(row: Mapping[str, Any]) -> str:
    words = [row["email"], row["plan"], f"{row['images']} pictures", f"{row['stored_bytes'] / 1_048_576:.1f} MB"]
    words += ["operator"] if row["role"] == "operator" else []
    words += [] if row["verified"] else ["not verified"]
    words += ["BLOCKED"] if row["blocked"] else []
    words += [f"asks for {row['wants_plan']}"] if row["wants_plan"] else []
    return "  ".join(words)


@accounts.command()
@click.argument("email")
@click.option("--keep", multiple=True, metavar="KEY_ID", help="A key that is this person's; others are removed.")
@click.option("--drop-others", is_flag=True, help="None of the keys is this person's: remove them.")
@data_option
@config_option
def verify(email: str, keep: tuple[str, ...], drop_others: bool, data: str | None, config: Path | None) -> None:
    """Vouch for an address and for its key. Where several wait, say which: the others stop working.

    Example: imgpro accounts verify ann@example.org --keep key_4fT0a1b2c3
    """
    answer = perform(data, config, "verify", {"email": email, "keep": list(keep), "drop_others": drop_others})
    click.echo(f"{answer['email']} is verified; keys: {', '.join(answer['keys']) or 'none'}")
    if answer["dropped"]:
        click.echo(f"removed: {', '.join(answer['dropped'])}")


@accounts.command()
@click.argument("email")
@click.option("--delete-pictures", is_flag=True, help="Delete all its pictures too. This cannot be undone.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@config_option
def block(email: str, delete_pictures: bool, yes: bool, data: str | None, config: Path | None) -> None:
    """Block an account: none of its keys and sessions works any more.

    Example: imgpro accounts block mallory@example.org --delete-pictures
    """
    if delete_pictures and not yes:
        click.confirm(f"Delete all pictures of {email}?", abort=True, err=True)
    answer = perform(data, config, "block", {"email": email, "delete_pictures": delete_pictures})
    click.echo(f"{answer['email']} is blocked; {answer['deleted']} pictures were deleted")


@accounts.command()
@click.argument("email")
@data_option
@config_option
def unblock(email: str, data: str | None, config: Path | None) -> None:
    """Let an account in again.

    Example: imgpro accounts unblock ann@example.org
    """
    click.echo(f"{perform(data, config, 'unblock', {'email': email})['email']} may use its keys again")


@accounts.command()
@click.argument("email")
@click.argument("plan", type=click.Choice(["free", "pro", "scale", "max"]))
@data_option
@config_option
def plan(email: str, plan: str, data: str | None, config: Path | None) -> None:
    """Put an account on a plan.

    Example: imgpro accounts plan ann@example.org pro
    """
    answer = perform(data, config, "plan", {"email": email, "plan": plan})
    click.echo(f"{answer['email']} is on the plan {answer['plan']}")


@accounts.command()
@click.argument("email")
@data_option
@config_option
def approve(email: str, data: str | None, config: Path | None) -> None:
    """Grant the plan that an account asks for.

    Example: imgpro accounts approve ann@example.org
    """
    answer = perform(data, config, "approve", {"email": email})
    click.echo(f"{answer['email']} is on the plan {answer['plan']}")


@accounts.command()
@click.argument("email")
@data_option
@config_option
def decline(email: str, data: str | None, config: Path | None) -> None:
    """Turn down the plan that an account asks for.

    Example: imgpro accounts decline ann@example.org
    """
    click.echo(f"{perform(data, config, 'decline', {'email': email})['email']} stays on its plan")


@accounts.command()
@click.option("--email", help="Only this address may use the invitation.")
@data_option
@config_option
def invite(email: str | None, data: str | None, config: Path | None) -> None:
    """Print a link that makes one account where registration is by invitation.

    Example: imgpro accounts invite --email ann@example.org
    """
    answer = perform(data, config, "invite", {"email": email})
    click.echo(answer["link"])
    hint(f"It works once, for {answer['days']} days" + (f", for {answer['email']}." if answer["email"] else "."))


@accounts.command("sign-in-link")
@click.argument("email")
@data_option
@config_option
def sign_in_link(email: str, data: str | None, config: Path | None) -> None:
    """Print a link that signs a browser in to an account, for whoever has lost the key.

    Example: imgpro accounts sign-in-link ann@example.org
    """
    answer = perform(data, config, "sign-in-link", {"email": email})
    click.echo(answer["link"])
    hint(f"It works once, for {answer['minutes']} minutes. Whoever opens it is {answer['email']} there.")


@accounts.command()
@click.argument("email")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@config_option
def delete(email: str, dry_run: bool, as_json: bool, yes: bool, data: str | None, config: Path | None) -> None:
    """Delete an account with all its pictures, keys and traces. Its links stop working; the address is free again.

    Broken off, the deletion goes on in the server, or with its next start.

    Example: imgpro accounts delete ann@example.org --dry-run
    """
    from imgpro.cli import office

    found = perform(data, config, "delete-look", {"email": email})
    what = _belongings(found)
    if dry_run:
        click.echo(json.dumps(found) if as_json else plain(f"{found['email']} would be deleted, with {what}"))
        return
    if not yes:
        click.echo(plain(f"{found['email']} has {what}. Deleting them cannot be undone."), err=True)
        click.confirm(f"Delete the account {found['email']}?", abort=True, err=True)
    loaded = load({"storage.data": data}, config)
    with ProgressLine() as show:
        answer = office.errand(loaded, data_dir(loaded), "delete-account", {"email": email}, show)
    words = f"{answer['email']} is deleted, with {_amount(answer['deleted'], 'picture')}"
    click.echo(json.dumps(answer) if as_json else plain(words))
    if not answer["cleared"]:
        raise DoneInPart("The database or its journal still has traces of it; the server clears them once it can.")


def _belongings(found: Mapping[str, Any]) -> str:
    parts = [
        f"{_amount(found['images'], 'picture')} ({show_bytes(found['stored_bytes'])})",
        _amount(found["keys"], "key"),
        f"{found['sessions']} signed-in {'browser' if found['sessions'] == 1 else 'browsers'}",
    ]
    if found["rules"]:
        parts.append(_amount(found["rules"], "retention rule"))
    return ", ".join(parts)


def _amount(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


@accounts.command("delete-picture")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@config_option
def delete_picture(ids: tuple[str, ...], yes: bool, data: str | None, config: Path | None) -> None:
    """Delete pictures, whoever they belong to.

    Example: imgpro accounts delete-picture 4fT0a1b2c3d4
    """
    if not yes:
        click.confirm(f"Delete {len(ids)} pictures?", abort=True, err=True)
    click.echo(f"{perform(data, config, 'delete-picture', {'ids': list(ids)})['deleted']} pictures were deleted")


def _day(at_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))
