"""Taking a picture over from elsewhere: the way of an upload, without limits, and with what only an import may say.

When it was made, under which id, whose it is, and which old addresses lead to it is written in the transaction that
stores it, together with where it came from: whatever breaks off, nothing comes twice.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from imgpro import ids
from imgpro.errors import Action, FetchFailed, FetchTimedOut, NotFound, ValidationError
from imgpro.flows.courtesy import Courtesy
from imgpro.flows.email_address import parse_email
from imgpro.flows.fetch import Fetcher
from imgpro.flows.fitting import fit_name
from imgpro.flows.ingest import Ingest, Upload
from imgpro.flows.old_links import OldLinks, as_kept
from imgpro.ids import IMAGE_ID
from imgpro.model import Account, Blob, Caller, Image, OldLink, UploadOptions
from imgpro.plans import PlanTable
from imgpro.recipes import SRC_EXTENSION
from imgpro.store import queries, queries_accounts, queries_moving
from imgpro.store.db import Database

NETWORK: Final = "import"  # that places are counted by: an import leaves some to others
NOBODY: Final = "nobody"
LAST_MS: Final = 253_402_300_799_999  # the end of the year 9999: no page could show what comes after it

Outcome = Literal["brought", "there"]


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """One picture and all that is said of it. `source` and `item` tell where it is from; `account` is a mail address,
    None for nobody's. With `url` the server fetches it, else its bytes come along. Times are Unix ms."""

    source: str
    item: str
    account: str | None
    url: str = ""
    name: str = ""
    created_ms: int | None = None  # None: now
    wanted_end_ms: int | None = None
    description: str = ""
    public: bool = True
    display_date: str | None = None
    namespace: str | None = None
    tags: tuple[str, ...] = ()
    old_links: tuple[OldLink, ...] = ()
    id: str = ""
    origin: Literal["upload", "import"] = "import"
    metadata_removed: tuple[str, ...] = ()


class Brought(msgspec.Struct, frozen=True):
    """What became of one: the picture's id, and in sentences what is not as it was asked for."""

    outcome: Outcome
    id: str
    notes: tuple[str, ...] = ()


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked about before a picture is sent. Fields as in `Incoming`; `digest` is the file's, "" if unknown."""

    item: str
    account: str | None
    id: str = ""
    digest: str = ""
    links: tuple[OldLink, ...] = ()


