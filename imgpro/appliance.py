"""Builds every part in order and closes them in reverse. No other behaviour lives here."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from imgpro import __version__
from imgpro.errors import ImgproError, WorkersUnusable
from imgpro.flows.accounts import Accounts
from imgpro.flows.archive import Archives
from imgpro.flows.backups import Backups
from imgpro.flows.bring_in import BringIn
from imgpro.flows.browse import Browse
from imgpro.flows.change import Change
from imgpro.flows.checkup import Checkup
from imgpro.flows.courtesy import Courtesy
from imgpro.flows.errands import Errands
from imgpro.flows.events import Events
from imgpro.flows.fetch import Fetcher
from imgpro.flows.figures import Figures
from imgpro.flows.healing import Healing
from imgpro.flows.home import Home
from imgpro.flows.hot import HotPictures
from imgpro.flows.importing import Importing
from imgpro.flows.ingest import Ingest
from imgpro.flows.journal import Journaling
from imgpro.flows.keeping import Keeping
from imgpro.flows.keyring import KeyRing
from imgpro.flows.leaving import Leaving
from imgpro.flows.live import Difference
from imgpro.flows.log_lines import LogLines
from imgpro.flows.mail import Mail
from imgpro.flows.making import Making
from imgpro.flows.old_links import OldLinks
from imgpro.flows.operate import Operate
from imgpro.flows.overview import Overview
from imgpro.flows.quota import Quota
from imgpro.flows.readiness import Readiness
from imgpro.flows.records import Records
from imgpro.flows.remove import Remove
from imgpro.flows.replays import Replays
from imgpro.flows.retention import Retention
from imgpro.flows.retention_commands import RetentionCommands
from imgpro.flows.scrub import Scrub
from imgpro.flows.serve import Serve
from imgpro.flows.sessions import Sessions
from imgpro.flows.sign_in import SignIn
from imgpro.flows.tickets import Tickets
from imgpro.flows.traces import Traces
from imgpro.flows.upgrades import Upgrades
from imgpro.flows.upkeep import Upkeep
from imgpro.flows.vouched import Vouched
from imgpro.flows.watch_room import RoomWatch
from imgpro.imaging.children import ChildGone
from imgpro.imaging.pool import Pool, PoolSettings
from imgpro.model import Limits
from imgpro.plans import PlanTable
from imgpro.settings import Imaging, Settings, Uploads
from imgpro.signing import Signer
from imgpro.store import journal_ahead, side_process
from imgpro.store.blobs import BlobStore
from imgpro.store.db import Database
from imgpro.store.derivs import DerivativeCache
from imgpro.store.journal import Journal
from imgpro.store.known import KnownData
from imgpro.store.layout import DataDir
from imgpro.store.quarantine import Quarantine


class Appliance:
    """All parts of one running server. Make it with `Appliance.start`, end it with `close`."""

    def __init__(self, settings: Settings, data: DataDir, db: Database, pool: Pool, journal: Journal) -> None:
        self.settings = settings
        self.data = data
        self.db = db
        self.pool = pool
        self.journal = Journaling(db, data, journal)
        self.sources: Mapping[str, str] = {}
        self.waiting: tuple[Difference, ...] = ()  # settings that were read again, and need a restart
        self.followers: list[Callable[[Settings], None]] = []  # of the layers above: called after every `apply`
        self.log_lines = LogLines()
        self.signer = Signer(data.secret)
        self.blobs = BlobStore(data, lambda: self.settings.storage.reserve_bytes)
        self.derivs = DerivativeCache(data.cache, data.tmp, settings.cache.max_bytes, self._may_cache)
        self.room = RoomWatch(settings.storage, data, self.blobs, self.derivs)
        db.give_room = data.ballast.release
        self.derivs.start()
        self.records = Records(db, settings.cache.records)
        self.courtesy = Courtesy()
        self.hot = HotPictures(settings.cache.memory_bytes, settings.cache.memory_item_bytes)
        self.events = Events()
        making = Making()
        quarantine = Quarantine(data)
        self.healing = Healing(db, self.blobs, self.derivs, self.hot, making, quarantine)
        self.remove = Remove(
            db, self.blobs, self.derivs, self.records, self.hot, making, data.ballast, self.events, quarantine
        )
        self._build_accounts()
        self.ingest = Ingest(
            settings.uploads,
            db,
            self.blobs,
            self.derivs,
            pool,
            self.quota,
            self.records,
            self.hot,
            self.remove,
            self.events,
            self.room,
        )
        self.serve = Serve(self.blobs, self.derivs, pool, self.records, self.hot, self.signer, making)
        self._build_members_work()
        self.operate = Operate(
            db,
            self.ring,
            self.accounts,
            self.upgrades,
            self.plans,
            self.mail,
            self.remove,
            self.home,
            self.sign_in,
        )
        self.overview = Overview(settings, db, data, self.derivs, self.ring)
        self.upkeep = Upkeep(db, self.blobs, self.derivs, self.remove, self.ring)
        self._build_keeping()
        self.readiness = Readiness(db, self.room, pool, self.mail, self.keeping)
        self.figures = Figures(data, db, self.derivs, pool, self.ingest, self.serve, self.room, self.keeping)

    def _build_members_work(self) -> None:
        """Build what people do with pictures that are there, or somewhere else still."""
        self.fetcher = Fetcher(self.settings.imports)
        self.importing = Importing(self.fetcher, self.ingest, self.quota)
        self.change = Change(self.db, self.records, self.hot, self.remove, self.quota, self.events)
        self.browse = Browse(self.db, self.signer)
        self.archives = Archives(self.browse, self.records, self.blobs)
        self.replays = Replays(self.db)
        self.tickets = Tickets(self.db)

    def _build_keeping(self) -> None:
        """Build what looks after the data: long work that the operator or the clock asks for."""
        self.errands = Errands()
        self.errands.offer("journal-renew", self.journal.errand)
        self.traces = Traces(self.db, self.data)
        self.leaving = Leaving(self.db, self.ring, self.remove, self.traces, self.journal, lambda: self.log_lines)
        self.operate.offer("delete-look", self.leaving.look)
        self.errands.offer("delete-account", self.leaving.carry_out)
        self.retention = Retention(self.db, self.remove, self.upkeep)
        RetentionCommands(self.retention, self.home, self.operate)
        self.serve.suspect = self.archives.suspect = self.healing.suspect
        self.scrub = Scrub(self.settings.scrub, self.db, self.blobs, self.healing)
        self.errands.offer("scrub", self.scrub.errand)
        self.checkup = Checkup(self.db, self.blobs, self.derivs, self.remove, self.healing, self.scrub, self.journal)
        self.errands.offer("check", self.checkup.errand)
        self.backups = Backups(
            lambda: self.settings.backup, self.db, self.data, self.errands, __version__, self.healing.suspect
        )
        self.healing.fetch = self.backups.fetch
        self.keeping = Keeping(self.db, self.backups, self.journal, lambda: self.settings.scrub)
        self.old_links = OldLinks(self.db)
        self.bring_in = BringIn(self.db, self.ingest, self.fetcher, self.plans, self.old_links, self.courtesy)
        self.operate.offer("bring-in-look", self.bring_in.look)
        self.operate.offer("bring-in-accounts", self.bring_in.add_accounts)
        self.operate.offer("bring-in-links", self.bring_in.add_links)

    def _build_accounts(self) -> None:
        """Build what knows who may do what."""
        settings, db, site_name = self.settings, self.db, self.settings.pages.site_name
        self.home = Home(settings.server.base_url)
        self.plans = PlanTable(settings.plans)
        self.ring = KeyRing(db, self.events, settings.accounts.session_s)
        self.sessions = Sessions(settings.accounts.session_s, db, self.ring, self.events)
        self.mail = Mail(settings.mail, db)
        self.upgrades = Upgrades(
            settings.plans, site_name, self.plans, db, self.ring, self.mail, self.signer, self.home
        )
        self.quota = Quota(
            settings.anonymous,
            settings.imports.per_hour,
            settings.accounts.requests_per_minute,
            self.plans,
            self.upgrades,
            db,
        )
        self.accounts = Accounts(
            settings.accounts,
            site_name,
            self.plans,
            db,
            self.ring,
            self.mail,
            self.signer,
            self.home,
            self.records,
            self.hot,
        )
        self.sign_in = SignIn(settings.accounts, site_name, db, self.mail, self.home)
        self.vouched = Vouched(db, self.ring)

    @classmethod
    async def start(
        cls,
        settings: Settings,
        data_path: Path,
        *,
        serving: bool = True,
        workers: bool = False,
        sources: Mapping[str, str] | None = None,
        log_lines: LogLines | None = None,
        known: KnownData | None = None,
        accept: bool = False,
    ) -> "Appliance":
        """Open the data directory, the database, the cache and the workers.

        `sources` and `log_lines` are for the operator to see: where each setting came from, and the log's last lines.
        `known` and `accept` are as for `DataDir.open`.
        Without `serving` neither workers nor mail are started: enough for the operator's commands, but for those that
        take or make pictures and ask for `workers`.
        Raises DataDirMissing, DataDirLocked, DataUnusable, StorageFault, WorkersUnusable, ConfigError.
        """
        async with contextlib.AsyncExitStack() as parts:
            data = DataDir.open(data_path, _database_dir(settings), known=known, accept=accept)
            parts.callback(data.close)
            place = (data.database, data.journal, data.instance_id)
            await asyncio.to_thread(journal_ahead.settle, *place, accept=accept)
            journal = Journal(data.journal, data.instance_id)
            db = await Database.open(data.database, data.backups, data.instance_id, __version__, follower=journal)
            parts.push_async_callback(db.close)
            data.remember()
            pool = Pool(pool_settings(settings.imaging, settings.uploads))
            parts.push_async_callback(pool.close)
            if serving or workers:
                try:
                    await pool.start()
                except ChildGone:
                    raise WorkersUnusable() from None
            appliance = cls(settings, data, db, pool, journal)
            appliance.sources = sources or {}
            appliance.log_lines = log_lines or appliance.log_lines
            await appliance.room.look()
            if serving:
                side_process.stand_back()
                await appliance.mail.start()
            parts.pop_all()
        return appliance

    def apply(self, settings: Settings) -> None:
        """Put other settings in force: all at once, between two steps of any request. Those that cannot change while
        the server runs (`flows.live`) must be as they are; mail has its own way (`Mail.prepare`).
        """
        site_name = settings.pages.site_name
        self.settings = settings
        self.derivs.resize(settings.cache.max_bytes)
        self.records.resize(settings.cache.records)
        self.hot.resize(settings.cache.memory_bytes, settings.cache.memory_item_bytes)
        self.plans.apply(settings.plans)
        self.ring.apply(settings.accounts.session_s)
        self.sessions.session_s = settings.accounts.session_s
        self.upgrades.apply(settings.plans, site_name)
        self.quota.apply(settings.anonymous, settings.imports.per_hour, settings.accounts.requests_per_minute)
        self.accounts.apply(settings.accounts, site_name)
        self.sign_in.apply(settings.accounts, site_name)
        self.ingest.apply(settings.uploads)
        self.fetcher.apply(settings.imports)
        self.overview.apply(settings)
        self.room.apply(settings.storage)
        self.scrub.apply(settings.scrub)
        for follow in self.followers:
            follow(settings)

    def drain(self) -> None:
        """Say that the server stops: what has no end of its own ends, and nothing like it begins."""
        self.readiness.draining = True
        self.events.close()

    async def close(self) -> None:
        """End everything that `start` began; what was acknowledged is on disk already.

        One part that cannot be ended well does not keep the others from it.
        """
        async with contextlib.AsyncExitStack() as parts:
            parts.callback(self.data.close)
            for close in (self.db.close, self.blobs.close, self.derivs.close, self.pool.close, self.serve.drain):
                parts.push_async_callback(close)
            parts.push_async_callback(self.ring.note_uses)
            parts.push_async_callback(self.healing.close)
            parts.push_async_callback(self.leaving.close)
            parts.push_async_callback(self.errands.close)
            parts.push_async_callback(self.sign_in.close)
            parts.push_async_callback(self.mail.stop)

    def _may_cache(self) -> bool:
        """Tell, in the cache's thread, whether a derivative may be written now."""
        if not self.room.may_cache:
            return False
        try:
            self.blobs.check_room()
        except ImgproError:
            return False
        return True


def _database_dir(settings: Settings) -> Path | None:
    chosen = settings.storage.database_dir
    return Path(chosen).expanduser() if chosen else None


def pool_settings(imaging: Imaging, uploads: Uploads) -> PoolSettings:
    """Translate the `imaging` section into what the workers are told."""
    return PoolSettings(
        workers=imaging.workers,
        worker_memory_bytes=imaging.worker_memory_bytes,
        deadline_s=imaging.deadline_s,
        max_queued=imaging.max_queued,
        limits=Limits(
            max_pixels=imaging.max_pixels,
            max_side_px=imaging.max_side_px,
            max_frames=imaging.max_frames,
            max_frame_pixels=imaging.max_frame_pixels,
            max_svg_bytes=uploads.svg_max_bytes,
            svg=imaging.svg,
            heic=imaging.heic,
        ),
    )
