"""Connections: one limited pool per service, a database role per transaction, errors translated by one table."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import set_json_loads
from pydantic_core import from_json
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from common.clock import monotonic_s
from common.domain.errors import Contended, NotMigrated, Unavailable
from common.store import schema
from common.store.once import Once

__all__ = ["Connection", "Database", "DatabaseRole", "Listener", "Trouble", "classify", "commit_durably", "now_s"]


class DatabaseRole(StrEnum):
    """The role a transaction takes (SET LOCAL ROLE): the login may be a superuser, who would bypass everything."""

    OWNER = "tocsin_owner"
    API = "tocsin_api"
    WORKER = "tocsin_worker"


class Trouble(StrEnum):
    """What a failed statement means for whoever sent it."""

    AWAY = "away"  # the server cannot be reached or is not ready: everything again, later
    RACE = "race"  # deadlock or serialization: everything again, now
    REFUSED = "refused"  # this statement with these values will never work


#: SQLSTATE prefixes, the longest match wins; no SQLSTATE at all means that there is no connection.
_TROUBLE: dict[str, Trouble] = {
    "": Trouble.REFUSED,
    "08": Trouble.AWAY,  # connection exception
    "40": Trouble.RACE,  # transaction rollback: serialization, deadlock
    "53": Trouble.AWAY,  # insufficient resources: disk full, out of memory, too many connections
    "55P03": Trouble.RACE,  # lock_timeout
    "57": Trouble.AWAY,  # operator intervention: shutdown, crash, cannot connect now; 57014 is below
    "57014": Trouble.RACE,  # statement_timeout
    "58": Trouble.AWAY,  # system error
    "25006": Trouble.AWAY,  # read-only: a standby that is about to be promoted
    "25P03": Trouble.RACE,  # idle in transaction too long
}

#: SQLSTATE prefixes of what is refused where a table, a column, a function, a right or our role is not there yet.
_MISSING = ("42", "3F000", "22023")

_URL_DRIVER = "postgresql+psycopg"

#: What an organization's id consists of; "" is none.
_ORG_ID = re.compile(r"[0-9A-Fa-f-]*")

#: A connection that was not used for so long is asked whether it is still one. When it was used last is in its info.
_IDLE_S = 1.0
_USED_S = "used_s"
#: So often a connection has to have sent a statement before the server keeps it.
_PREPARE_AFTER = 5


def classify(error: BaseException) -> Trouble:
    """What a database error means."""
    if isinstance(error, PoolTimeout | Unavailable):
        return Trouble.AWAY
    original = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(original, "sqlstate", None)
    if state is None:
        gone = isinstance(error, OperationalError | InterfaceError | psycopg.OperationalError | psycopg.InterfaceError)
        return Trouble.AWAY if gone or getattr(error, "connection_invalidated", False) else Trouble.REFUSED
    prefix = max((key for key in _TROUBLE if state.startswith(key)), key=len)
    return _TROUBLE[prefix]


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class _Shared:
    """A thread's shared transaction, and what waits for its end: (when it is committed, otherwise)."""

    org_id: str
    connection: Connection
    waiting: list[tuple[Callable[[], object], Callable[[], object]]]

    @contextmanager
    def part(self) -> Iterator[None]:
        """A part that is rolled back takes along what came to wait in it."""
        begun, done = len(self.waiting), False
        try:
            yield
            done = True
        finally:
            if not done:
                gone, self.waiting[begun:] = self.waiting[begun:], []
                for _, otherwise in gone:
                    otherwise()


