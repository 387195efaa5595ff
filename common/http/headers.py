"""Request headers: refuse what could smuggle or steer, format the rest for libcurl."""

from __future__ import annotations

import functools
import re

Pairs = tuple[tuple[str, str], ...]

MAX_HEADERS = 100
MAX_VALUE_CHARS = 8_192

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
#: Anything but visible characters, blanks and tabs could start another header line (CR, LF) or end a string (NUL).
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
#: These belong to the connection or decide where a request goes: the engine alone sets them.
_RESERVED = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
#: What may follow a redirect to another origin; anything else might be a credential.
_HARMLESS = frozenset({"accept", "accept-language", "content-type", "user-agent"})


def header_problem(name: str, value: str) -> str | None:
    """Say what is wrong with one custom header (never its value: it may be a secret); None when it is good."""
    if not _TOKEN.fullmatch(name):
        return "a header's name has a character that is not allowed"
    if name.lower() in _RESERVED:
        return f"the header {name} is set by Tocsin itself"
    if _BAD_VALUE.search(value):
        return f"the value of the header {name} has a line break or control character"
    if len(value) > MAX_VALUE_CHARS:
        return f"the value of the header {name} is longer than {MAX_VALUE_CHARS} characters"
    return None


@functools.lru_cache(maxsize=4_096)
def header_lines(headers: Pairs, authorization: str, *, has_body: bool) -> tuple[bytes, ...] | str:
    """Format headers as libcurl wants them; a text in place of the lines says what is wrong with them."""
    if len(headers) > MAX_HEADERS:
        return f"more than {MAX_HEADERS} headers"
    lines: dict[str, list[bytes]] = {"accept-encoding": [b"Accept-Encoding: identity"]}
    if has_body:
        # Not "Expect: 100-continue" (a round trip for nothing), nor a form's content type that nobody chose.
        lines |= {"expect": [b"Expect:"], "content-type": [b"Content-Type:"]}
    if authorization:
        lines["authorization"] = [f"Authorization: {authorization}".encode()]
    own: dict[str, list[bytes]] = {}
    for name, value in headers:
        trouble = header_problem(name, value)
        if trouble is not None:
            return trouble
        # libcurl takes "Name:" for "leave it out" and "Name;" for "send it empty".
        line = f"{name}: {value}" if value.strip() else f"{name};"
        own.setdefault(name.lower(), []).append(line.encode("utf-8", "replace"))
    return tuple(line for group in (lines | own).values() for line in group)


def without_credentials(headers: Pairs) -> Pairs:
    """What is left of the headers when a redirect leads to another origin."""
    return tuple((name, value) for name, value in headers if name.lower() in _HARMLESS)
