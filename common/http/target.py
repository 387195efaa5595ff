"""Read a URL or host exactly once and strictly, so that nobody after us can understand it differently.

libcurl gets a URL that is built anew from these parts, and an address literal is normalised as the operating system
would understand it (2130706433, 0x7f.1, 0177.0.0.1, 127.1, fullwidth digits): the egress rules see the truth.
"""

from __future__ import annotations

import base64
import functools
import ipaddress
import re
import socket
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

import idna

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_URL_CHARS = 8_192

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?:#.*)?",
    re.DOTALL,
)
#: Control characters and blanks, and the backslash that some parsers take for a slash.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ufeff]")
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*{_LABEL}")
_NUMERIC_END = re.compile(r"(?:\A|\.)(?:[0-9]+|0x[0-9a-f]*)\Z")
_IDEOGRAPHIC_DOTS = str.maketrans(dict.fromkeys("\u3002\uff0e\uff61", "."))
#: What may stand in a path or query as it is; everything else is percent-encoded. "%" stays: it is encoded already.
_SAFE = "/?:@!$&'()*+,;=-._~%[]|^`{}\"<>"


@dataclass(frozen=True, slots=True)
class Host:
    """A host in its one canonical form; `address` is set when it is an address literal."""

    name: str
    address: str = ""

    @property
    def in_url(self) -> str:
        """As it stands in a URL: IPv6 in brackets."""
        return f"[{self.name}]" if ":" in self.name else self.name


@dataclass(frozen=True, slots=True)
class Target:
    """A URL in parts. `authorization` is what credentials in the URL mean; it is never shown nor sent elsewhere."""

    scheme: str
    host: Host
    port: int
    path: str
    url: str
    authorization: str = ""

    @property
    def origin(self) -> tuple[str, str, int]:
        """Two URLs of one origin may see each other's credentials."""
        return self.scheme, self.host.name, self.port


@functools.lru_cache(maxsize=16_384)
def parse_target(url: str) -> Target | str:
    """Read an http(s) URL; a text in place of a Target says what is wrong with it."""
    if len(url) > MAX_URL_CHARS:
        return f"the URL is longer than {MAX_URL_CHARS} characters"
    if _FORBIDDEN.search(url):
        return "the URL has a blank, a control character or a backslash"
    found = _URL.fullmatch(url)
    if found is None:
        return "the target is not a URL like https://host/path"
    scheme = found["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        return f"the scheme {scheme[:20]} is not supported, only http and https"
    credentials, _, authority = found["authority"].rpartition("@")
    endpoint = parse_authority(authority, DEFAULT_PORTS[scheme])
    if isinstance(endpoint, str):
        return endpoint
    host, port = endpoint
    path = quote((found["path"] or "/") + (found["query"] or ""), safe=_SAFE, errors="replace")
    place = host.in_url if port == DEFAULT_PORTS[scheme] else f"{host.in_url}:{port}"
    return Target(scheme, host, port, path, f"{scheme}://{place}{path}", _basic(credentials))


def parse_authority(authority: str, default_port: int | None = None) -> tuple[Host, int] | str:
    """Read `host`, `host:port` or `[v6]:port`; a text in place of the pair says what is wrong."""
    if authority.startswith("["):
        name, bracket, rest = authority.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return "the brackets around the IPv6 address are wrong"
        name, port_text = name + bracket, rest[1:]
    else:
        name, _, port_text = authority.partition(":")
    host = parse_host(name)
    if isinstance(host, str):
        return host
    if not port_text and default_port is not None:
        return host, default_port
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and 0 < int(port_text) < 65_536):
        return "the port must be a number from 1 to 65535"
    return host, int(port_text)


@functools.lru_cache(maxsize=16_384)
def parse_host(text: str) -> Host | str:
    """Normalise a host: a name in ASCII, or an address as the system would read it; a text says what is wrong."""
    if text.startswith("["):
        return _ipv6(text[1:-1]) if text.endswith("]") else "the brackets around the IPv6 address are wrong"
    if ":" in text:
        return _ipv6(text)
    name = text
    if not text.isascii():
        name = unicodedata.normalize("NFKC", text).translate(_IDEOGRAPHIC_DOTS)
    name = name.lower()
    bare = name.removesuffix(".")
    if _NUMERIC_END.search(bare):
        return _ipv4(bare)
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return "the host is not a valid international name"
        bare = name.removesuffix(".")
    if not _NAME.fullmatch(bare):
        return "the host is not a valid name or address"
    # One name, one form: the root dot would only split caches and confuse certificates.
    return Host(bare)


def _ipv4(text: str) -> Host | str:
    """All forms of inet_aton, which is what getaddrinfo takes for an address before it asks any DNS."""
    try:
        address = socket.inet_ntoa(socket.inet_aton(text))
    except OSError:
        return "the host is not a valid IPv4 address"
    return Host(address, address)


def _ipv6(text: str) -> Host | str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return "the host is not a valid IPv6 address"
    if address.scope_id is not None:
        return "an IPv6 address with a zone is not supported"
    return Host(address.compressed, address.compressed)


def _basic(credentials: str) -> str:
    if not credentials:
        return ""
    user, _, password = credentials.partition(":")
    return "Basic " + base64.b64encode(unquote_to_bytes(user) + b":" + unquote_to_bytes(password)).decode("ascii")
