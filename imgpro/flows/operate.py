"""What the operator does: claim a new server, let people in, verify, block, grant plans, delete pictures.

One door for the command line and the operator's page: `perform` takes a command's name and its values as plain
data, because the command line hands them to a running server through a socket.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from imgpro import ids
from imgpro.errors import Action, Forbidden, NotFound, ValidationError
from imgpro.flows.accounts import Accounts, Made, drop_keys, settle_verified
from imgpro.flows.email_address import parse_email
from imgpro.flows.home import Home
from imgpro.flows.keyring import KeyRing
from imgpro.flows.mail import Mail
from imgpro.flows.remove import Remove
from imgpro.flows.sign_in import LINK_S as SIGN_IN_S
from imgpro.flows.sign_in import SignIn
from imgpro.flows.upgrades import Upgrades
from imgpro.ids import IMAGE_ID
from imgpro.model import Account, Key
from imgpro.plans import PlanTable
from imgpro.store import queries_accounts
from imgpro.store.db import Database
from imgpro.store.queries_accounts import Link, LinkPurpose, UnsettledKey

SETUP_S: Final = 1_800
SETUP_ENDED: Final = "This link has ended or was used already."
SETUP_AGAIN: Final = Action("fix", label="Run imgpro setup-link on the server to get a new one, or sign in")
INVITATION_S: Final = 7 * 86_400
PAGE: Final = 500
_SEE_LIST: Final = Action("fix", label="`imgpro accounts list` shows them")
DELETE_BATCH: Final = 200

Values = Mapping[str, Any]


class Operate:
    """The operator's commands."""

    def __init__(
        self,
        db: Database,
        ring: KeyRing,
        accounts: Accounts,
        upgrades: Upgrades,
        plans: PlanTable,
        mail: Mail,
        remove: Remove,
        home: Home,
        sign_in: SignIn,
    ) -> None:
        self._db = db
        self._ring = ring
        self._accounts = accounts
        self._upgrades = upgrades
        self._plans = plans
        self._mail = mail
        self._remove = remove
        self._home = home
        self._sign_in = sign_in
        self._commands: dict[str, Callable[[Values], Awaitable[dict[str, Any]]]] = {
            "setup-link": self._setup_link,
            "list": self._list,
            "verify": self._verify,
            "block": self._block,
            "unblock": self._unblock,
            "plan": self._plan,
            "approve": self._approve,
            "decline": self._decline,
            "refuse": self._refuse,
            "invite": self._invite,
            "sign-in-link": self._sign_in_link,
            "delete-picture": self._delete_picture,
        }

    def offer(self, command: str, work: Callable[[Values], Awaitable[dict[str, Any]]]) -> None:
        """Make known how a command of another part is carried out."""
        self._commands[command] = work

    async def perform(self, command: str, values: Values) -> dict[str, Any]:
        """Carry out a command and return what it has to say, as plain data. Raises NotFound, ValidationError, ..."""
        found = self._commands.get(command)
        if found is None:
            raise NotFound(f"There is no command {command}.")
        return await found(values)

    async def claimed(self) -> bool:
        """Tell whether this server has an operator."""
        async with self._db.reader() as conn:
            return await queries_accounts.has_operator(conn)

    async def setup_link(self) -> str:
        """Return a fresh link that makes the operator's account; the one before works no more. Raises Forbidden."""
        token, now_ms = ids.new_token(), _now_ms()
        link = Link(hash=ids.secret_hash(token), purpose="setup", expires_ms=now_ms + SETUP_S * 1000)

        def write(conn: Any) -> None:
            _refuse_claimed(conn)
            queries_accounts.delete_links(conn, "setup")
            queries_accounts.insert_link(conn, link, now_ms)

        await self._db.write(write)
        return f"{self._home.base}/setup?t={token}"

    async def can_claim(self, token: str) -> bool:
        """Tell whether a set-up token still works. Changes nothing."""
        hashed, now_ms = ids.secret_hash(token), _now_ms()
        return await self._db.write(
            lambda conn: (
                queries_accounts.link_by_hash(conn, hashed, "setup", now_ms) is not None
                and not queries_accounts.operator_exists(conn)
            )
        )

    async def claim(self, token: str, email: str, network: str) -> Made:
        """Make the operator's account and its first key. Raises NotFound for a link that is not valid, Forbidden.

        Keys that somebody asked for with the address before do not work any more, until the operator says that they
        are theirs (`unsettled_link`).
        """
        secret, hashed, now_ms = ids.new_key(), ids.secret_hash(token), _now_ms()
        if not await self.can_claim(token):
            raise NotFound(SETUP_ENDED, SETUP_AGAIN)

        def write(conn: Any) -> Made:
            if queries_accounts.use_link(conn, hashed, "setup", now_ms) is None:
                raise NotFound(SETUP_ENDED, SETUP_AGAIN)
            _refuse_claimed(conn)
            account = queries_accounts.account_by_email(conn, email)
            if account is None:
                account = queries_accounts.insert_account(
                    conn, ids.new_account_id(), email, "operator", now_ms, plan="max", verified=True
                )
            else:
                queries_accounts.set_verified(conn, account.seq, now_ms)
                account = queries_accounts.set_operator(conn, account.seq)
            key = queries_accounts.insert_key(
                conn,
                ids.new_key_id(),
                account.seq,
                ids.secret_hash(secret),
                "Operator",
                ("read", "write"),
                None,
                network,
                now_ms,
                confirmed=True,
            )
            return Made(secret=secret, key=key, account=account, plan=self._plans.of(account), pending=False)

        made = await self._db.write(write)
        self._ring.forget(made.account.seq)
        return made

    async def unsettled_link(self, account: Account) -> str | None:
        """Return a link to the page that asks which keys are the account's own; None if there is nothing to ask."""
        now_ms = _now_ms()

        def write(conn: Any) -> str | None:
            if not queries_accounts.unsettled_keys(conn, account.seq):
                return None
            return self._accounts.new_link(conn, account, None, now_ms)

        return await self._db.write(write)

    # What waits for the operator

    async def unsettled(self, account: Account) -> list[UnsettledKey]:
        """Return the keys of an account that nobody has confirmed."""
        return await self._db.write(lambda conn: queries_accounts.unsettled_keys(conn, account.seq))

    async def requests(self) -> list[tuple[str, str]]:
        """Return who asks for which plan."""
        return [(request.account.email, request.plan) for request in await self._upgrades.waiting()]

    async def waiting_links(self, most: int | None = None) -> list[tuple[str, str]]:
        """Return addresses and the links that wait to be handed to them, those that still work.

        Who waits to sign in comes first, then the newest: strangers can make links of the other kind, as many as they
        like.
        """
        found: list[tuple[str, str]] = []
        waiting = [(*_purpose_of(mail.letter.link), mail.letter) for mail in reversed(await self._mail.waiting())]
        waiting.sort(key=lambda one: one[0] != "signin")
        for purpose, token, letter in waiting:
            if most is not None and len(found) >= most:
                break
            async with self._db.reader() as conn:
                works = await queries_accounts.link_works(conn, ids.secret_hash(token), purpose, _now_ms())
            if works:
                found.append((letter.recipient, letter.link))
        return found

    # Commands

    async def _setup_link(self, _: Values) -> dict[str, Any]:
        return {"link": await self.setup_link(), "minutes": SETUP_S // 60}

    async def _list(self, _: Values) -> dict[str, Any]:
        accounts: list[Account] = []
        async with self._db.reader() as conn:
            while page := await queries_accounts.accounts_page(conn, accounts[-1].seq if accounts else 0, PAGE):
                accounts += page
        requests = {request.account.seq: request.plan for request in await self._upgrades.waiting()}
        links: dict[str, list[str]] = {}
        for email, link in await self.waiting_links():
            links.setdefault(email, []).insert(0, link)  # the newest of an address last
        rows = [
            await self._row(account, requests.get(account.seq), links.get(account.email, [])) for account in accounts
        ]
        return {"accounts": rows}

    async def _row(self, account: Account, wants: str | None, links: list[str]) -> dict[str, Any]:
        async with self._db.reader() as conn:
            keys = await queries_accounts.keys_listed(conn, account.seq)
        return {
            "email": account.email,
            "id": account.id,
            "role": account.role,
            "plan": self._plans.of(account).name,
            "verified": account.verified,
            "blocked": account.blocked_ms is not None,
            "created_at": account.created_ms // 1000,
            "images": account.images,
            "stored_bytes": account.stored_bytes,
            "keys": [_key_row(self._ring.with_last_use(key), account) for key in keys],
            "wants_plan": wants,
            "links": links,
        }

    async def _verify(self, values: Values) -> dict[str, Any]:
        """Vouch for an address, and for the keys that are named; all others that nobody confirmed are dropped.

        Where nothing is named, the only key of a new account is kept. Of several the operator has to say which, and
        for an account that is verified already too: a key that waits there is more likely a stranger's than not.
        """
        account = await self._account(values)
        keep, drop_others, now_ms = set(values.get("keep") or ()), bool(values.get("drop_others")), _now_ms()

        def write(conn: Any) -> tuple[list[str], list[str]]:
            unsettled = queries_accounts.unsettled_keys(conn, account.seq)
            unknown = keep - {each.key.id for each in unsettled}
            if unknown:
                raise ValidationError(f"{min(unknown)} is not a key that waits.", _SEE_LIST)
            fresh = queries_accounts.account_by_seq(conn, account.seq) or account
            if not keep and not drop_others and unsettled and (fresh.verified or len(unsettled) > 1):
                waiting = ", ".join(f"{each.key.id} from {each.key.network}" for each in unsettled)
                wanted = Action("fix", label="--keep KEY_ID for each that is this person's, or --drop-others for none")
                raise ValidationError(f"Keys wait, and any of them may be a stranger's: {waiting}.", wanted)
            only = not keep and not drop_others
            kept = [each.key for each in unsettled if only or each.key.id in keep]
            dropped = [each.key for each in unsettled if each.key not in kept]
            left = settle_verified(conn, account, [key.seq for key in kept], [key.seq for key in dropped], now_ms)
            return [key.id for key in left], [key.id for key in dropped]

        left, dropped = await self._db.write(write)
        self._accounts.forget(account)
        return {"email": account.email, "keys": left, "dropped": dropped}

    async def _refuse(self, values: Values) -> dict[str, Any]:
        """Turn down an account that nobody has vouched for: its keys end, and what they brought leaves it."""
        account, now_ms = await self._account(values), _now_ms()

        def write(conn: Any) -> list[str]:
            fresh = queries_accounts.account_by_seq(conn, account.seq)
            if fresh is None or fresh.verified:
                raise ValidationError(f"{account.email} is verified already.", _SEE_LIST)
            keys = [each.key for each in queries_accounts.unsettled_keys(conn, account.seq)]
            drop_keys(conn, account, [key.seq for key in keys], now_ms)
            queries_accounts.delete_links(conn, "verify", account.seq)
            return [key.id for key in keys]

        dropped = await self._db.write(write)
        self._accounts.forget(account)
        return {"email": account.email, "dropped": dropped}

    async def _block(self, values: Values) -> dict[str, Any]:
        account = await self._account(values)
        if account.role == "operator":
            raise Forbidden("The operator's account cannot be blocked.")
        now_ms = _now_ms()

        def write(conn: Any) -> None:
            queries_accounts.set_blocked(conn, account.seq, now_ms)
            queries_accounts.delete_sessions(conn, account.seq)
            queries_accounts.delete_links(conn, "signin", account.seq)

        await self._db.write(write)
        self._ring.forget(account.seq)
        deleted = await self._delete_all(account) if values.get("delete_pictures") else 0
        return {"email": account.email, "deleted": deleted}

    async def _delete_all(self, account: Account) -> int:
        deleted = 0
        while True:
            async with self._db.reader() as conn:
                found = await queries_accounts.image_ids_of_account(conn, account.seq, DELETE_BATCH)
            if not found:
                return deleted
            deleted += await self._remove.images(found)

    async def _unblock(self, values: Values) -> dict[str, Any]:
        account = await self._account(values)
        await self._db.write(lambda conn: queries_accounts.set_blocked(conn, account.seq, None))
        self._ring.forget(account.seq)
        return {"email": account.email}

    async def _plan(self, values: Values) -> dict[str, Any]:
        account = await self._account(values)
        await self._upgrades.set_plan(account, str(values.get("plan")))
        return {"email": account.email, "plan": str(values.get("plan"))}

    async def _approve(self, values: Values) -> dict[str, Any]:
        account = await self._account(values)
        wanted = next((r.plan for r in await self._upgrades.waiting() if r.account.seq == account.seq), None)
        if wanted is None:
            raise NotFound(f"{account.email} asks for no plan.", Action("fix", label="`imgpro accounts list`"))
        seen = values.get("plan")
        if seen not in (None, wanted):
            raise ValidationError(f"{account.email} asks for {wanted} now, not for {seen}.", _SEE_LIST)
        await self._upgrades.set_plan(account, wanted)
        return {"email": account.email, "plan": wanted}

    async def _decline(self, values: Values) -> dict[str, Any]:
        account = await self._account(values)
        if not await self._db.write(lambda conn: queries_accounts.delete_upgrade_request(conn, account.seq)):
            raise NotFound(f"{account.email} asks for no plan.", Action("fix", label="`imgpro accounts list`"))
        return {"email": account.email}

    async def _invite(self, values: Values) -> dict[str, Any]:
        email = _email(values) if values.get("email") else None
        token, now_ms = ids.new_token(), _now_ms()
        expires_ms = now_ms + INVITATION_S * 1000
        link = Link(hash=ids.secret_hash(token), purpose="invite", email=email, expires_ms=expires_ms)
        await self._db.write(lambda conn: queries_accounts.insert_link(conn, link, now_ms))
        return {
            "link": f"{self._home.base}/join?t={token}",
            "invitation": token,
            "email": email,
            "days": INVITATION_S // 86_400,
        }

    async def _sign_in_link(self, values: Values) -> dict[str, Any]:
        email = _email(values)
        return {"link": await self._sign_in.link(email), "email": email, "minutes": SIGN_IN_S // 60}

    async def _delete_picture(self, values: Values) -> dict[str, Any]:
        wanted = [str(image_id) for image_id in values.get("ids") or ()]
        bad = next((image_id for image_id in wanted if not IMAGE_ID.fullmatch(image_id)), None)
        if bad is not None or not wanted:
            raise ValidationError("The id of a picture has 12 letters and digits.")
        return {"deleted": await self._remove.images(wanted)}

    async def _account(self, values: Values) -> Account:
        email = _email(values)
        found = await self._db.write(lambda conn: queries_accounts.account_by_email(conn, email))
        if found is None or found.leaving_ms is not None:
            raise NotFound(f"There is no account {email}.", Action("fix", label="`imgpro accounts list`"))
        return found


def _purpose_of(link: str) -> tuple[LinkPurpose, str]:
    """Return what a mailed link is for, and its token."""
    address = urlsplit(link)
    purpose: LinkPurpose = "signin" if address.path.endswith("/sign-in") else "verify"
    return purpose, parse_qs(address.query).get("t", [""])[0]


def _refuse_claimed(conn: Any) -> None:
    if queries_accounts.operator_exists(conn):
        raise Forbidden(
            "This server has its operator already.", Action("redirect", "/dashboard", "Sign in at /dashboard")
        )


def _key_row(key: Key, account: Account) -> dict[str, Any]:
    waits = key.confirmed_ms is None
    return {
        "id": key.id,
        "name": key.name,
        "status": "active" if not waits else "pending" if account.verified else "unconfirmed",
        "network": key.network,
        "created_at": key.created_ms // 1000,
        "last_used_at": None if key.last_used_ms is None else key.last_used_ms // 1000,
    }


def _email(values: Values) -> str:
    try:
        return parse_email(str(values.get("email") or ""))
    except ValueError as error:
        raise ValidationError(str(error)) from None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