class Database:
    """A pool of connections that all act as one database role.

    `pool_size` is the hard limit: a caller waits up to `pool_timeout_s` for one, then gets Unavailable. Without
    `durable`, a commit may be lost if the server crashes within the next half second, unless `commit_durably` asks.
    With `custom_plans` nothing is prepared: each execution is planned for its own values.
    """

    def __init__(  # noqa: PLR0913 - each is a limit that a service sets by name
        self,
        url: str,
        role: DatabaseRole,
        *,
        application: str,
        pool_size: int = 4,
        statement_timeout_s: float = 30.0,
        pool_timeout_s: float = 5.0,
        durable: bool = True,
        custom_plans: bool = False,
    ) -> None:
        self._role = role
        self._shared = threading.local()  # .open: this thread's shared transaction
        self._engine = create_engine(
            make_url(url).set(drivername=_URL_DRIVER),
            pool_size=pool_size,
            max_overflow=0,
            hide_parameters=True,  # an error's text goes into logs, and parameters may be secrets
            pool_timeout=pool_timeout_s,
            pool_recycle=1800,
            # Not what it says: `_begin` begins a transaction together with its role, which saves a round trip.
            isolation_level="AUTOCOMMIT",
            connect_args={
                "application_name": f"tocsin {application}",
                "connect_timeout": 5,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 20000,
                "options": f"-c statement_timeout={int(statement_timeout_s * 1000)} -c lock_timeout=10000"
                " -c idle_in_transaction_session_timeout=60000 -c timezone=UTC"
                f" -c synchronous_commit={'on' if durable else 'off'}",
                # Not plan_cache_mode: that would plan every check of a foreign key anew, row by row.
                "prepare_threshold": None if custom_plans else _PREPARE_AFTER,
            },
        )
        event.listen(self._engine, "connect", _read_json_fast)
        event.listen(self._engine, "checkin", _note_use)
        event.listen(self._engine, "checkout", self._prove_alive)
        event.listen(self._engine, "begin", self._begin)

    def _prove_alive(self, raw: Any, record: Any, _proxy: object) -> None:
        # One that was in use a moment ago need not be asked: a round trip less for every transaction under load.
        if monotonic_s() - record.info.get(_USED_S, monotonic_s()) < _IDLE_S:
            return
        try:
            self._engine.dialect.do_ping(raw)
        except psycopg.Error as error:
            # The others are as old: SQLAlchemy gives us a new one and forgets them.
            raise InvalidatePoolError from error

    def _begin(self, connection: Connection) -> None:
        raw: Any = connection.connection.driver_connection
        raw.execute(self._beginning(str(connection.get_execution_options().get("org_id", ""))))

    def _beginning(self, org_id: str) -> str:
        """A transaction with role and organization; both end with it, so a pool or proxy may share the connection."""
        if not _ORG_ID.fullmatch(org_id):
            raise ValueError("not an organization's id")  # it is a part of the text
        return (
            f"BEGIN; SELECT set_config('role', '{self._role.value}', true), set_config('app.org_id', '{org_id}', true)"
        )

    @contextmanager
    def begin(self, org_id: str = "") -> Iterator[Connection]:
        """A transaction, committed at the end, rolled back by an exception.

        With `org_id` the API's row-level security shows that organization; without it, none. Raises Unavailable
        when the database cannot be reached, Contended when another transaction won, and NotMigrated when what is
        missing comes with a migration. Within `share` it is a savepoint of the shared one.
        """
        with self._translated(), self._transaction(org_id) as connection:
            yield connection

    @contextmanager
    def once(self, org_id: str = "") -> Iterator[Once]:
        """What takes small questions, each a transaction in one round trip. Raises as `begin` does."""
        with self._translated(), self._engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            yield Once(raw, self._beginning(org_id))

    @contextmanager
    def share(self, org_id: str = "") -> Iterator[Connection]:
        """A transaction that whatever this thread begins for the same organization becomes a part of.

        So what several functions write, each in what it takes for its own transaction, is there together or not at all.
        """
        waiting: list[tuple[Callable[[], object], Callable[[], object]]] = []
        committed = False
        try:
            with self.begin(org_id) as connection:
                self._shared.open = _Shared(org_id, connection, waiting)
                try:
                    yield connection
                finally:
                    self._shared.open = None
            committed = True
        finally:
            for act, otherwise in waiting:
                (act if committed else otherwise)()

    def after_commit(self, act: Callable[[], object], *, otherwise: Callable[[], object] = _nothing) -> None:
        """Do what cannot be taken back, like sending a mail, once what this thread shares is committed.

        After a rollback `otherwise` is done in its place. Where nothing is shared it is done at once: say it below the
        `begin` that it speaks of.
        """
        shared: _Shared | None = getattr(self._shared, "open", None)
        if shared is None:
            act()
        else:
            shared.waiting.append((act, otherwise))

    @contextmanager
    def _transaction(self, org_id: str) -> Iterator[Connection]:
        shared: _Shared | None = getattr(self._shared, "open", None)
        if shared is not None and shared.org_id == org_id:
            with shared.part(), shared.connection.begin_nested():
                yield shared.connection
            return
        with self._engine.connect() as plain:
            connection = plain.execution_options(org_id=org_id)
            with connection.begin():
                yield connection

    def dispose(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()

    def raw_connection(self) -> psycopg.Connection[Any]:
        """A connection of one's own outside the pool, in autocommit: for LISTEN."""
        dialect_args, dialect_kwargs = self._engine.dialect.create_connect_args(self._engine.url)
        return psycopg.connect(*dialect_args, **dialect_kwargs, autocommit=True, connect_timeout=5)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeout, psycopg.Error) as error:  # the last from what has no wrapper of SQLAlchemy's
            trouble = classify(error)
            if trouble is Trouble.AWAY:
                raise Unavailable("The database cannot be reached.") from error
            if trouble is Trouble.RACE:
                raise Contended("The database is busy with a conflicting change.") from error
            if (older := self._older_schema(error)) is not None:
                raise older from error
            raise

    def _older_schema(self, error: BaseException) -> NotMigrated | None:
        """What something is missing for, if it is a migration: asked outside the pool, which may have nothing left."""
        state = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
        if not state.startswith(_MISSING):
            return None
        try:
            with self.raw_connection() as raw:
                return schema.behind(schema.read(lambda statement: _value(raw.execute(statement.encode()))))
        except psycopg.Error:
            return None  # the first error says more


