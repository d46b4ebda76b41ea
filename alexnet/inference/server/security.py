"""Who may ask the service, and what a browser may do with its answers.

A page of another site can send requests to an address on this machine, and through a name that
resolves to it (DNS rebinding) read the answers. So the Host must be one of ours, a changing
request's Origin must be the same host, and no other site is given permission (CORS). With a token,
everything but the page's own files and the probes needs it: as `Authorization: Bearer TOKEN`, as
`?token=TOKEN`, or as the cookie that the answer to either sets, for images and event streams.
"""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alexnet.core.errors import require
from alexnet.inference.server.api_error import ApiError, error_response

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
PROTECTED = ("/v1", "/v2", "/metrics")  # by the token; the rest are the page's files and the probes
TOKEN = re.compile(r"[A-Za-z0-9._~-]+")  # what fits into an address and a cookie as it is
PROBES = ("/v2/health/live", "/v2/health/ready")
RESPONSE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; script-src 'self'; style-src 'self'; "
        "object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Access:
    """The hosts that a request may name, without ports, and the token it needs; None: no token.

    `any_address`: a Host that is an IP address is accepted, for a server on all addresses. Only
    names can be rebound.
    """

    hosts: frozenset[str] = frozenset(LOOPBACK)
    token: str | None = None
    any_address: bool = False


def make_access(host: str, others: Iterable[str], token: str | None) -> Access:
    """Return the access to a server bound to `host`, which is also known by other names.

    UsageError for a token with characters that an address or a cookie cannot hold.
    """
    require(
        not token or TOKEN.fullmatch(token) is not None,
        "token: expected letters, digits and . _ ~ - only",
    )
    hosts = frozenset(name.lower().strip("[]") for name in (*LOOPBACK, host, *others))
    return Access(hosts, token or None, any_address=host in ("0.0.0.0", "::"))


def is_loopback(host: str) -> bool:
    """Return whether an address to bind to can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class GuardedApp:
    """Answer a request of an application only if `access` allows it; add headers to answers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        token = access.token or ""
        # cookies are shared by all ports of a host: each token's has its own name
        self._cookie = f"alexnet-{hashlib.sha256(token.encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        new_cookie = False

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(MutableHeaders(scope=message), new_cookie)
            await send(message)

        try:
            require_host(self._access, headers.get("host", ""))
            require_same_origin(scope["method"], headers)
            require_same_site(scope["path"], headers)
            new_cookie = self._require_token(scope, headers)
        except ApiError as error:
            await error_response(error)(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def _require_token(self, scope: Scope, headers: Headers) -> bool:
        """ApiError 401 unless a protected path's token is there; return if it needs a cookie."""
        token = self._access.token
        path = scope["path"]
        if token is None or not path.startswith(PROTECTED) or path in PROBES:
            return False
        if is_token(read_cookie(headers.get("cookie", ""), self._cookie), token):
            return False
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        query = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if is_token(bearer if scheme.lower() == "bearer" else query, token):
            return True
        raise ApiError(
            401, "token: missing or wrong; open the address that `alexnet serve` printed"
        )

    def _add_headers(self, headers: MutableHeaders, new_cookie: bool) -> None:
        for name, value in RESPONSE_HEADERS.items():
            headers.setdefault(name, value)
        headers.setdefault("Cache-Control", "no-cache")
        if new_cookie:
            value = f"{self._cookie}={self._access.token}; Path=/; HttpOnly; SameSite=Strict"
            headers.append("Set-Cookie", value)


def require_host(access: Access, host: str) -> None:
    """ApiError 403 unless the Host of a request is one of ours."""
    name = host_name(host)
    if name in access.hosts or (access.any_address and is_address(name)):
        return
    raise ApiError(403, f"host {name[:80]!r}: not served here; see --allow-host")


def require_same_origin(method: str, headers: Headers) -> None:
    """ApiError 403 where a page of another site sends a request that may change something."""
    origin = headers.get("origin")
    if method in SAFE_METHODS or origin is None:
        return
    try:
        sender = urlsplit(origin).netloc
    except ValueError:
        sender = ""
    if sender.lower() != headers.get("host", "").lower():
        raise ApiError(403, f"origin {origin[:80]!r}: expected a page of this service")


def require_same_site(path: str, headers: Headers) -> None:
    """ApiError 403 where a page of another site uses the interface, be it as an image."""
    if path.startswith(PROTECTED) and headers.get("sec-fetch-site") == "cross-site":
        raise ApiError(403, "another site's page sent this; expected a page of this service")


def host_name(host: str) -> str:
    """Return a Host header without its port and brackets, in lower case; "" if malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    """Return whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def read_cookie(header: str, name: str) -> str:
    """Return a cookie's value; "" where it is not there."""
    try:
        cookie = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return cookie.value if cookie else ""


def is_token(text: str, token: str) -> bool:
    """Compare with the token in a time that does not depend on the text."""
    return hmac.compare_digest(text.encode("utf-8", "surrogateescape"), token.encode())
