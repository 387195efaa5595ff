"""The servers that the operator gives by URL: `tocsin up` waits for them, says so once, and not for ever.

Only whether they answer is asked here; whether PostgreSQL lets us in, the migration finds out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from common.domain.errors import StackError
from common.settings import Settings

#: A server that is started at the same time as we are is there by then (seconds).
PATIENCE_S = 30.0
_EVERY_S = 0.5
_TRY_S = 2


@dataclass(frozen=True, slots=True)
class GivenServer:
    """A server that is not ours; `address` is host:port or a socket, without user or password."""

    variable: str
    address: str
    answers: Callable[[], bool] = field(repr=False)


def find(settings: Settings) -> list[GivenServer]:
    """Those that the settings name."""
    given = []
    if settings.database_url is not None:
        given.append(_postgres(settings.database_url.get_secret_value()))
    if settings.redis_url is not None:
        given.append(_redis(settings.redis_url.get_secret_value()))
    return given


def wait(
    given: list[GivenServer], say: Callable[[str], None], stop: threading.Event, *, patience_s: float = PATIENCE_S
) -> None:
    """Return when all answer, or `stop` is set. Raises StackError that names those that do not in time."""
    deadline = time.monotonic() + patience_s
    silent = [server for server in given if not server.answers()]
    if silent:
        say(f"waiting up to {patience_s:.0f} s for {_named(silent)}")
    while silent and not stop.wait(_EVERY_S):
        silent = [server for server in silent if not server.answers()]
        if silent and time.monotonic() >= deadline:
            raise StackError(f"{_named(silent)} cannot be reached: start it, or set another URL")


def _named(servers: list[GivenServer]) -> str:
    return " and ".join(f"{server.variable} ({server.address})" for server in servers)


def _postgres(url: str) -> GivenServer:
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
        address = psycopg.conninfo.make_conninfo(url, connect_timeout=_TRY_S).encode()
    except psycopg.Error:
        raise StackError("DATABASE_URL: is not a URL that PostgreSQL understands") from None
    host, port = parts.get("host") or "localhost", parts.get("port") or 5432

    def answers() -> bool:
        return psycopg.pq.Ping(psycopg.pq.PGconn.ping(address)) is psycopg.pq.Ping.OK

    return GivenServer("DATABASE_URL", f"{host}:{port}", answers)


def _redis(url: str) -> GivenServer:
    parts = urlsplit(url)
    address = unquote(parts.path) if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{parts.port or 6379}"

    def answers() -> bool:
        options = {"socket_timeout": _TRY_S, "socket_connect_timeout": _TRY_S, "retry": Retry(NoBackoff(), 0)}
        try:
            with redis.Redis.from_url(url, **options) as client:
                client.ping()
        except (redis.AuthenticationError, redis.ResponseError) as error:  # a wrong password, no such database
            raise StackError(f"REDIS_URL ({address}): {error}") from None
        except (redis.ConnectionError, redis.TimeoutError):  # one that still loads its data is such an error, too
            return False
        return True

    return GivenServer("REDIS_URL", address, answers)