def _value(cursor: psycopg.Cursor[Any]) -> Any:
    row = cursor.fetchone()
    return None if row is None else row[0]


def _read_json_fast(raw: Any, _record: object) -> None:
    # A page of monitors holds hundreds of small documents; Python's own reader takes several times as long.
    set_json_loads(from_json, raw)


def _note_use(_raw: object, record: Any) -> None:
    record.info[_USED_S] = monotonic_s()


def commit_durably(connection: Connection) -> None:
    """Make this transaction's commit wait for the disk, whatever the pool's default."""
    connection.exec_driver_sql("SET LOCAL synchronous_commit = on")


def now_s(connection: Connection) -> float:
    """The database's clock as Unix seconds, not the transaction's start."""
    return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())


class Listener:
    """Hears NOTIFY on some channels, through a connection of its own. A hint only: also look now and then."""

    def __init__(self, database: Database, channels: tuple[str, ...]) -> None:
        self._database = database
        self._channels = channels
        self._connection: psycopg.Connection[Any] | None = None

    def wait(self, timeout_s: float) -> list[tuple[str, str]]:
        """(channel, payload) of what was notified within the timeout. Raises Unavailable."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            heard = list(self._connection.notifies(timeout=timeout_s, stop_after=1))
            if heard:
                heard.extend(self._connection.notifies(timeout=0))
        except psycopg.Error as error:
            self._connection = None
            raise Unavailable("The database cannot be reached.") from error
        return [(notice.channel, notice.payload) for notice in heard]

    def _connect(self) -> psycopg.Connection[Any]:
        connection = self._database.raw_connection()
        for channel in self._channels:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        return connection
