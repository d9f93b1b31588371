"""The page of a picture: shown, linked, changed by its owner, deleted by its owner or its uploader."""

import time
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import hdrs, web

from imgpro.errors import NotFound, ValidationError
from imgpro.flows.options import parse_changes
from imgpro.flows.serve import View
from imgpro.forms import show_span
from imgpro.model import Image, Principal
from imgpro.web import codes, picture_words, respond
from imgpro.web.identity import Visitor
from imgpro.web.links import DELETE_COOKIE, VIEW_LINK_S, Links, view_token
from imgpro.web.media import delete_with_token
from imgpro.web.pages import PageGroup, root_of

MAX_TITLE_BYTES: Final = 66
MAX_DESCRIPTION_BYTES: Final = 346  # previews cut what is longer
_ID: Final = "{id:[0-9A-Za-z]{12}}"
_TEXTS: Final = ("name", "description", "tags", "namespace", "public", "date")
_KEEP: Final = "keep"
# A phone reads dark on light with a margin of four, whatever the page's colours are.
_QR_HEADERS: Final = {**respond.PICTURE_HEADERS, "Content-Type": "image/svg+xml", "Cache-Control": respond.PRIVATE}


class ViewerPages(PageGroup):
    """`/{id}` and what its forms do."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these pages."""
        return [
            web.get(f"/{_ID}", self.get_viewer),
            web.get(f"/{_ID}/qr.svg", self.get_qr),
            web.post(f"/{_ID}/edit", self.post_edit),
            web.get(f"/{_ID}/remove", self.get_remove),
            web.post(f"/{_ID}/remove", self.post_remove),
            web.get(f"/{_ID}/delete", self.get_delete),
            web.post(f"/{_ID}/delete", self.post_delete),
            web.delete(f"/{_ID}/delete", self.post_delete),
        ]

    async def get_viewer(self, request: web.Request) -> web.Response:
        """Show one picture with everything a link preview needs, and to its owner what can be changed."""
        view, visitor = self._identity.view(request), await self._identity.visitor(request)
        image = await self._appliance.serve.visible(request.match_info["id"], view)
        return await self._shown(request, image, view.token, visitor)

    async def get_qr(self, request: web.Request) -> web.Response:
        """Draw the link that the page offers to copy, for a phone to read off the screen."""
        view, visitor = self._identity.view(request), await self._identity.visitor(request)
        image = await self._appliance.serve.visible(request.match_info["id"], view)
        links = self._shared(request, image, view.token, owner=_owns(visitor, image))
        return web.Response(body=codes.as_file(links.page), headers=_QR_HEADERS)

    async def post_edit(self, request: web.Request) -> web.Response:
        """Change a picture by the form on its page; what is wrong is said beside the field."""
        visitor, form = await self._sent(request)
        principal, image_id = visitor.principal, request.match_info["id"]
        try:
            await self._appliance.change.image(principal, image_id, parse_changes(_changes(form)))
        except ValidationError as problem:

            async def asker() -> Principal:
                return principal

            image = await self._appliance.serve.visible(image_id, View(None, asker))
            if not _owns(visitor, image):
                raise NotFound() from None
            return await self._shown(request, image, None, visitor, form=form, problem=problem)
        return respond.see_other(f"../{image_id}")

    async def get_remove(self, request: web.Request) -> web.Response:
        """Ask the owner, or the operator, whether a picture shall be deleted."""
        image = await self._appliance.serve.visible(request.match_info["id"], self._identity.view(request))
        visitor = await self._identity.visitor(request)
        if not _may_delete(visitor, image):
            raise NotFound()
        return self._asked(request, image, visitor=visitor)

    async def post_remove(self, request: web.Request) -> web.Response:
        """Delete by the owner's or the operator's word."""
        visitor, _ = await self._sent(request)
        await self._appliance.change.delete(visitor.principal, request.match_info["id"])
        return self._templates.page(request, "deleted.html", visitor=visitor)

    async def get_delete(self, request: web.Request) -> web.Response:
        """Show what would be deleted; a GET changes nothing, because link scanners follow links."""
        token = request.query.get("token", "")
        image = await self._deletable(request.match_info["id"], token)
        response = self._asked(request, image, token=token, visitor=await self._identity.visitor(request))
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    async def post_delete(self, request: web.Request) -> web.Response:
        """Delete by the signed link: from the page's button, or from a program."""
        image_id, token = request.match_info["id"], request.query.get("token", "")
        await delete_with_token(self._appliance, image_id, token)
        if "text/html" in request.headers.get(hdrs.ACCEPT, ""):
            return self._templates.page(request, "deleted.html", visitor=await self._identity.visitor(request))
        return respond.json({"success": True})

    async def _shown(
        self,
        request: web.Request,
        image: Image,
        token: str | None,
        visitor: Visitor | None,
        *,
        form: Mapping[str, str] | None = None,
        problem: ValidationError | None = None,
    ) -> web.Response:
        """Return the page; with `form` and `problem` after a change that was refused."""
        owner, root = _owns(visitor, image), root_of(request)
        links = Links(self._clients.bases(request), image, self._appliance.signer, token)
        here = Links(root.rstrip("/"), image, self._appliance.signer, token)
        shared = self._shared(request, image, token, owner=owner)
        indexing = self._appliance.settings.pages.indexing and image.public
        facts = picture_words.facts(image)
        response = self._templates.page(
            request,
            "viewer.html",
            200 if problem is None else problem.status,
            visitor=visitor,
            image=image,
            links=links,
            here=here,
            sizes=picture_words.offered_sizes(image, here),
            frame=picture_words.frame(image),
            social=links.social_image(),
            title=picture_words.cut(image.name, MAX_TITLE_BYTES),
            summary=picture_words.cut(image.description or facts, MAX_DESCRIPTION_BYTES),
            indexing=indexing,
            embeds=picture_words.embeds(image, shared),
            facts=facts,
            owner=owner,
            delete=self._delete_link(request, image, here, visitor),
            beside=await self._beside(image, visitor, root),
            created=picture_words.moment(image.created_ms),
            dated=picture_words.display_date(image.display_date),
            ends=picture_words.ends(image, time.time() * 1000),
            form={**_form(image), **(form or {})},
            wrong={} if problem is None else problem.details,
            refusal="" if problem is None else problem.message,
            link_lasts=show_span(VIEW_LINK_S),
            damaged=await self._appliance.serve.is_damaged(image),
        )
        if not indexing:
            response.headers["X-Robots-Tag"] = "noindex"
        if not image.public:
            response.headers["Referrer-Policy"] = "no-referrer"
        return response

    def _shared(self, request: web.Request, image: Image, token: str | None, *, owner: bool) -> Links:
        """Return the links to give away; the owner of a private picture needs none to see it, others do."""
        signer = self._appliance.signer
        return Links(self._clients.bases(request), image, signer, view_token(image, signer) if owner else token)

    def _delete_link(self, request: web.Request, image: Image, here: Links, visitor: Visitor | None) -> str | None:
        """Return where the picture can be deleted, for those who may: owner, operator, and its uploader's browser."""
        if _may_delete(visitor, image):
            return f"{here.base}/{image.id}/remove"
        token = request.cookies.get(DELETE_COOKIE, "")
        if self._appliance.signer.verify(token, "delete", image.id, time.time()):
            return here.delete
        return None

    async def _beside(self, image: Image, visitor: Visitor | None, root: str) -> list[dict[str, str]]:
        """Return the links to the pictures before and after, for the owner: nobody else learns that they are there."""
        if visitor is None:
            return []
        found = await self._appliance.browse.neighbours(visitor.principal, image)
        beside = []
        for rel, label, other in (("prev", "Newer", found.newer), ("next", "Older", found.older)):
            if other is not None:
                links = Links(root.rstrip("/"), other, self._appliance.signer)
                # What must not be kept by the browser is not worth loading early.
                ahead = links.sizes()["l"]["src"] if other.public else ""
                shown = {"id": other.id, "name": other.name, "href": links.page, "ahead": ahead}
                beside.append({"rel": rel, "label": label, **shown})
        return beside

    def _asked(
        self, request: web.Request, image: Image, *, visitor: Visitor | None, token: str | None = None
    ) -> web.Response:
        """Return the page that asks; `token` of the signed link, None for who is signed in."""
        signer = self._appliance.signer
        shown = Links(root_of(request).rstrip("/"), image, signer, view_token(image, signer)).sizes()["s"]
        facts = picture_words.facts(image)
        return self._templates.page(
            request, "delete.html", visitor=visitor, image=image, token=token, facts=facts, shown=shown
        )

    async def _deletable(self, image_id: str, token: str) -> Image:
        signer = self._appliance.signer
        if not signer.verify(token, "delete", image_id, time.time()):
            raise NotFound()
        view = None
        image = await self._appliance.records.get(image_id)
        if image is not None and not image.public:
            view = signer.sign("view", image_id)
        return await self._appliance.serve.visible(image_id, View(view))


def _owns(visitor: Visitor | None, image: Image) -> bool:
    return visitor is not None and visitor.principal.owns(image)


def _may_delete(visitor: Visitor | None, image: Image) -> bool:
    return visitor is not None and (visitor.operates or visitor.principal.owns(image))


def _form(image: Image) -> dict[str, str]:
    """Return what stands in the fields of the form before anybody types."""
    return {
        "name": image.name,
        "description": image.description,
        "tags": ", ".join(image.tags),
        "namespace": image.namespace or "",
        "public": "true" if image.public else "false",
        "date": image.display_date or "",
        "ttl": _KEEP,
    }


def _changes(form: Mapping[str, str]) -> dict[str, Any]:
    """Return a form as the body of a PATCH. An empty date, namespace or end clears it."""
    body: dict[str, Any] = {name: form[name] for name in _TEXTS if name in form}
    if form.get("ttl", _KEEP) != _KEEP:
        body["ttl"] = form["ttl"]
    return body
