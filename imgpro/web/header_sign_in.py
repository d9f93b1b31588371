"""Signing in by what a proxy in front says of the visitor, in a header. Off unless the settings name the header.

Such a header goes along with whatever the browser sends, like a cookie but with none of a cookie's bounds: some proxies
know visitors by the network they come from, and would vouch for a request that another site's script made. So it counts
only from the proxies that are named for it, under the site's own address, and where no other site asked.

Proxies let programs with keys past their sign-in, and with them what scripts of our pages ask for under the same paths.
There the header is missing, so pages hand out a cookie that stands in for it: for scripts and pictures, not for pages,
and for hours.
"""

import logging
import time
from typing import Final

import msgspec
from aiohttp import hdrs, web

from imgpro.flows.email_address import parse_email
from imgpro.flows.vouched import Vouched
from imgpro.model import Account, Role
from imgpro.settings import HeaderSignIn as Section
from imgpro.signing import Signer
from imgpro.web.clients import Clients, is_nearby, origin_of, peer_address
from imgpro.web.prefixes import PREFIX
from imgpro.web.proxies import Peers

log = logging.getLogger(__name__)

WHY_NOT: Final = web.RequestKey("why_not_signed_in", str)  # words for the person whom a proxy vouches for in vain


class Claim(msgspec.Struct, frozen=True):
    """What a proxy says: whose request it is ("" for nobody, and no cookie helps then), and if that is the operator.

    `operates` is None where groups decide nothing: then the account's own role does.
    """

    email: str
    operates: bool | None = None


NOBODY: Final = Claim("")
VOUCHER_COOKIE: Final = "imgpro_voucher"
VOUCHER_S: Final = 12 * 3_600
_VOUCHER: Final = web.RequestKey("voucher", str)
_SECURE: Final = web.RequestKey("voucher_is_secure", bool)


