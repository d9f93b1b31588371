"""Importing: fetch a picture from its address and store it like an upload."""

from imgpro.errors import FetchFailed, FileTooLarge, ImageBroken, ImageTooLarge, UnsupportedFormat
from imgpro.flows.fetch import Fetcher
from imgpro.flows.ingest import Ingest
from imgpro.flows.quota import Quota
from imgpro.flows.replays import Attempt
from imgpro.model import Caller, Image, UploadOptions


class Importing:
    """Joins the fetcher to the way of an upload."""

    def __init__(self, fetcher: Fetcher, ingest: Ingest, quota: Quota) -> None:
        self._fetcher = fetcher
        self._ingest = ingest
        self._quota = quota

    async def take(
        self, url: str, options: UploadOptions, caller: Caller, attempt: Attempt | None = None
    ) -> Image | bytes:
        """Store the picture at `url`; a repeated request gets its first answer (see `Upload.commit`).

        Raises what uploads raise, ValidationError for an address that may not or cannot be reached, FetchFailed for an
        answer that is no use.
        """
        if attempt is not None and (first := attempt.first_answer("import", url, options, "")) is not None:
            return first
        self._quota.admit_import(caller)
        async with self._ingest.open(caller, "import", attempt) as upload:
            try:
                async with self._fetcher.open(url, self._ingest.max_bytes(caller)) as fetched:
                    async for chunk in fetched.chunks:
                        await upload.write(chunk)
                    name = fetched.name
                return await upload.commit(options, name, url)
            except FileTooLarge:
                raise FetchFailed("The picture at that address is too large.") from None
            except (UnsupportedFormat, ImageBroken, ImageTooLarge) as problem:
                raise FetchFailed(f"The address did not answer with a usable picture: {problem.message}") from None
