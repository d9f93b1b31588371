"""Signing in by a link that works once: mailed to whoever asks for it, or printed by the operator.

Anybody may ask, for any address. The answer is the same whether there is such an account or not, and nobody looks
before some random seconds after it: neither words nor time tell whose addresses are known here.
"""

import asyncio
import contextlib
import logging
import math
import secrets
import time
from typing import Any, Final

from imgpro import ids
from imgpro.errors import Action, Forbidden, ImgproError, NotFound, RateLimited, ValidationError
from imgpro.flows.home import Home
from imgpro.flows.letters import sign_in_letter
from imgpro.flows.mail import Mail
from imgpro.flows.rates import Window
from imgpro.model import Account
from imgpro.settings import Accounts as AccountSettings
from imgpro.store import queries_accounts
from imgpro.store.db import Database
from imgpro.store.queries_accounts import Link

log = logging.getLogger(__name__)

LINK_S: Final = 1_800
HOUR_S: Final = 3_600.0
# Long enough that what is slower for a known address is lost among what others ask for meanwhile.
LOOK_AFTER_S: Final = (0.5, 4.0)
MAX_ASKED: Final = 100  # requests not looked at yet; the database is that far behind only when it is in trouble
_ENDED: Final = "This link has ended or was used already."
_ASK_AGAIN: Final = Action("redirect", url="/dashboard", label="Ask for a new link on the sign-in page")


class SignIn:
    """Makes and honours the links."""

    def __init__(self, settings: AccountSettings, site_name: str, db: Database, mail: Mail, home: Home) -> None:
        self._db = db
        self._mail = mail
        self._home = home
        self._per_address = Window(None, HOUR_S)
        self._per_network = Window(None, HOUR_S)
        self.apply(settings, site_name)
        self._asked: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    def apply(self, settings: AccountSettings, site_name: str) -> None:
        """Take other limits; what was counted stays."""
        self._site_name = site_name
        self._per_address.allow(settings.keys_per_address_per_hour)
        self._per_network.allow(settings.keys_per_network_per_hour)

    def ask(self, email: str, network: str) -> None:
        """Have a link mailed to an address, if it is that of a verified account. Raises RateLimited, never more."""
        wait_s = max(self._per_address.wait_s(email), self._per_network.wait_s(network))
        if wait_s > 0:
            seconds, minutes = max(1, math.ceil(wait_s)), max(1, math.ceil(wait_s / 60))
            unit = "minute" if minutes == 1 else "minutes"
            wanted = Action("wait", label=f"Try again in {minutes} {unit}, or use a key", seconds=seconds)
            raise RateLimited("Too many links were asked for with this address or from this network.", wanted)
        self._per_address.count(email)
        self._per_network.count(network)
        if len(self._asked) >= MAX_ASKED:
            log.warning("a request for a sign-in link was dropped: too many wait")
            return
        task = asyncio.create_task(self._send(email, network), name="sign-in link")
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def link(self, email: str) -> str:
        """Return a link for the operator to hand on. Raises NotFound, Forbidden, ValidationError."""
        now_ms = _now_ms()

        def write(conn: Any) -> str:
            account = queries_accounts.account_by_email(conn, email)
            if account is None:
                raise NotFound(f"There is no account {email}.", Action("fix", label="`imgpro accounts list`"))
            if account.blocked_ms is not None:
                raise Forbidden(f"{email} is blocked.", Action("fix", label=f"`imgpro accounts unblock {email}`"))
            if not account.verified:
                wanted = Action("fix", label=f"`imgpro accounts verify {email}` first")
                raise ValidationError(f"Nobody has vouched for {email} yet.", wanted)
            return self._new_link(conn, account, now_ms)

        return await self._db.write(write)

    async def look(self, token: str) -> Account:
        """Return whom a link signs in; changes nothing. Raises NotFound for one that does not work."""
        hashed, now_ms = ids.secret_hash(token), _now_ms()
        await self._refuse_unknown(hashed, now_ms)
        return await self._db.write(
            lambda conn: _owner(conn, queries_accounts.link_by_hash(conn, hashed, "signin", now_ms))
        )

    async def use(self, token: str) -> Account:
        """Use a link up, and all others of its account; return whom to sign in. Raises NotFound."""
        hashed, now_ms = ids.secret_hash(token), _now_ms()
        await self._refuse_unknown(hashed, now_ms)

        def write(conn: Any) -> Account:
            account = _owner(conn, queries_accounts.use_link(conn, hashed, "signin", now_ms))
            queries_accounts.delete_links(conn, "signin", account.seq)
            return account

        return await self._db.write(write)

    async def close(self) -> None:
        """Finish what was asked for, now."""
        self._closing.set()
        await asyncio.gather(*self._asked)

    async def _refuse_unknown(self, hashed: bytes, now_ms: int) -> None:
        """Keep the guesses of strangers from the writer."""
        async with self._db.reader() as conn:
            if not await queries_accounts.link_works(conn, hashed, "signin", now_ms):
                raise NotFound(_ENDED, _ASK_AGAIN)

    async def _send(self, email: str, network: str) -> None:
        first, last = LOOK_AFTER_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(first + secrets.randbelow(1_000) / 1_000 * (last - first)):
                await self._closing.wait()
        now_ms = _now_ms()

        def write(conn: Any) -> None:
            account = queries_accounts.account_by_email(conn, email)
            if account is None or account.blocked_ms is not None or not account.verified:
                return
            letter = sign_in_letter(
                site_name=self._site_name,
                account=account,
                network=network,
                link=self._new_link(conn, account, now_ms),
                created_ms=now_ms,
                expires_ms=now_ms + LINK_S * 1000,
            )
            self._mail.put(conn, letter)

        try:
            await self._db.write(write)
        except ImgproError as problem:
            log.warning("a sign-in link could not be made: %s", problem)
        except Exception:
            log.exception("a sign-in link could not be made")
        self._mail.wake()

    def _new_link(self, conn: Any, account: Account, now_ms: int) -> str:
        token = ids.new_token()
        link = Link(
            hash=ids.secret_hash(token), purpose="signin", account=account.seq, expires_ms=now_ms + LINK_S * 1000
        )
        queries_accounts.insert_link(conn, link, now_ms)
        return f"{self._home.base}/sign-in?t={token}"


def _owner(conn: Any, link: Link | None) -> Account:
    account = queries_accounts.account_by_seq(conn, link.account) if link and link.account is not None else None
    if account is None or account.blocked_ms is not None or not account.verified:
        raise NotFound(_ENDED, _ASK_AGAIN)
    return account


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
