"""Where a redirect leads and what may come along: decided here hop by hop, never by libcurl."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, urljoin

from common.domain.checks import Reason
from common.http.exchange import HttpExchange, HttpRequest
from common.http.headers import Pairs, without_credentials
from common.http.target import Target, parse_target

_METHOD = re.compile(r"[A-Za-z]{1,20}")
_USUAL_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ASCII = "".join(chr(code) for code in range(0x21, 0x7F))
FOLLOWED = frozenset({301, 302, 303, 307, 308})


@dataclass(slots=True)
class Hop:
    """One request on the wire, as it stands after the redirects so far."""

    method: str
    target: Target
    headers: Pairs
    body: bytes | None
    authorization: str
    #: Whether it still goes to where the monitor pointed: only there our client certificate is shown.
    first_origin: bool = True


@dataclass(frozen=True, slots=True)
class DeadEnd:
    """A redirect that we do not follow."""

    reason: Reason
    message: str


def first_hop(request: HttpRequest) -> Hop | DeadEnd:
    """The request as it was asked for."""
    target = parse_target(request.url)
    if isinstance(target, str):
        return DeadEnd(Reason.INVALID_TARGET, target)
    method = request.method
    if method not in _USUAL_METHODS:
        if not _METHOD.fullmatch(method):
            return DeadEnd(Reason.INVALID_TARGET, "the method must be up to 20 letters")
        method = method.upper()
    # A header that the user wrote wins over credentials in the URL (see `header_lines`).
    return Hop(method, target, request.headers, request.body, target.authorization)


def next_hop(hop: Hop, request: HttpRequest, exchange: HttpExchange) -> Hop | DeadEnd | None:
    """The next request, None when the response is the last one, or why the redirect leads nowhere."""
    if exchange.status not in FOLLOWED or not request.follow_redirects:
        return None
    location = exchange.header("location")
    if not location:
        return None
    if exchange.redirects >= request.max_redirects:
        return DeadEnd(Reason.TOO_MANY_REDIRECTS, f"more than {request.max_redirects} redirects")
    target = _resolve(hop.target, location)
    if isinstance(target, str):
        return DeadEnd(Reason.REDIRECT_INVALID, f"redirect from {hop.target.host.name} cannot be followed: {target}")
    return _carry(hop, target, exchange.status)


def _resolve(base: Target, location: str) -> Target | str:
    # Servers send blanks and bytes of any encoding; they go back as they came, percent-encoded.
    text = quote(location.encode("latin-1"), safe=_ASCII)
    try:
        joined = urljoin(base.url, text)
    except ValueError:
        return "the address in Location is not valid"
    return parse_target(joined)


def _carry(hop: Hop, target: Target, status: int) -> Hop:
    # As browsers do: 303 always, 301 and 302 after POST become GET, 307 and 308 repeat the request.
    if (status == 303 and hop.method != "HEAD") or (status in (301, 302) and hop.method == "POST"):
        kept = tuple(pair for pair in hop.headers if pair[0].lower() != "content-type")
        hop = replace(hop, method="GET", body=None, headers=kept)
    if target.origin == hop.target.origin:
        return replace(hop, target=target)
    # Gone for good: they do not come back when a later hop returns to the first origin. Credentials that a
    # Location brings along are the redirecting server's idea, not the user's, and are left out everywhere.
    return replace(hop, target=target, headers=without_credentials(hop.headers), authorization="", first_origin=False)