class BringIn(msgspec.Struct):
    """Takes pictures over. One for the appliance."""

    db: Database
    ingest: Ingest
    fetcher: Fetcher
    plans: PlanTable
    old_links: OldLinks
    courtesy: Courtesy
    # Whether a path is one of this server's own; the web side knows.
    is_ours: Callable[[str], bool] = lambda _path: False

    async def take(self, incoming: Incoming, chunks: AsyncIterator[bytes]) -> Brought:
        """Store a picture. Returning means that it survives a power cut.

        Raises what an upload raises, ValidationError for what cannot be so, NotFound for an account that is not there,
        FetchFailed whose details say what was answered.
        """
        account = await self._account(incoming.account)
        async with Arrival(self, incoming, account) as arrival:
            name = await self._fetch(incoming.url, arrival) if incoming.url else ""
            if not incoming.url:
                async for chunk in chunks:
                    await arrival.write(chunk)
            try:
                async with self.courtesy.turn() as arrival.aside:
                    image = await arrival.commit(UploadOptions(), incoming.name or name)
            except ComeBefore as before:
                return Brought("there", before.image_id)
        assert isinstance(image, Image)  # bytes are for repeated requests
        if incoming.old_links:
            self.old_links.added()
        return Brought("brought", image.id, tuple(arrival.notes))

    async def look(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Tell of some pictures of `source` which are there already, and what can be said before they are sent.

        `items` are like `Asked`. Raises ValidationError.
        """
        source, asked = _asked(values)
        async with self.courtesy.turn():
            accounts = {email: await self._found(email) for email in dict.fromkeys(each.account for each in asked)}
            there, known = await self._there(source, asked, accounts)
            links = await self._links(asked)
        rows = []
        for each in asked:
            account = accounts[each.account]
            problem = _unwelcome(each.account, account) if each.account is not None else ""
            row = {"there": there.get(each.item), "known": each.digest in known, "problem": problem}
            rows.append({**row, "notes": links.get(each.item, [])})
        return {"items": rows, "max_bytes": self.ingest.settings.max_bytes, "fetches": self.fetcher.enabled}

    async def add_links(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Have old addresses lead to pictures that came without them; return how many. Values as for `look`."""
        source, asked = _asked(values)
        accounts = {email: await self._found(email) for email in dict.fromkeys(each.account for each in asked)}
        there, _ = await self._there(source, asked, accounts)
        wanted = [
            (there[each.item], link) for each in asked if each.item in there
            for link in each.links if not self._against(link.path)
        ]  # fmt: skip

        def write(conn: Any) -> int:
            return sum(queries_moving.add_old_link_to(conn, link, image_id) for image_id, link in wanted)

        added = await self.db.write(write)
        if added:
            self.old_links.added()
        return {"added": added}

    async def add_accounts(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Make accounts for addresses that have none, verified by the operator's word; return which were made."""
        try:
            emails = [parse_email(str(email)) for email in values.get("emails", [])]
        except ValueError as problem:
            raise ValidationError(str(problem)) from None
        now_ms = _now_ms()

        def write(conn: Any) -> list[str]:
            made = []
            for email in emails:
                if queries_accounts.account_by_email(conn, email) is None:
                    queries_accounts.insert_account(conn, ids.new_account_id(), email, "member", now_ms, verified=True)
                    made.append(email)
            return made

        return {"made": await self.db.write(write)}

    async def _there(
        self, source: str, asked: list[Asked], accounts: Mapping[str | None, Account | None]
    ) -> tuple[dict[str, str], set[str]]:
        """Return the ids of the pictures that items have become, or are; and the digests that are known."""
        found: dict[str, str] = {}
        async with self.db.reader() as conn:
            for email, account in accounts.items():
                items = [each.item for each in asked if each.account == email]
                if account is not None or email is None:
                    found |= await queries_moving.brought_items(conn, source_for(source, account), items)
            digests = await queries_moving.digests_of(conn, [each.id for each in asked if each.id and each.digest])
            known = await queries_moving.known_digests(conn, [each.digest for each in asked if each.digest])
        same = {each.item: each.id for each in asked if each.id and digests.get(each.id) == each.digest}
        return same | found, known

    async def _links(self, asked: list[Asked]) -> dict[str, list[str]]:
        """Return what stands against old addresses, by item: sentences."""
        notes: dict[str, list[str]] = {}
        wanted = [(each.item, link.path) for each in asked for link in each.links]
        async with self.db.reader() as conn:
            taken = {led.path: led.image for led in await queries_moving.led(conn, [link for _, link in wanted])}
        for item, link in wanted:
            if problem := self._against(link):
                notes.setdefault(item, []).append(problem)
            elif link in taken:
                notes.setdefault(item, []).append(_taken(link))
        return notes

    def _against(self, link: str) -> str:
        """Return why an old address cannot be kept, "" where it can."""
        if as_kept(link) != link:
            return f"{link} is not a path that can be kept."
        path = link.partition("?")[0]
        return f"{path} stays as it is: it is one of this server's own." if self.is_ours(path) else ""

    async def _fetch(self, url: str, arrival: "Arrival") -> str:
        """Fetch the picture at `url` and return the name that its address suggests."""
        try:
            async with self.fetcher.open(url, self.ingest.settings.max_bytes) as fetched:
                async for chunk in fetched.chunks:
                    await arrival.write(chunk)
                return fetched.name
        except ValidationError as problem:
            # To a stranger all that cannot be reached looks alike; who may speak here may know.
            raise ValidationError(" ".join(filter(None, (problem.message, problem.why)))) from None
        except FetchFailed as problem:
            slow = isinstance(problem, FetchTimedOut)
            problem.details = {"answered": "slowly" if slow else str(problem.answered), "wait_s": str(problem.wait_s)}
            raise

    async def _found(self, email: str | None) -> Account | None:
        if email is None:
            return None
        async with self.db.reader() as conn:
            return await queries_accounts.account_at(conn, email)

    async def _account(self, email: str | None) -> Account | None:
        account = await self._found(email)
        if email is not None and (problem := _unwelcome(email, account)):
            raise NotFound(problem, Action("fix", label="--add-accounts makes it, or --to EMAIL names another"))
        return account


class ComeBefore(Exception):
    """The same item was brought before."""

    def __init__(self, image_id: str) -> None:
        super().__init__(image_id)
        self.image_id = image_id


class Arrival(Upload):
    """An upload that an import brings. `notes` say what is not as it was asked for."""

    _not_stored = (*Upload._not_stored, ComeBefore, ValidationError)

    def __init__(self, bring_in: BringIn, incoming: Incoming, account: Account | None) -> None:
        super().__init__(bring_in.ingest, Caller(NETWORK), "import", None, None)
        self._bring_in = bring_in
        self._incoming = incoming
        self._account = account
        self.notes: list[str] = []

    async def _admit(self) -> None:
        """Let it in: the operator's word is above all limits."""

    def _max_bytes(self) -> int:
        return self._ingest.settings.max_bytes

    async def _record(self, blob: Blob, removed: tuple[str, ...], _options: UploadOptions, client_name: str) -> Image:
        image = self._made(blob, removed, client_name)
        now_ms = _now_ms()
        image, notes = await self._ingest.db.write(lambda conn: self._write(conn, image, now_ms))
        self.notes += notes
        return image

    def _write(self, conn: Any, image: Image, now_ms: int) -> tuple[Image, list[str]]:
        """Store the row and all that goes with it, in one transaction. Raises ComeBefore."""
        incoming, notes = self._incoming, []
        source = source_for(incoming.source, self._account)
        before = queries_moving.brought(conn, source, incoming.item)
        if before is not None:
            raise ComeBefore(before)
        taken_by = queries_moving.digest_of(conn, image.id)
        if taken_by == image.blob.digest:
            raise ComeBefore(image.id)
        if taken_by is not None:
            notes.append(f"The id {image.id} is another picture's here; it has a new one.")
            image = msgspec.structs.replace(image, id=ids.new_image_id())
        if self._account is not None:
            now = queries_accounts.account_by_seq(conn, self._account.seq)
            if problem := _unwelcome(self._account.email, now):
                raise ValidationError(problem)
        seq = queries.insert_image(conn, image, None, blob_ms=now_ms)
        queries_moving.note_brought(conn, source, incoming.item, seq)
        for link in incoming.old_links:
            if problem := self._bring_in._against(link.path):
                notes.append(problem)
            elif not queries_moving.add_old_link(conn, link, seq):
                notes.append(_taken(link.path))
        return image, notes

    def _made(self, blob: Blob, removed: tuple[str, ...], client_name: str) -> Image:
        incoming, account, now_ms = self._incoming, self._account, _now_ms()
        created_ms = incoming.created_ms or now_ms
        if created_ms > now_ms or created_ms < 0:
            self.notes.append("Its date lies in the future, or before 1970; it is dated today.")
            created_ms = now_ms
        wanted_end_ms = incoming.wanted_end_ms
        if wanted_end_ms is not None and wanted_end_ms > LAST_MS:
            self.notes.append("Its end lies beyond the year 9999; it was dropped.")
            wanted_end_ms = None
        plan = None if account is None else self._bring_in.plans.of(account)
        expires_ms = queries.end_ms(created_ms, wanted_end_ms, None if plan is None else plan.retention_s)
        if expires_ms is not None and expires_ms <= now_ms:
            raise ValidationError("It has ended already: it was to be kept until then, or its account keeps no longer.")
        image_id = incoming.id if IMAGE_ID.fullmatch(incoming.id) else ids.new_image_id()
        return Image(
            id=image_id,
            blob=blob,
            name=fit_name(client_name, []) or f"{image_id}.{SRC_EXTENSION[blob.format]}",
            description=incoming.description,
            public=incoming.public,
            created_ms=created_ms,
            expires_ms=expires_ms,
            display_date=incoming.display_date,
            origin=incoming.origin,
            metadata_removed=tuple(dict.fromkeys((*incoming.metadata_removed, *removed))),
            wanted_end_ms=wanted_end_ms,
            account=None if account is None else account.seq,
            namespace=None if account is None else incoming.namespace,
            tags=() if account is None else incoming.tags,
        )


def _asked(values: Mapping[str, Any]) -> tuple[str, list[Asked]]:
    try:
        return msgspec.convert((values["source"], values.get("items", [])), tuple[str, list[Asked]])
    except (KeyError, msgspec.ValidationError) as error:
        raise ValidationError(f"That cannot be answered: {error}.") from None


def source_for(source: str, account: Account | None) -> str:
    """Return what an import is known by: the same picture may come for several people."""
    return f"{source} > {NOBODY if account is None else account.id}"


def _unwelcome(email: str | None, account: Account | None) -> str:
    """Return why pictures cannot go to an account, "" where they can."""
    if account is None:
        return f"There is no account {email} here."
    return f"The account {email} is blocked." if account.blocked_ms is not None else ""


def _taken(link: str) -> str:
    return f"{link} leads to another picture already."


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
