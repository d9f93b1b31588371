"""Every address that imgpro hands out, built in one place from one base URL."""

import time
from typing import Any, Final
from urllib.parse import quote, urlsplit

from imgpro import recipes
from imgpro.model import Image
from imgpro.recipes import SIZES, SRC_EXTENSION
from imgpro.signing import NEVER, Signer
from imgpro.web.clients import Bases

OG_MAX_WIDTH_PX: Final = 1_200
VIEW_LINK_S: Final = 7 * 86_400
DELETE_COOKIE: Final = "delete"
DELETE_COOKIE_S: Final = 365 * 86_400


class Links:
    """Links of one image, absolute, or with `bases` a relative path within one page.

    Those of a private image carry `token`, if there is one: that of the signed link that its reader came with, or a
    fresh one for whoever uploaded it without an account and would otherwise never see it again.
    """

    def __init__(self, bases: Bases | str, image: Image, signer: Signer, token: str | None = None) -> None:
        self._bases = Bases(bases, bases, bases) if isinstance(bases, str) else bases
        self.base = self._bases.site
        self._image = image
        self._signer = signer
        self._query = f"sig={quote(token, safe='')}" if token and not image.public else ""

    @property
    def page(self) -> str:
        """The viewer page."""
        return self._with_query(f"{self.base}/{self._image.id}")

    @property
    def qr(self) -> str:
        """The link to the viewer page as a drawing."""
        return self._with_query(f"{self.base}/{self._image.id}/qr.svg")

    @property
    def src(self) -> str:
        """The picture in its own size, in a format that browsers show."""
        return self.picture(SRC_EXTENSION[self._image.blob.format])

    def picture(self, extension: str, size: str = "o") -> str:
        """The picture in a format and size."""
        link = f"{self._bases.src}/t/{self._image.id}.{extension}"
        return self._with_query(f"{link}?size={size}" if size != "o" else link)

    def sizes(self) -> dict[str, dict[str, Any]]:
        """The answer's `sizes`: for s, m and l the link, and the size in pixels that it gives."""
        blob = self._image.blob
        extension = SRC_EXTENSION[blob.format]
        found: dict[str, dict[str, Any]] = {}
        for size in SIZES:
            scales = blob.format != "svg"
            width, height = recipes.target_size(blob.width, blob.height, size if scales else "o")
            src = self.picture(extension, size if scales else "o")
            found[size] = {"src": src, "width": width, "height": height}
        return found

    def social_image(self) -> tuple[str, int, int, str] | None:
        """Link, width, height and content type for link previews: at most 1,200 px wide where that is possible.

        None for SVG, which previews cannot show.
        """
        blob = self._image.blob
        if blob.format == "svg":
            return None
        extension = "png" if blob.has_alpha else "jpeg"
        best = ("s", *recipes.target_size(blob.width, blob.height, "s"))
        for size in ("m", "l"):
            width, height = recipes.target_size(blob.width, blob.height, size)
            if width <= OG_MAX_WIDTH_PX:
                best = (size, width, height)
        return self.picture(extension, best[0]), best[1], best[2], recipes.CONTENT_TYPE[extension]

    @property
    def delete_token(self) -> str:
        """What proves the uploader of this image."""
        return self._signer.sign("delete", self._image.id, NEVER)

    @property
    def delete(self) -> str:
        """The signed link that lets an anonymous uploader delete: a page for people, DELETE for programs."""
        return f"{self.base}/{self._image.id}/delete?token={self.delete_token}"

    @property
    def page_path(self) -> str:
        """Path of the viewer page: the scope of the cookie that lets the uploader's browser delete."""
        return urlsplit(f"{self.base}/{self._image.id}").path

    @property
    def oembed(self) -> str:
        """Discovery link of the viewer page."""
        return f"{self.base}/oembed?format=json&url={quote(f'{self.base}/{self._image.id}', safe='')}"

    @property
    def signed_src(self) -> str:
        """The picture by a link that works without a key until it ends."""
        return Links(self._bases, self._image, self._signer, view_token(self._image, self._signer)).src

    def _with_query(self, link: str) -> str:
        if not self._query:
            return link
        return f"{link}{'&' if '?' in link else '?'}{self._query}"


def view_token(image: Image, signer: Signer) -> str:
    """Return what lets its holder see a private image: for a week, or until it ends.

    Whoever uploaded it without an account has no other way to it, ever: their token ends with the image.
    """
    ends = image.expires_ms
    week_s = int(time.time()) + VIEW_LINK_S
    if image.account is None:
        return signer.sign("view", image.id, NEVER if ends is None else ends // 1000)
    return signer.sign("view", image.id, week_s if ends is None else min(week_s, ends // 1000))


def upload_links(bases: Bases, image: Image, signer: Signer) -> Links:
    """Return the links that an uploader is given."""
    anonymous = image.account is None and not image.public
    return Links(bases, image, signer, view_token(image, signer) if anonymous else None)
