"""Read a monitor's target by its type: the one reading that the API checks, the policy judges and the probe goes to."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from types import MappingProxyType

import idna

from common.http.dial import Endpoint
from common.http.target import Host, Target, parse_authority, parse_host, parse_target

#: Types whose target is `host:port`, also as `type://host:port`; the port that goes without saying, if one does.
PORTS: Mapping[str, int | None] = MappingProxyType(
    {"tcp": None, "tls": 443, "smtp": 25, "postgres": 5432, "redis": 6379}
)
#: What the dns probe can ask for.
RECORD_TYPES = ("A", "AAAA", "CNAME", "MX", "TXT", "NS", "SRV", "CAA", "SOA", "PTR")
_QUESTION = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_*-]{1,63}\.)*[a-z0-9_*-]{1,63}")
_WEB_SCHEMES = {"ws": "http", "wss": "https"}


def parse_endpoint(type_: str, text: str) -> Endpoint | str:
    """Host and port of a type in PORTS; a text in place of them says what is wrong."""
    authority = text.removeprefix(f"{type_}://").removesuffix("/")
    found = parse_authority(authority, PORTS[type_])
    if isinstance(found, str):
        return f"must be host:port ({found})" if PORTS[type_] is None else f"must be host or host:port ({found})"
    return Endpoint(*found)


def parse_websocket(url: str) -> Target | str:
    """A ws:// or wss:// URL, read as the http(s) URL that its handshake is."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in _WEB_SCHEMES:
        return "the target is not a URL like wss://host/path"
    return parse_target(f"{_WEB_SCHEMES[scheme.lower()]}://{rest}")


def parse_resolver(text: str) -> Endpoint | str:
    """A name server: host or host:port."""
    found = parse_authority(text, 53) if not text.count(":") > 1 or text.startswith("[") else parse_host(text)
    if isinstance(found, str):
        return found
    return Endpoint(found, 53) if isinstance(found, Host) else Endpoint(*found)


def parse_question(name: str, record_type: str) -> str | None:
    """The name to ask for, absolute and in ASCII, for PTR also from an address; None when it is none."""
    if record_type == "PTR":
        try:
            return ipaddress.ip_address(name.strip("[]")).reverse_pointer + "."
        except ValueError:
            pass
    if name == ".":
        return name
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return None
    bare = name.lower().removesuffix(".")
    return f"{bare}." if _QUESTION.fullmatch(bare) else None
