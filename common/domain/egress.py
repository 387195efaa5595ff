"""Which addresses may be reached: one verdict for probes, redirects and channels alike.

An address is judged, never a name: the resolver says what the name means now, and the connection goes to exactly
that address, so a name that changes its mind between two look-ups gains nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class EgressMode(StrEnum):
    """`internal`: the operator watches their own network. `public`: strangers choose the targets."""

    INTERNAL = "internal"
    PUBLIC = "public"


class Denial(StrEnum):
    """Why an address is out of reach: for logs and counters; users get one generic message."""

    NOT_AN_ADDRESS = "not_an_address"
    METADATA = "metadata"
    LINK_LOCAL = "link_local"
    UNSPECIFIED = "unspecified"
    MULTICAST = "multicast"
    BROADCAST = "broadcast"
    DENIED_BY_OPERATOR = "denied_by_operator"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True)
class EgressRules:
    """The operator's choice. `deny` wins over `allow`; `allow` opens private ranges in public mode, nothing more."""

    mode: EgressMode = EgressMode.INTERNAL
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


#: Denied in both modes, first match wins: what lies here hands out credentials or is no single host.
_NEVER: tuple[tuple[Denial, tuple[Network, ...]], ...] = (
    # AWS, GCP, Azure, Oracle (v4 and v6), Alibaba, Oracle classic, Azure's wire server.
    (
        Denial.METADATA,
        _networks(
            "169.254.169.254/32",
            "169.254.170.2/32",
            "fd00:ec2::/32",
            "fd20:ce::254/128",
            "100.100.100.200/32",
            "192.0.0.192/32",
            "168.63.129.16/32",
        ),
    ),
    (Denial.LINK_LOCAL, _networks("169.254.0.0/16", "fe80::/10")),
    # All of 0/8 and ::, since Linux connects 0.0.0.0 to the local host.
    (Denial.UNSPECIFIED, _networks("0.0.0.0/8", "::/128")),
    (Denial.MULTICAST, _networks("224.0.0.0/4", "ff00::/8")),
    (Denial.BROADCAST, _networks("255.255.255.255/32")),
)

_LOOPBACK = _networks("127.0.0.0/8", "::1/128")
_PRIVATE = _networks(
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
    "fec0::/10",
)
#: Not global either, but `is_global` of some Python that we run on says it is.
_RESERVED = _networks("192.88.99.0/24", "64:ff9b:1::/48", "2002::/16", "3fff::/20", "5f00::/16")

_V4_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
#: An IPv4 address in the last 32 bits: NAT64, SIIT, the deprecated "compatible" form.
_V4_IN_TAIL = _networks("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")


def judge(address: str, rules: EgressRules) -> Denial | None:
    """Say why `address` (a literal, without zone or brackets) must not be reached, or None when it may."""
    try:
        outer = ipaddress.ip_address(address)
    except ValueError:
        return Denial.NOT_AN_ADDRESS
    if isinstance(outer, ipaddress.IPv6Address) and outer.scope_id is not None:
        return Denial.NOT_AN_ADDRESS
    parts = tuple(_parts(outer))
    # Each rule looks at all parts before the next rule does, so that the reason does not hang on their order.
    for part in parts:
        denial = _never(part)
        if denial is not None:
            return denial
    if any(_within(part, rules.deny) for part in parts):
        return Denial.DENIED_BY_OPERATOR
    if rules.mode is EgressMode.INTERNAL:
        return None
    denials = (_not_public(part) for part in parts if not _within(part, rules.allow))
    return next((denial for denial in denials if denial is not None), None)


def _parts(address: Address) -> Iterator[Address]:
    """The address itself and every IPv4 address that a translator or the kernel would take out of it."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    bits = int(address)
    if address in _V4_MAPPED:
        # The kernel speaks plain IPv4 here: the outer form never reaches a wire.
        yield ipaddress.IPv4Address(bits & 0xFFFFFFFF)
        return
    yield address
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    # :: and ::1 lie in ::/96 and are themselves, not 0.0.0.0 and 0.0.0.1.
    embedded = [bits & 0xFFFFFFFF] if bits > 1 and _within(address, _V4_IN_TAIL) else []
    if address in _LOCAL_NAT64:
        # Or, by RFC 6052 for a /48 prefix: 16 bits, eight zero bits, 16 bits. Which of the two is the gateway's
        # secret, so both are judged; the empty one is the one that it is not.
        embedded.append((bits >> 64 & 0xFFFF) << 16 | bits >> 40 & 0xFFFF)
    yield from (ipaddress.IPv4Address(inner) for inner in embedded if inner)


def _never(address: Address) -> Denial | None:
    return next((denial for denial, networks in _NEVER if _within(address, networks)), None)


def _not_public(address: Address) -> Denial | None:
    if _within(address, _LOOPBACK):
        return Denial.LOOPBACK
    if _within(address, _PRIVATE):
        return Denial.PRIVATE
    if not address.is_global or _within(address, _RESERVED):
        return Denial.RESERVED
    return None


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
