"""Builds every part in order and closes them in reverse. No other behaviour lives here."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from imgpro import __version__
from imgpro.errors import ImgproError, WorkersUnusable
from imgpro.flows.accounts import Accounts
from imgpro.flows.archive import Archives
from imgpro.flows.browse import Browse
from imgpro.flows.change import Change
from imgpro.flows.events import Events
from imgpro.flows.fetch import Fetcher
from imgpro.flows.home import Home
from imgpro.flows.hot import HotPictures
from imgpro.flows.importing import Importing
from imgpro.flows.ingest import Ingest
from imgpro.flows.keyring import KeyRing
from imgpro.flows.log_lines import LogLines
from imgpro.flows.mail import Mail
from imgpro.flows.making import Making
from imgpro.flows.operate import Operate
from imgpro.flows.overview import Overview
from imgpro.flows.quota import Quota
from imgpro.flows.records import Records
from imgpro.flows.remove import Remove
from imgpro.flows.replays import Replays
from imgpro.flows.serve import Serve
from imgpro.flows.sessions import Sessions
from imgpro.flows.sign_in import SignIn
from imgpro.flows.tickets import Tickets
from imgpro.flows.upgrades import Upgrades
from imgpro.flows.upkeep import Upkeep
from imgpro.imaging.children import ChildGone
from imgpro.imaging.pool import Pool, PoolSettings
from imgpro.model import Limits
from imgpro.plans import PlanTable
from imgpro.settings import Imaging, Settings, Uploads
from imgpro.signing import Signer
from imgpro.store.blobs import BlobStore
from imgpro.store.db import Database
from imgpro.store.derivs import DerivativeCache
from imgpro.store.layout import DataDir


class Appliance:
    """All parts of one running server. Make it with `Appliance.start`, end it with `close`."""

    def __init__(self, settings: Settings, data: DataDir, db: Database, pool: Pool) -> None:
        self.settings = settings
        self.data = data
        self.db = db
        self.pool = pool
        self.draining = False
        self.sources: Mapping[str, str] = {}
        self.log_lines = LogLines()
        self.signer = Signer(data.secret)
        self.blobs = BlobStore(data, settings.storage.reserve_bytes)
        self.derivs = DerivativeCache(data.cache, data.tmp, settings.cache.max_bytes, self._disk_has_room)
        self.derivs.start()
        self.records = Records(db, settings.cache.records)
        self.hot = HotPictures(settings.cache.memory_bytes, settings.cache.memory_item_bytes)
        self.events = Events()
        making = Making()
        self.remove = Remove(db, self.blobs, self.derivs, self.records, self.hot, making, data.ballast, self.events)
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
        )
        self.serve = Serve(self.blobs, self.derivs, pool, self.records, self.hot, self.signer, making)
        self.fetcher = Fetcher(settings.imports)
        self.importing = Importing(self.fetcher, self.ingest, self.quota)
        self.change = Change(db, self.records, self.hot, self.remove, self.quota, self.events)
        self.browse = Browse(db, self.signer)
        self.archives = Archives(self.browse, self.records, self.blobs)
        self.replays = Replays(db)
        self.tickets = Tickets(db)
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

    @classmethod
    async def start(
        cls,
        settings: Settings,
        data_path: Path,
        *,
        serving: bool = True,
        sources: Mapping[str, str] | None = None,
        log_lines: LogLines | None = None,
    ) -> "Appliance":
        """Open the data directory, the database, the cache and the workers.

        `sources` and `log_lines` are for the operator to see: where each setting came from, and the log's last lines.
        Without `serving` neither workers nor mail are started: enough for the operator's commands.
        Raises DataDirMissing, DataDirLocked, DataUnusable, StorageFault, WorkersUnusable, ConfigError.
        """
        async with contextlib.AsyncExitStack() as parts:
            data = DataDir.open(data_path, _database_dir(settings))
            parts.callback(data.close)
            db = await Database.open(data.database, data.backups, data.instance_id, __version__)
            parts.push_async_callback(db.close)
            pool = Pool(pool_settings(settings.imaging, settings.uploads))
            parts.push_async_callback(pool.close)
            if serving:
                try:
                    await pool.start()
                except ChildGone:
                    raise WorkersUnusable() from None
            appliance = cls(settings, data, db, pool)
            appliance.sources = sources or {}
            appliance.log_lines = log_lines or appliance.log_lines
            await appliance.upkeep.keep_ballast()
            if serving:
                await appliance.mail.start()
            parts.pop_all()
        return appliance

    def drain(self) -> None:
        """Say that the server stops: what has no end of its own ends, and nothing like it begins."""
        self.draining = True
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
            parts.push_async_callback(self.sign_in.close)
            parts.push_async_callback(self.mail.stop)

    async def readiness(self) -> dict[str, bool]:
        """Return what must hold for the server to be useful, by name."""
        return {
            "serving": not self.draining,
            "database": await self._database_writes(),
            "disk": self._disk_has_room(),
            "workers": self.pool.status().workers > 0,
        }

    async def _database_writes(self) -> bool:
        try:
            await self.db.ping()
        except ImgproError:
            return False
        return True

    def _disk_has_room(self) -> bool:
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