class HeaderSignIn:
    """Reads the headers by the `header_sign_in` section."""

    def __init__(self, settings: Section, clients: Clients, vouched: Vouched, signer: Signer) -> None:
        self._clients = clients
        self._vouched = vouched
        self._signer = signer
        self.apply(settings)

    def apply(self, settings: Section) -> None:
        """Believe other headers from now on."""
        self._settings = settings
        self._proxies = Peers(settings.proxies)

    def claim(self, request: web.BaseRequest) -> Claim | None:
        """Return what a proxy says of who sent this; None where none that is believed says anything."""
        name = self._settings.user_header
        if not name or name not in request.headers:
            return None
        peer = peer_address(request)
        if peer not in self._proxies:
            self._clients.notes.add(name, peer, "header_sign_in.proxies")
            return None
        if not self._is_own_address(request) or _is_for_another_site(request, self._clients):
            return NOBODY
        sent = request.headers.getall(name)
        try:
            email = parse_email(sent[0] if len(sent) == 1 else "")
        except ValueError:
            self._complain(name, "twice" if len(sent) > 1 else "without one plain mail address")
            return NOBODY
        groups = request.headers.getall(self._settings.groups_header, []) if self._settings.groups_header else []
        if len(groups) > 1:
            self._complain(self._settings.groups_header, "twice")
            return NOBODY
        if not self._settings.operator_group:
            return Claim(email)
        named = [group.strip() for group in ",".join(groups).replace("|", ",").split(",")]
        return Claim(email, self._settings.operator_group in named)

    async def account(self, request: web.BaseRequest, claim: Claim) -> Account | None:
        """Return the account that a claim signs in, with the role it has for this request; None for nobody.

        The role that is stored stays as it is: whoever claimed this server can always get in without the proxy.
        """
        if not claim.email:
            return None
        account = await self._vouched.account(claim.email, create=self._settings.create)
        if account is None:
            request[WHY_NOT] = f"You are {claim.email} to the proxy in front of this server, which has no such account."
            return None
        if account.blocked_ms is not None:
            request[WHY_NOT] = f"The account {claim.email} was blocked by the operator of this server."
            return None
        ends_s = int(time.time()) + VOUCHER_S
        if claim.operates is not None:
            account = msgspec.structs.replace(account, role=_role(operates=claim.operates))
        subject = self._voucher_for(account.id, account.role)
        request[_VOUCHER] = f"{account.id}:{self._signer.sign('voucher', subject, ends_s)}"
        request[_SECURE] = self._clients.base_url(request).startswith("https:")
        return account

    async def by_voucher(self, request: web.BaseRequest) -> Account | None:
        """Return whom a page of ours handed the voucher that came with this; None for a bad one."""
        account_id, colon, token = request.cookies.get(_cookie(request), "").partition(":")
        if not colon or not self._settings.user_header:
            return None
        roles = [
            role
            for role in (_role(operates=False), _role(operates=True))
            if "\n" not in account_id
            and self._signer.verify(token, "voucher", self._voucher_for(account_id, role), time.time())
        ]
        account = await self._vouched.known(account_id) if roles else None
        if account is None or not self._settings.operator_group:
            return account
        return msgspec.structs.replace(account, role=roles[0])

    def _voucher_for(self, account_id: str, role: str) -> str:
        """Return what a voucher is signed for: where groups decide on the role, it stands for that as well."""
        return f"{account_id} {role}" if self._settings.operator_group else account_id

    def _is_own_address(self, request: web.BaseRequest) -> bool:
        """Tell whether a request came under the site's own name: a name that a stranger's DNS leads here does not."""
        host, sent = self._clients.host(request), request.headers.get("Host", "").lower()
        if self._clients.is_own_host(host):
            # Many proxies pass on whatever X-Forwarded-Host a script has put there; the Host no script can change.
            if self._clients.is_own_host(sent) or is_nearby(sent):
                return True
            host = sent
        shown = "".join(char for char in host if char.isprintable())[:80]
        self._clients.notes.say(
            ("host", ""),
            f"nobody is signed in by header: the proxy asks for {shown!r}, which is not the host of server.base_url; "
            "have it pass the Host header on",
        )
        return False

    def _complain(self, header: str, how: str) -> None:
        self._clients.notes.say((header, how), f"nobody is signed in by header: {header} came {how}")


def hand_voucher(request: web.BaseRequest, response: web.Response) -> None:
    """Put on a page the voucher of its visitor, where a proxy vouches for one; it goes with our own pages' requests."""
    if _VOUCHER in request:
        path = f"{request.get(PREFIX, '')}/"
        secure = request[_SECURE]
        response.set_cookie(
            _cookie(request),
            request[_VOUCHER],
            path=path,
            max_age=VOUCHER_S,
            secure=secure,
            httponly=True,
            samesite="Strict",
        )


def _role(*, operates: bool) -> Role:
    return "operator" if operates else "member"


def _cookie(request: web.BaseRequest) -> str:
    """Return the name of the cookie, which as that of sessions is one for each path that a site is shown under."""
    return f"{VOUCHER_COOKIE}{request.get(PREFIX, '').replace('/', '.')}"


def _is_for_another_site(request: web.BaseRequest, clients: Clients) -> bool:
    """Tell whether another site's page had the browser send this, other than by a link that somebody followed.

    As with a cookie that is `Lax`, a frame in that page is none.

    No such page can read what a followed link shows; what its scripts fetch from us it could, since `/v1` lets scripts
    of any origin read. Browsers that do not say which site asked still name the origin of a script's request.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        followed = (
            request.headers.get("Sec-Fetch-Mode") == "navigate"
            and request.headers.get("Sec-Fetch-Dest", "document") == "document"
            and request.method in (hdrs.METH_GET, hdrs.METH_HEAD)
        )
        return site not in ("same-origin", "none") and not followed
    origin = request.headers.get(hdrs.ORIGIN)
    return origin is not None and origin_of(origin) != origin_of(clients.base_url(request))
