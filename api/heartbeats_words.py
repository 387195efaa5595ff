"""What a ping's address, query and body say, whoever reads them: pure."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from uuid import UUID

from api.heartbeats_secrets import hash_of
from common.domain.heartbeats import PingKind
from common.store.heartbeats_intake import Heard
from common.store.result_log import storable

#: Of a body, what is kept.
BODY_BYTES = 10_000
MAX_EXIT = 255
#: As Uptime Kuma has it: a little more than three years.
MAX_PING_MS = 100_000_000_000
_ACTIONS = {"start": PingKind.START, "fail": PingKind.FAIL, "log": PingKind.LOG}
_FLOAT = re.compile(r"\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)")
#: A source is kept as its network: enough to tell machines' sites apart.
_PREFIXES = {4: 24, 6: 48}


def action(text: str) -> tuple[PingKind, int | None] | None:
    """What the word after a secret means, with the exit status that it is; None for nothing."""
    kind = _ACTIONS.get(text)
    if kind is not None:
        return kind, None
    if not (text.isascii() and text.isdigit()):
        return None
    status = int(text[:10])
    return (PingKind.FAIL if status else PingKind.SUCCESS), status


def ping(  # noqa: PLR0913 - each is a part of the request
    code: str, kind: PingKind, *, exit_code: int | None, rid: str | None, body: bytes, source: str
) -> Heard | None:
    """A ping of healthchecks.io; None when its secret cannot be one."""
    token = uuid_of(code)
    if token is None:
        return None
    run = None if rid is None else uuid_of(rid)
    text = storable(body[:BODY_BYTES].decode("utf-8", "replace")) if body else ""
    return Heard(hash_of(token), int(kind), exit_code, rid=None if run is None else str(run), source=source, body=text)


def push(code: str, query: Mapping[str, str], source: str) -> Heard | None:
    """A push of Uptime Kuma; None when its secret cannot be one."""
    token = uuid_of(code)
    if token is None:
        return None
    up = (query.get("status") or "up") == "up"
    return Heard(
        hash_of(token),
        int(PingKind.SUCCESS if up else PingKind.FAIL),
        latency_ms=_number(query.get("ping", "")),
        source=source,
        body=storable((query.get("msg") or "OK")[:BODY_BYTES]),
        strict=True,
    )


def possible(duration: str) -> bool:
    """Whether a push may take so long."""
    return -1 <= _number(duration) <= MAX_PING_MS


def _number(text: str) -> float:
    """What JavaScript's parseFloat finds in a text; -1 without a number, or for 0, which says nothing."""
    found = _FLOAT.match(text)
    value = float(found[1]) if found else 0.0
    if not math.isfinite(value) or value < 0:
        return math.inf
    return value or -1.0


def uuid_of(text: str) -> UUID | None:
    """A UUID with or without its dashes."""
    if len(text) not in (32, 36):
        return None
    try:
        return UUID(text)
    except ValueError:
        return None


@lru_cache(maxsize=10_000)
def network(address: str) -> str:
    """The network of an address, "" for none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(ipaddress.ip_network((str(parsed), _PREFIXES[parsed.version]), strict=False))
