"""The place for backups that is a bucket of an S3-compatible object store. Knows nothing of what the files mean."""

import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError
from obstore.store import S3Store

from imgpro.errors import Action, OperatorError, TargetFault
from imgpro.settings import Backup
from imgpro.store import s3_faults, s3_marks, s3_settings
from imgpro.store.target import CHUNK_BYTES, Absent, Item, Lock, process_locks

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential, S3CredentialProvider

T = TypeVar("T")

# No store takes smaller parts, and a slow line carries one within BULK_S. A file has at most 10,000 of them.
PART_BYTES: Final = 5 * 1024 * 1024
_MOST_PARTS: Final = 9_000
_PARTS_AT_ONCE: Final = 2  # they lie in memory
_PIECE_BYTES: Final = 8 * 1024 * 1024  # larger files are read in several requests: a request has a deadline
_PAGE: Final = 1_000  # names in one answer, and in one request to delete
CONNECT_S: Final = 5
ANSWER_S: Final = 30
BULK_S: Final = 300
_UNLOCK_S: Final = 2.0  # for a stop
_LOOK_S: Final = 0.5  # how often a call under way looks whether it was broken off


class S3Target:
    """`s3://bucket/folder` of the store that the settings name. Nothing is asked of it before it is used.

    A file is seen at once and as a whole, and durable as soon as it is seen, so `flush` has only deletions to do.
    Raises ConfigError for settings that cannot be meant.
    """

    parallel = 6  # most of the time goes by waiting for answers; each has two or three parts in memory

    def __init__(self, place: str, settings: Backup) -> None:
        self._bucket, self._folder = s3_settings.parts(place)
        self._name = f"s3://{self._bucket}" + (f"/{self._folder}" if self._folder else "")
        self._endpoint = s3_settings.endpoint(settings)
        self._store_name = self._endpoint or f"Amazon S3 ({settings.s3_region})"
        s3_settings.check_credentials(settings)
        self._settings = settings
        self._guard = threading.Lock()
        self._doomed: dict[str, None] = {}  # names to delete, in their order
        self._seen = False  # the bucket is there
        self._aborted = threading.Event()
        self._left: list[threading.Thread] = []  # calls that nobody waits for any more
        self._marks: dict[str, s3_marks.Mark] = {}  # that are held, by name

    # Made when they are needed: reading certificates takes milliseconds, and who only wants the name waits for none.

    @functools.cached_property
    def _quick(self) -> S3Store:
        return self._client(ANSWER_S, tries=3, patience_s=30)

    @functools.cached_property
    def _bulk(self) -> S3Store:
        return self._client(BULK_S, tries=6, patience_s=180)

    def describe(self) -> str:
        """Return the place as its user wrote it."""
        return self._name

    def put(self, name: str, chunks: Iterable[bytes], size: int) -> None:
        """Write a file, a large one in parts; see `Target`. A process that is killed leaves parts that nobody sees."""
        with self._guard:
            self._doomed.pop(name, None)
        if size <= PART_BYTES:
            content = b"".join(chunks)
            with self._faults(f"writing {name}"):
                self._call(lambda: obstore.put(self._bulk, name, content, use_multipart=False))
            return
        source = _Watched(chunks)
        part = max(PART_BYTES, -(-size // _MOST_PARTS))
        with self._faults(f"writing {name}", source):
            self._call(
                lambda: obstore.put(
                    self._bulk, name, source, use_multipart=True, chunk_size=part, max_concurrency=_PARTS_AT_ONCE
                )
            )

    def flush(self) -> None:
        """Carry out deletions; see `Target`. Raises TargetFault as well if others may work here by now."""
        while True:
            for mark in list(self._marks.values()):
                mark.check(self.describe)
            with self._guard:
                batch = list(self._doomed)[:_PAGE]
                for name in batch:
                    del self._doomed[name]
            if not batch:
                return
            with self._faults("deleting"):
                self._call(partial(obstore.delete, self._bulk, batch))

    def read(self, name: str) -> Generator[bytes, None, None]:
        """Yield the bytes of a file; see `Target`."""
        at, total, tag = 0, 0, None
        while True:
            with self._faults(f"reading {name}"):
                found = self._call(partial(self._get, name, at, total, tag))
                stream = iter(found.stream(min_chunk_size=CHUNK_BYTES))
                total, tag = found.meta["size"], found.meta["e_tag"]
            stop = min(total, at + _PIECE_BYTES)
            while at < stop:
                with self._faults(f"reading {name}"):
                    chunk = self._call(partial(next, stream, b""))
                if not chunk:
                    raise TargetFault(
                        f"{self._store_name} ended {name} after {at} of {total} bytes.",
                        Action("fix", label="Try again; look into the store's log"),
                    )
                at += len(chunk)
                for start in range(0, len(chunk), CHUNK_BYTES):
                    yield chunk[start : start + CHUNK_BYTES]
            if at >= total:
                return

    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None if there is none."""
        with self._faults(f"looking for {name}"):
            try:
                found = self._call(lambda: obstore.head(self._quick, name)["size"])
            except FileNotFoundError:
                found = None
        if found is None and not self._seen:
            self._ask()  # the answer is the same where the bucket is missing
        self._seen = True
        return found

    def list(self, prefix: str) -> Iterator[Item]:
        """Yield the files below a folder in the order of their names, by pages of a thousand; see `Target`."""
        last = ""
        with self._faults("listing"):
            pages = iter(obstore.list(self._quick, prefix.rstrip("/") or None, chunk_size=_PAGE))
        while True:
            with self._faults("listing"):
                page = self._call(lambda: next(pages, ()))
            if not page:
                return
            for found in page:
                name = found["path"]
                if name <= last:
                    raise TargetFault(
                        f"{self._store_name} does not list files in the order of their names; this is no store for "
                        "backups.",
                        Action("fix", label="Name another store, or a bucket of the usual kind"),
                    )
                last = name
                if name.startswith(prefix):
                    yield Item(name, found["size"], found["last_modified"].timestamp())

    def delete(self, name: str) -> None:
        """Remove a file, with the next `flush`."""
        with self._guard:
            self._doomed[name] = None
            full = len(self._doomed) >= _PAGE
        if full:
            self.flush()

    @contextlib.contextmanager
    def lock(self, what: Lock, *, shared: bool = False) -> Iterator[None]:
        """Hold a lock that every process sees, on whatever machine; who may only read sees it, and holds none."""
        with contextlib.ExitStack() as held:
            held.enter_context(process_locks.hold(f"{self._endpoint} {self._name}", what, shared=shared))
            try:
                held.enter_context(self._marked(what, shared=shared))
                yield
            finally:
                if self._left:  # a manifest on its way may still arrive
                    rest = held.pop_all()
                    threading.Thread(target=self._release, args=(rest,), name="s3-lock", daemon=True).start()

    @contextlib.contextmanager
    def _marked(self, what: Lock, *, shared: bool) -> Iterator[None]:
        with s3_marks.held(_Marking(self, reader=shared), what, self.describe, shared=shared) as mark:
            if mark is not None:
                self._marks[mark.name] = mark
            try:
                yield
            finally:
                if mark is not None:
                    del self._marks[mark.name]

    def free_bytes(self) -> int | None:
        """Return None: a store tells nobody."""
        return None

    def tidy(self) -> None:
        """Do nothing: what a killed process was writing is seen by nobody, and a rule of the store has to end it."""

    def abort(self) -> None:
        """Leave every call to itself: a store that does not answer is asked for minutes, and a server has to stop."""
        self._aborted.set()

    def close(self) -> None:
        """Drop deletions that were not flushed, and leave what is under way."""
        self.abort()
        with self._guard:
            self._doomed.clear()

    def _call(self, work: Callable[[], T]) -> T:
        """Do what may wait for the store for minutes; raise OperatorError as soon as that is broken off."""
        done: queue.SimpleQueue[tuple[T, None] | tuple[None, BaseException]] = queue.SimpleQueue()

        def run() -> None:
            try:
                done.put((work(), None))
            except BaseException as error:  # noqa: BLE001 - handed to who waits
                done.put((None, error))

        # No process waits for its daemons when it ends.
        thread = threading.Thread(target=run, name="s3", daemon=True)
        if not self._aborted.is_set():
            thread.start()
        while not self._aborted.is_set():
            with contextlib.suppress(queue.Empty):
                found, error = done.get(timeout=_LOOK_S)
                if error is not None:
                    raise error
                return found  # type: ignore[return-value]
        if thread.is_alive():
            self._left.append(thread)
        raise OperatorError("It was broken off.")

    def _release(self, held: contextlib.ExitStack) -> None:
        for thread in self._left:
            thread.join()
        held.close()

    def _get(self, name: str, at: int, total: int, tag: str | None) -> "GetResult":
        try:
            if not at:
                return obstore.get(self._bulk, name)
            piece = (at, min(total, at + _PIECE_BYTES))
            # By its tag it is still the same file.
            return obstore.get(self._bulk, name, options={"range": piece, "if_match": tag})
        except FileNotFoundError as error:
            if s3_faults.names_no_bucket(str(error)):
                raise
            raise Absent(name) from None

    def _ask(self) -> None:
        """Ask for the first name of the folder: an answer to that has a body, which says what is wrong."""
        with self._faults("listing", probing=True):
            self._call(lambda: next(iter(obstore.list(self._quick, chunk_size=1)), None))

    @contextlib.contextmanager
    def _faults(self, doing: str, source: "_Watched | None" = None, *, probing: bool = False) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            if source is not None and source.problem is not None:
                raise source.problem from None
            text = str(error)
            if s3_faults.is_refusal(text) and not probing:
                self._ask()
            # Not chained: the text holds the access key, and a log would show it.
            raise s3_faults.fault(text, self._name, self._store_name, doing) from None

    def _client(self, timeout_s: int, *, tries: int, patience_s: int) -> S3Store:
        retry: RetryConfig = {
            "max_retries": tries,
            "retry_timeout": timedelta(seconds=patience_s),
            "backoff": {
                "init_backoff": timedelta(milliseconds=200),
                "max_backoff": timedelta(seconds=10),
                "base": 2,
            },
        }
        client: ClientConfig = {
            "allow_http": self._endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "timeout": timedelta(seconds=timeout_s),
            "user_agent": "imgpro",
        }
        config: S3Config = {
            "region": self._settings.s3_region or "us-east-1",
            # Amazon calls the other way old; many others, and its own certificates for names with dots, know no other.
            "virtual_hosted_style_request": not self._endpoint and "." not in self._bucket,
        }
        if self._endpoint:
            config["endpoint"] = self._endpoint
        with self._faults("being set up"):
            return S3Store(
                self._bucket,
                prefix=self._folder or None,
                config=config,
                client_options=client,
                retry_config=retry,
                credential_provider=_own_credentials(self._settings),
            )


class _Marking:
    """A folder of a store as marks need it."""

    def __init__(self, target: S3Target, *, reader: bool) -> None:
        self._target = target
        self._reader = reader
        self.list = target.list

    def write(self, name: str, content: bytes) -> None:
        with self._target._faults("locking"):
            try:
                self._target._call(lambda: obstore.put(self._target._quick, name, content, use_multipart=False))
            except PermissionDeniedError:
                if self._reader:
                    raise s3_marks.MayOnlyRead from None
                raise

    def remove(self, name: str) -> None:
        """Remove it also after the work was broken off: others wait for that. It need not have come about yet."""
        thread = threading.Thread(target=self._remove, args=(name,), name="s3-unlock", daemon=True)
        thread.start()
        thread.join(ANSWER_S if not self._target._aborted.is_set() else _UNLOCK_S)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(BaseError, OSError):
            obstore.delete(self._target._quick, [name])

    def small(self, name: str) -> bytes:
        return next(self._target.read(name), b"")

    def there(self, name: str) -> bool:
        return self._target.size(name) is not None


class _Watched:
    """Chunks on their way into the library, which may wrap what they raise."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.problem: BaseException | None = None

    def __iter__(self) -> "_Watched":
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            raise
        except BaseException as problem:
            self.problem = problem
            raise


def _own_credentials(settings: Backup) -> "S3CredentialProvider | None":
    """Return what tells the library the key of the settings, and keeps those of the environment out."""
    if not settings.s3_key_id:
        return None
    key: S3Credential = {
        "access_key_id": settings.s3_key_id,
        "secret_access_key": settings.s3_secret,
        "token": None,
        "expires_at": None,
    }
    return lambda: key
