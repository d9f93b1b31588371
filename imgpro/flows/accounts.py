"""Accounts and their keys: asking for one, proving whose address it is, listing and revoking keys.

Anybody can ask for a key under anybody's address, and it works at once. What keeps that harmless: until the owner of
the address confirms a key, it reaches only what it brought itself (`Principal.own_key_only`); confirming is done on the
page of the mailed link, which drops every other unconfirmed key unless the owner ticks it.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from imgpro import ids
from imgpro.errors import (
    Action,
    Forbidden,
    KeyLimitReached,
    NotFound,
    RateLimited,
    RegistrationClosed,
    ValidationError,
)
from imgpro.flows.home import Home
from imgpro.flows.hot import HotPictures
from imgpro.flows.keyring import KeyRing, still_usable
from imgpro.flows.letters import verification_letter
from imgpro.flows.mail import Mail
from imgpro.flows.rates import Window
from imgpro.flows.records import Records
from imgpro.model import Ability, Account, Caller, Key, Principal
from imgpro.plans import UNVERIFIED, Plan, PlanTable
from imgpro.settings import Accounts as AccountSettings
from imgpro.signing import Signer
from imgpro.store import queries, queries_accounts
from imgpro.store.db import Database
from imgpro.store.queries_accounts import Link, UnsettledKey

HOUR_S: Final = 3_600.0
_ASK_AGAIN: Final = Action("fix", label="Ask for a new link")


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request for a key. `email` may be absent where the caller has an account already."""

    email: str | None
    name: str = "Default"
    abilities: tuple[Ability, ...] = ("read", "write")
    namespace: str | None = None
    invitation: str | None = None


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A fresh key: `secret` is shown once and kept nowhere."""

    secret: str
    key: Key
    account: Account
    plan: Plan
    pending: bool


class Verification(msgspec.Struct, frozen=True):
    """What a mailed link is about: the account, the key it was sent for, and other keys nobody confirmed.

    Among the others are revoked ones that brought pictures.
    """

    account: Account
    key: Key | None
    others: tuple[UnsettledKey, ...]


class Verified(msgspec.Struct, frozen=True):
    """What came of it: the keys that stay, how many were dropped, and a first key where none was left."""

    account: Account
    kept: tuple[Key, ...]
    dropped: int
    secret: str | None


class Accounts:
    """All that is done with accounts and keys by their owners."""

    def __init__(
        self,
        settings: AccountSettings,
        site_name: str,
        plans: PlanTable,
        db: Database,
        ring: KeyRing,
        mail: Mail,
        signer: Signer,
        home: Home,
        records: Records,
        hot: HotPictures,
    ) -> None:
        self._plans = plans
        self._db = db
        self._ring = ring
        self._mail = mail
        self._signer = signer
        self._home = home
        self._records = records
        self._hot = hot
        self._per_address, self._per_network, self._per_account = (Window(None, HOUR_S) for _ in range(3))
        self.apply(settings, site_name)

    def apply(self, settings: AccountSettings, site_name: str) -> None:
        """Take other limits; what was counted stays."""
        self.settings, self._site_name = settings, site_name
        self._per_address.allow(settings.keys_per_address_per_hour)
        self._per_network.allow(settings.keys_per_network_per_hour)
        self._per_account.allow(settings.keys)

    # Keys

    async def register(self, request: KeyRequest, caller: Caller) -> Made:
        """Create a key, and its account if the address is new; mail the link that proves the address.

        Raises RateLimited, RegistrationClosed, KeyLimitReached, Forbidden.
        """
        if caller.principal is not None:
            return await self._add(request, caller.principal, caller.network)
        email = request.email or ""
        self._count(email, caller.network)
        secret, now_ms = ids.new_key(), _now_ms()

        def write(conn: Any) -> Made:
            account = queries_accounts.account_by_email(conn, email)
            if account is None:
                self._check_registration(conn, request, now_ms)
                account = queries_accounts.insert_account(conn, ids.new_account_id(), email, "member", now_ms)
            if account.blocked_ms is not None:
                raise Forbidden("This account was blocked by the operator of this server.")
            self._check_room(conn, account)
            key = self._insert(conn, request, account, secret, caller.network, now_ms, confirmed=False)
            self._mail_link(conn, account, key, now_ms)
            pending = account.verified
            # Whoever asks is not known to be the owner, and is not told what plan the owner has.
            plan = self.unverified_plan() if pending else self._plans.of(account)
            return Made(secret=secret, key=key, account=account, plan=plan, pending=pending)

        made = await self._db.write(write)
        self._mail.wake()
        return made

    async def _add(self, request: KeyRequest, principal: Principal, network: str) -> Made:
        """Add a key for somebody who has shown one: it is confirmed as far as theirs is."""
        if not (principal.may("read") and principal.may("write")):
            raise Forbidden("This key may not create keys.", Action("fix", label="Use a key that may read and write"))
        if request.email not in (None, principal.account.email):
            raise ValidationError(None, None, {"email": "Must be the address of the key's own account, or absent."})
        _take(self._per_account, principal.account.id, "Too many new keys in a short time.")
        secret, now_ms = ids.new_key(), _now_ms()

        def write(conn: Any) -> Made:
            now = still_usable(conn, principal)
            self._check_room(conn, now.account)
            confirmed = now.own_key_only is None
            key = self._insert(conn, request, now.account, secret, network, now_ms, confirmed=confirmed)
            return Made(secret=secret, key=key, account=now.account, plan=self._plans.of(now.account), pending=False)

        return await self._db.write(write)

    async def keys(self, principal: Principal) -> list[Key]:
        """Return the keys that this principal may know of, with the last use of each."""
        async with self._db.reader() as conn:
            found = await queries_accounts.keys_listed(conn, principal.account.seq)
        only = principal.own_key_only
        return [self._ring.with_last_use(key) for key in found if only is None or key.seq == only]

    async def revoke(self, principal: Principal, key_id: str) -> None:
        """Make a key useless at once and for ever. Raises NotFound."""
        key = next((key for key in await self.keys(principal) if key.id == key_id), None)
        if key is None:
            raise NotFound("There is no such key in this account.")
        now_ms = _now_ms()
        await self._db.write(lambda conn: queries_accounts.revoke_keys(conn, principal.account.seq, [key.seq], now_ms))
        self._ring.forget(principal.account.seq)

    async def send_again(self, caller: Caller, email: str | None) -> None:
        """Mail the link again: about the caller's own key, or about the account of an address.

        Says nothing of whether the address is known. Raises RateLimited.
        """
        principal = caller.principal
        address = principal.account.email if principal is not None else email or ""
        self._count(address, caller.network)
        now_ms = _now_ms()

        def write(conn: Any) -> None:
            account = queries_accounts.account_by_email(conn, address)
            if account is None or account.blocked_ms is not None:
                return
            key = principal.key if principal is not None else None
            unconfirmed = [k for k in queries_accounts.keys_of_account(conn, account.seq) if k.confirmed_ms is None]
            if key is not None and key.confirmed_ms is not None:
                key = None
            if not account.verified or unconfirmed:
                self._mail_link(conn, account, key, now_ms)

        await self._db.write(write)
        self._mail.wake()

    # The mailed link

    async def verification(self, query: Mapping[str, str]) -> Verification:
        """Return what a mailed link is about. Raises NotFound for one that is forged, ended or used."""
        hashed = self._link_hash(query)
        now_ms = _now_ms()

        def look(conn: Any) -> Verification:
            return _about(conn, queries_accounts.link_by_hash(conn, hashed, "verify", now_ms))

        return await self._db.write(look)

    async def verify(self, query: Mapping[str, str], keep: Iterable[str], caller: Caller) -> Verified:
        """Take the link's word: the address is the reader's, and so are its key and those named in `keep` (key ids).

        All other keys that nobody confirmed are dropped, and what they brought leaves the account. What the kept keys
        brought is from now on kept as the plan says. Where no key is left, a first one is made. Raises NotFound.
        """
        hashed = self._link_hash(query)
        wanted, secret, now_ms = set(keep), ids.new_key(), _now_ms()

        def write(conn: Any) -> Verified:
            about = _about(conn, queries_accounts.use_link(conn, hashed, "verify", now_ms))
            account = about.account
            mine = [about.key.seq] if about.key is not None else []
            mine += [other.key.seq for other in about.others if other.key.id in wanted]
            dropped = [other.key.seq for other in about.others if other.key.id not in wanted]
            confirmed = settle_verified(conn, account, mine, dropped, now_ms)
            if not confirmed:
                request = KeyRequest(email=account.email)
                key = self._insert(conn, request, account, secret, caller.network, now_ms, confirmed=True)
                return Verified(account, (key,), len(dropped), secret)
            return Verified(account, tuple(confirmed), len(dropped), None)

        verified = await self._db.write(write)
        self.forget(verified.account)
        return verified

    async def decline(self, query: Mapping[str, str]) -> None:
        """The reader did not ask for this key: drop it, and what it brought. Raises NotFound."""
        hashed = self._link_hash(query)
        now_ms = _now_ms()

        def write(conn: Any) -> Account:
            about = _about(conn, queries_accounts.use_link(conn, hashed, "verify", now_ms))
            if about.key is not None:
                drop_keys(conn, about.account, [about.key.seq], now_ms)
            return about.account

        self.forget(await self._db.write(write))

    def new_link(self, conn: Any, account: Account, key: Key | None, now_ms: int) -> str:
        """Keep a fresh link that verifies an account or confirms a key, and return it; call inside a transaction."""
        token = ids.new_token()
        expires_ms = now_ms + self.settings.verify_link_s * 1000
        seq = key.seq if key is not None else None
        link = Link(hash=ids.secret_hash(token), purpose="verify", account=account.seq, key=seq, expires_ms=expires_ms)
        queries_accounts.insert_link(conn, link, now_ms)
        return f"{self._home.base}/verify?{self._signer.query('verify', token, expires_ms // 1000)}"

    def _link_hash(self, query: Mapping[str, str]) -> bytes:
        if not self._signer.verify_query(query, "verify", time.time()):
            raise NotFound("This link has ended or was used already.", _ASK_AGAIN)
        return ids.secret_hash(query["t"])

    def _mail_link(self, conn: Any, account: Account, key: Key | None, now_ms: int) -> None:
        letter = verification_letter(
            site_name=self._site_name,
            account=account,
            key_name=key.name if key is not None else None,
            network=key.network if key is not None else None,
            link=self.new_link(conn, account, key, now_ms),
            created_ms=now_ms,
            expires_ms=now_ms + self.settings.verify_link_s * 1000,
        )
        self._mail.put(conn, letter)

    def forget(self, account: Account) -> None:
        """Drop what memory knows of an account whose pictures' ends have changed."""
        self._ring.forget(account.seq)
        self._records.clear()
        self._hot.clear()

    # Rules

    def _count(self, email: str, network: str) -> None:
        """Count a request that causes mail. Raises RateLimited."""
        words = "Too many requests for keys with this address or from this network."
        _refuse(max(self._per_address.wait_s(email), self._per_network.wait_s(network)), words)
        self._per_address.count(email)
        self._per_network.count(network)

    def _check_registration(self, conn: Any, request: KeyRequest, now_ms: int) -> None:
        mode = self.settings.registration
        if mode == "open":
            return
        if mode == "closed" or not request.invitation:
            words = "invites people itself" if mode == "invitation" else "takes no new accounts"
            raise RegistrationClosed(f"This server {words}.")
        link = queries_accounts.use_link(conn, ids.secret_hash(request.invitation), "invite", now_ms)
        if link is None or link.email not in (None, request.email):
            raise RegistrationClosed("This invitation was used, has ended, or is for another address.")

    def _check_room(self, conn: Any, account: Account) -> None:
        keys = queries_accounts.keys_of_account(conn, account.seq)
        if not account.verified and len(keys) >= self.settings.unverified_keys:
            raise KeyLimitReached()
        unconfirmed = sum(key.confirmed_ms is None for key in keys)
        if account.verified and (len(keys) >= self.settings.keys or unconfirmed >= self.settings.unverified_keys):
            raise KeyLimitReached(
                "This account has as many keys as it may have.",
                Action("redirect", url="/dashboard", label="Revoke a key in the dashboard first"),
            )

    @staticmethod
    def _insert(
        conn: Any, request: KeyRequest, account: Account, secret: str, network: str, now_ms: int, *, confirmed: bool
    ) -> Key:
        return queries_accounts.insert_key(
            conn,
            ids.new_key_id(),
            account.seq,
            ids.secret_hash(secret),
            request.name,
            request.abilities,
            request.namespace,
            network,
            now_ms,
            confirmed=confirmed,
        )

    def retention_days(self, account: Account) -> int | None:
        """Return how many days pictures are kept; None once the account is verified or where nothing ends."""
        kept_s = self._plans.of(account).retention_s
        return None if kept_s is None else max(1, kept_s // 86_400)

    def unverified_plan(self) -> Plan:
        """Return what an account may do before its address is verified."""
        return self._plans.named(UNVERIFIED)


def _take(window: Window, subject: str, words: str) -> None:
    _refuse(window.wait_s(subject), words)
    window.count(subject)


def _refuse(wait_s: float, words: str) -> None:
    if wait_s > 0:
        seconds = max(1, math.ceil(wait_s))
        raise RateLimited(words, Action("wait", label=f"Try again in {seconds} seconds", seconds=seconds))


def settle_verified(conn: Any, account: Account, mine: Sequence[int], dropped: Iterable[int], now_ms: int) -> list[Key]:
    """Note that an address is its owner's, and which keys (seq) are; return the keys that are left.

    What those brought, and what revoked ones among `mine` brought, ends from now on only when its uploader wanted it.
    """
    queries_accounts.set_verified(conn, account.seq, now_ms)
    queries_accounts.confirm_keys(conn, account.seq, mine, now_ms)
    drop_keys(conn, account, dropped, now_ms)
    queries_accounts.delete_links(conn, "verify", account.seq)  # all is said
    left = queries_accounts.keys_of_account(conn, account.seq)
    queries_accounts.make_permanent(conn, account.seq, [*mine, *(key.seq for key in left)])
    return left


def drop_keys(conn: Any, account: Account, keys: Iterable[int], now_ms: int) -> None:
    """Revoke keys (seq) of strangers, and take out of the account what they brought and used up."""
    for key in keys:
        queries_accounts.revoke_keys(conn, account.seq, [key], now_ms)
        queries_accounts.forget_uploads(conn, account.seq, key)
        queries.disown_images(conn, key)


def _about(conn: Any, link: Link | None) -> Verification:
    account = queries_accounts.account_by_seq(conn, link.account) if link and link.account is not None else None
    if link is None or account is None or account.blocked_ms is not None:
        raise NotFound("This link has ended or was used already.", _ASK_AGAIN)
    keys = queries_accounts.keys_of_account(conn, account.seq)
    key = next((key for key in keys if key.seq == link.key), None)
    if link.key is not None and key is None:
        raise NotFound("The key that this link is about was revoked.", _ASK_AGAIN)
    others = tuple(other for other in queries_accounts.unsettled_keys(conn, account.seq) if other.key != key)
    return Verification(account, key, others)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
