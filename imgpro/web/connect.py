"""Connecting other programs: for each the file or line it needs, with a fresh key in it, and a look-out for its first
picture.

A GET makes nothing. The key exists in the answer to the button that makes it and nowhere else: what goes on from there,
a download or a second look, is a form that brings the key back.
"""

import ipaddress
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from imgpro.errors import Action, Forbidden, KeyLimitReached, NotFound, RateLimited, Unauthorized
from imgpro.flows.accounts import KeyRequest
from imgpro.flows.browse import Filters
from imgpro.integrations.programs import BY_NAME, PROGRAMS
from imgpro.integrations.target import Program, Target
from imgpro.model import Account, Image, Key, Principal
from imgpro.web import codes, respond, shapes
from imgpro.web.confirm import ask_again, is_sure
from imgpro.web.identity import Visitor
from imgpro.web.links import Links
from imgpro.web.pages import PageGroup, root_of
from imgpro.web.sign_in import sign_in_first

PLACEHOLDER: Final = "YOUR_KEY"  # in the phone's page, until its script has the key
_GROUPS: Final = tuple(dict.fromkeys(program.group for program in PROGRAMS))
_REVOKE_WORDS: Final = "Whatever still uses it stops working at once. Its pictures stay. This cannot be undone."


class ConnectPages(PageGroup):
    """`/dashboard/connect` and, below it, a page for each program."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these pages."""
        page = "/dashboard/connect/{program:[a-z]{1,20}}"
        return [
            web.get("/dashboard/connect", self.get_programs),
            web.get(page, self.get_program),
            web.post(page, self.post_program),
            web.post(f"{page}/file", self.post_file),
            web.post(f"{page}/revoke", self.post_revoke),
            web.get(f"{page}/arrived", self.get_arrived),
            web.get(f"{page}/phone", self.get_phone),
        ]

    async def get_programs(self, request: web.Request) -> web.Response:
        """Show what can be connected."""
        visitor = await self._identity.visitor(request)
        if visitor is None:
            return sign_in_first(request)
        groups = [(group, [program for program in PROGRAMS if program.group == group]) for group in _GROUPS]
        used = {key.name.partition(" (")[0] for key in await self._upload_keys(visitor)}
        return self._page(request, "connect.html", visitor, groups=groups, used=used)

    async def get_program(self, request: web.Request) -> web.Response:
        """Show what it takes to connect a program, and the button that begins it."""
        program = _program(request)
        visitor = await self._identity.visitor(request)
        return sign_in_first(request) if visitor is None else await self._offered(request, visitor, program)

    async def post_program(self, request: web.Request) -> web.Response:
        """Make a key and show everything with it in its place; with a key in the form, show that again."""
        program = _program(request)
        visitor, form = await self._sent(request)
        if "key" in form:
            key = await self._own(visitor, form["key"])
            return await self._shown(request, visitor, program, form["key"], key)
        asked = KeyRequest(email=None, name=await self._free_name(visitor, program), abilities=("upload",))
        try:
            made = await self._appliance.accounts.register(asked, self._clients.caller(request, visitor.principal))
        except (KeyLimitReached, RateLimited) as problem:
            return await self._offered(request, visitor, program, problem)
        return await self._shown(request, visitor, program, made.secret, made.key)

    async def post_file(self, request: web.Request) -> web.Response:
        """Hand out a file of a program with the key of the form in it."""
        program = _program(request)
        visitor, form = await self._sent(request)
        await self._own(visitor, form.get("key", ""))
        pieces = program.pieces(self._target(request, form["key"]))
        piece = next((piece for piece in pieces if piece.name and piece.name == form.get("name")), None)
        if piece is None:
            raise NotFound()
        headers = {
            "Content-Type": piece.content_type,
            "Content-Disposition": f'attachment; filename="{piece.name}"',
            "Cache-Control": respond.PRIVATE,
            "X-Content-Type-Options": "nosniff",
        }
        return web.Response(body=piece.content.encode(), headers=headers)

    async def post_revoke(self, request: web.Request) -> web.Response:
        """Revoke an earlier key of a program, once somebody is sure."""
        program = _program(request)
        visitor, form = await self._sent(request)
        key = next((key for key in await self._keys_of(visitor, program) if key.id == form.get("key_id")), None)
        if key is None:
            raise NotFound("There is no such key in this account.")
        if not is_sure(form):
            return ask_again(
                self._templates,
                request,
                visitor,
                form,
                question=f"Revoke the key “{key.name}”?",
                words=_REVOKE_WORDS,
                button="Revoke",
                back=f"dashboard/connect/{program.name}",
            )
        await self._appliance.accounts.revoke(visitor.principal, key.id)
        return respond.see_other(f"{root_of(request)}dashboard/connect/{program.name}")

    async def get_arrived(self, request: web.Request) -> web.Response:
        """Tell a page that waits whether the key has brought a picture."""
        visitor = await self._identity.visitor(request)
        if visitor is None:
            raise Unauthorized("You are not signed in any more.", Action("redirect", "/dashboard", "Sign in"))
        wanted = request.query.get("key_id")
        key = next((key for key in await self._upload_keys(visitor) if key.id == wanted), None)
        if key is None:
            raise NotFound("There is no such key in this account.")
        found = await self._latest_picture(visitor.account, key)
        shown = None if found is None else shapes.image(found, self._links(request, found), to_owner=True)
        return respond.json({"picture": shown})

    async def get_phone(self, request: web.Request) -> web.Response:
        """Show the page that a phone comes to by the code: the key is in the fragment and never reaches the server."""
        program = _program(request)
        if not program.on_phone:
            raise NotFound()
        target = self._target(request, PLACEHOLDER)
        return self._page(
            request,
            "connect-phone.html",
            None,
            program=program,
            steps=program.steps_for(target)[1:] if program.name == "shortcut" else program.steps_for(target),
            pieces=[piece for piece in program.pieces(target) if PLACEHOLDER in piece.content or not piece.is_line],
            placeholder=PLACEHOLDER,
        )

    # What the pages are made of

    async def _offered(
        self,
        request: web.Request,
        visitor: Visitor,
        program: Program,
        problem: KeyLimitReached | RateLimited | None = None,
    ) -> web.Response:
        target = self._target(request, PLACEHOLDER)
        return self._page(
            request,
            "connect-program.html",
            visitor,
            problem.status if problem is not None else 200,
            program=program,
            steps=program.steps_for(target),
            earlier=await self._keys_of(visitor, program),
            problem=problem,
            only_here=_is_loopback(target.base),
        )

    async def _shown(
        self, request: web.Request, visitor: Visitor, program: Program, secret: str, key: Key
    ) -> web.Response:
        target = self._target(request, secret)
        picture = await self._latest_picture(visitor.account, key)
        phone = f"/dashboard/connect/{program.name}/phone#{secret}"
        return self._page(
            request,
            "connect-key.html",
            visitor,
            program=program,
            steps=program.steps_for(target),
            pieces_given=program.pieces(target),
            secret=secret,
            key=key,
            code=codes.as_address(target.base + phone) if program.on_phone else "",
            only_here=_is_loopback(target.base),
            earlier=[other for other in await self._keys_of(visitor, program) if other.id != key.id],
            picture=picture,
            here=None if picture is None else Links(root_of(request).rstrip("/"), picture, self._appliance.signer),
        )

    def _page(
        self, request: web.Request, name: str, visitor: Visitor | None, http_status: int = 200, **values: Any
    ) -> web.Response:
        return self._templates.page(request, name, http_status, visitor=visitor, section="connect", **values)

    def _target(self, request: web.Request, key: str) -> Target:
        return Target(self._clients.base_url(request), key, self._appliance.settings.pages.site_name)

    def _links(self, request: web.Request, image: Image) -> Links:
        return Links(self._clients.bases(request), image, self._appliance.signer)

    # Keys

    async def _upload_keys(self, visitor: Visitor) -> list[Key]:
        keys = await self._appliance.accounts.keys(visitor.principal)
        return [key for key in keys if key.abilities == ("upload",)]

    async def _keys_of(self, visitor: Visitor, program: Program) -> list[Key]:
        """Return the keys that were made here for a program, by their names."""
        mine = program.title, f"{program.title} ("
        return [key for key in await self._upload_keys(visitor) if key.name == mine[0] or key.name.startswith(mine[1])]

    async def _free_name(self, visitor: Visitor, program: Program) -> str:
        taken = {key.name for key in await self._keys_of(visitor, program)}
        numbered = (f"{program.title} ({number})" for number in range(2, len(taken) + 3))
        return next(name for name in (program.title, *numbered) if name not in taken)

    async def _own(self, visitor: Visitor, secret: str) -> Key:
        """Return the key that a form brings back. Raises Forbidden for one that this account has no more."""
        try:
            principal, key = await self._appliance.ring.holder(secret)
        except Unauthorized:
            principal, key = None, None
        mine = principal is not None and principal.account.seq == visitor.account.seq
        if key is None or not mine or key.abilities != ("upload",):
            raise Forbidden("This key was revoked, or is none that was made here.")
        return key

    async def _latest_picture(self, account: Account, key: Key) -> Image | None:
        """Return the latest picture that a key has brought: as somebody sees it who has nothing but this key."""
        alone = Principal(account, msgspec.structs.replace(key, confirmed_ms=None))
        page = await self._appliance.browse.page(alone, Filters(limit=1))
        return page.images[0] if page.images else None


def _program(request: web.Request) -> Program:
    program = BY_NAME.get(request.match_info["program"])
    if program is None:
        raise NotFound()
    return program


def _is_loopback(base: str) -> bool:
    """Tell whether an address means this very computer, so that no other one reaches anything by it."""
    host = urlsplit(base).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
