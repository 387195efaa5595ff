"""What a monitor may be told beside its target: the options of each type, named as they are stored and sent.

Secrets stand in them in plain text, here in the worker only; rows hold null in their place.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Trust:
    """How a TLS server is verified and who we are to it; texts are PEM. `ca_certificates` replace the public ones."""

    verify_tls: bool = True
    ca_certificates: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None


@dataclass(frozen=True, slots=True)
class HttpExtras(Trust):
    """What few requests need: a handle that carries it is set up anew, so most have none."""

    http_version: str = "auto"
    proxy: str | None = None
    proxy_username: str | None = None
    proxy_password: str | None = None


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Request of an http monitor; credentials stand in `headers`."""

    method: str = "GET"
    headers: Pairs = ()
    body: str | None = None
    follow_redirects: bool = True
    max_redirects: int = 5
    verify_tls: bool = True
    trace: bool = True
    extras: HttpExtras | None = None


@dataclass(frozen=True, slots=True)
class TcpOptions(Trust):
    """A connection, TLS by `tls` or after `starttls`; then `send`, and read until `expect` (RE2) is found."""

    tls: bool = False
    starttls: str | None = None
    server_name: str | None = None
    send: str | None = None
    expect: str | None = None


@dataclass(frozen=True, slots=True)
class TlsOptions(Trust):
    """A handshake, at once or after a protocol's `starttls`."""

    starttls: str | None = None
    server_name: str | None = None
    min_version: str = "1.2"


@dataclass(frozen=True, slots=True)
class DnsOptions:
    """A question. `resolver` is host or host:port, by default the one that Tocsin itself asks."""

    record_type: str = "A"
    resolver: str | None = None
    transport: str = "udp"


@dataclass(frozen=True, slots=True)
class IcmpOptions:
    """Echo requests, one after the other."""

    count: int = 3
    size: int = 32


@dataclass(frozen=True, slots=True)
class WebsocketOptions(Trust):
    """A handshake; then a text is sent and, with `expect` (RE2), messages are read until one has it."""

    headers: Pairs = ()
    trace: bool = True
    subprotocol: str | None = None
    send: str | None = None
    expect: str | None = None


@dataclass(frozen=True, slots=True)
class SmtpOptions(Trust):
    """Greeting and EHLO. `security` is none, starttls (must be offered) or tls (from the first byte)."""

    security: str = "none"
    ehlo: str = "tocsin.invalid"


@dataclass(frozen=True, slots=True)
class PostgresOptions(Trust):
    """Log in and run one query. `tls` is disable, prefer or require."""

    username: str = "postgres"
    password: str | None = None
    database: str = "postgres"
    query: str | None = None
    tls: str = "prefer"


@dataclass(frozen=True, slots=True)
class RedisOptions(Trust):
    """Log in and run one command, its arguments in a list."""

    username: str | None = None
    password: str | None = None
    database: int = 0
    command: tuple[str, ...] = ("PING",)
    tls: bool = False


@dataclass(frozen=True, slots=True)
class HeartbeatOptions:
    """When pings are expected: every `period_seconds` (None: the interval), or by a `cron` expression in `timezone`.

    With `at_least` so many successes in any `period_seconds`. With `tolerate_failures` a failure is only no success.
    """

    period_seconds: int | None = None
    grace_seconds: int = 60
    cron: str | None = None
    timezone: str = "UTC"
    at_least: int = 1
    tolerate_failures: bool = False


Options = (
    HttpOptions
    | TcpOptions
    | TlsOptions
    | DnsOptions
    | IcmpOptions
    | WebsocketOptions
    | SmtpOptions
    | PostgresOptions
    | RedisOptions
    | HeartbeatOptions
)

#: Monitor type → the class of its options.
OPTIONS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "http": HttpOptions,
        "tcp": TcpOptions,
        "tls": TlsOptions,
        "dns": DnsOptions,
        "icmp": IcmpOptions,
        "websocket": WebsocketOptions,
        "smtp": SmtpOptions,
        "postgres": PostgresOptions,
        "redis": RedisOptions,
        "heartbeat": HeartbeatOptions,
    }
)


def read_options(type_: str, stored: Mapping[str, Any], secrets: Mapping[str, str]) -> Options | None:
    """Options from a row; `secrets` by path fill what is null there. None for a type of a newer version than ours."""
    if type_ not in OPTIONS:
        return None
    given = {name: _value(f"{type_}.{name}", value, secrets) for name, value in stored.items()}
    options: Options = _http(given) if type_ == "http" else _build(OPTIONS[type_], given)
    return options


def _value(path: str, value: Any, secrets: Mapping[str, str]) -> Any:
    if value is None:
        return secrets.get(path)
    if isinstance(value, dict):
        filled = ((name, secrets.get(f"{path}.{name}", "") if text is None else text) for name, text in value.items())
        return tuple(filled)
    return tuple(value) if isinstance(value, list) else value


def _build(kind: type[Any], given: Mapping[str, Any]) -> Any:
    # An older row lacks what is new; a newer one may hold what we do not know yet.
    known = {item.name for item in fields(kind)}
    return kind(**{name: value for name, value in given.items() if name in known})


def _http(given: Mapping[str, Any]) -> HttpOptions:
    extras: HttpExtras = _build(HttpExtras, {**given, "verify_tls": True})
    options: HttpOptions = _build(
        HttpOptions, {**given, "headers": (*given.get("headers", ()), *_authorization(given))}
    )
    if extras == HttpExtras():
        return options
    return replace(options, extras=extras)


def _authorization(given: Mapping[str, Any]) -> Pairs:
    """Credentials as the header that they are: a redirect to another origin leaves it behind like every other."""
    if given.get("bearer_token"):
        return (("Authorization", f"Bearer {given['bearer_token']}"),)
    if given.get("username") is None:
        return ()
    return (("Authorization", f"Basic {basic(given['username'], given.get('password') or '')}"),)


def basic(username: str, password: str) -> str:
    """Credentials as HTTP's Basic scheme writes them."""
    return base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
