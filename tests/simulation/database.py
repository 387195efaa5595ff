"""PostgreSQL, modelled: tables, transactions, row locks, crashes. What each statement means is in `statements`.

READ COMMITTED with what matters here: a transaction's writes are seen by nobody before its commit, locks last until its
end, a lock that would have to be waited for ends in Contended (deadlock victim or lock_timeout, both of which the
product must survive), a commit without `synchronous_commit` may be lost by a crash of the server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Self

from common.domain.errors import Contended, Unavailable
from tests.simulation.engine import Simulator
from tests.simulation.listening import ListeningConnection
from tests.simulation.process import EPOCH_S, Process

#: What a crash may take away of results that were committed asynchronously (seconds).
_ASYNC_LOSS_S = 0.6

Change = tuple[str, Any, Any, Any]
"""(table, key, row before, row after); None for none"""


class Guard(StrEnum):
    """A condition in the SQL that keeps one invariant; a schedule can be run without it."""

    VOTE_VERSION = "vote_version"
    STATE_LOCK = "state_lock"
    ONE_OPEN = "one_open"
    RESULT_KEY = "result_key"
    OUTBOX_IN_TRANSACTION = "outbox_in_transaction"
    ORGANIZATION_HOLD = "organization_hold"
    LEDGER_KEY = "ledger_key"
    CLAIM_LEASE = "claim_lease"
    CLAIM_ORDER = "claim_order"
    LEASE_TOKEN = "lease_token"
    MESSAGE_ID = "message_id"
    EPOCH = "epoch"
    LEASE_EXPIRY = "lease_expiry"


class Rows(list[Any]):
    """What a statement answers, with the few methods of SQLAlchemy's result that the product uses."""

    def first(self) -> Any:
        return self[0] if self else None

    def all(self) -> Rows:
        return self

    def scalar(self) -> Any:
        return self[0][0] if self else None

    def scalar_one(self) -> Any:
        return self[0][0]

    @property
    def rowcount(self) -> int:
        return len(self)


Statement = Callable[["Transaction", Any], Any]


class Server:
    """The one database. `watch` is called with the changes of every commit."""

    def __init__(self, sim: Simulator, statements: Mapping[str, Statement], without: frozenset[Guard]) -> None:
        self.sim = sim
        self.statements = statements
        self.without = without
        self.away_until = 0.0
        self.step_s = 0.0
        self.crashes = 0
        self.locks: dict[tuple[str, Any], Transaction] = {}
        self.tables: dict[str, dict[Any, Any]] = {}
        self.watch: Callable[[list[Change]], None] = lambda _changes: None
        self.listeners: dict[str, list[Callable[[str], None]]] = {}
        self.serial = 0
        self.open: dict[str, dict[Any, bool]] = {"notifications": {}, "events": {}, "outbox": {}}
        self.on_confirmation: list[Callable[[float], None]] = []
        self._loose: list[tuple[float, list[Change]]] = []

    def table(self, name: str) -> dict[Any, Any]:
        return self.tables.setdefault(name, {})

    def now_s(self) -> float:
        """clock_timestamp() as Unix seconds."""
        return EPOCH_S + self.sim.now + self.step_s

    def next_no(self) -> int:
        """An identity column's next value."""
        self.serial += 1
        return self.serial

    def apply(self, changes: list[Change], *, durable: bool) -> None:
        """A commit."""
        for table, key, _, new in changes:
            if table == "votes" and new[11] is not None:
                for listener in self.on_confirmation:
                    listener(new[11].timestamp() - EPOCH_S - self.step_s)
            elif table in ("notifications", "events", "outbox"):
                self._note_open(table, key, new)
            if new is None:
                self.tables[table].pop(key, None)
            else:
                self.tables[table][key] = new
        if durable:
            self._loose.clear()
        else:
            self._loose.append((self.sim.now, changes))
        self.watch(changes)

    def _note_open(self, table: str, key: Any, row: Any) -> None:
        """Keep in mind which rows a notifier still has to do something about."""
        done = row is None or (table == "events" and row["seq"] is not None)
        if done or (table == "notifications" and row["status"] != "pending"):
            self.open[table].pop(key, None)
        else:
            self.open[table][key] = True

    def crash(self, seconds: float) -> None:
        """Immediate stop and recovery: open transactions are gone, and the last asynchronous commits may be."""
        self.sim.strike("database crash", "postgres", f"back in {seconds:.1f} s")
        self.crashes += 1
        self.away_until = max(self.away_until, self.sim.now + seconds)
        for transaction in set(self.locks.values()):
            transaction.abort()
        self.locks.clear()
        since = self.sim.now - self.sim.rng.uniform(0, _ASYNC_LOSS_S)
        while self._loose and self._loose[-1][0] > since:
            for table, key, old, _ in reversed(self._loose.pop()[1]):
                if old is None:
                    del self.tables[table][key]
                else:
                    self.tables[table][key] = old
        self._loose.clear()

    def notify(self, channel: str, payload: str) -> None:
        for listener in self.listeners.get(channel, ()):
            listener(payload)


class Database:
    """What a process holds of the server: stands where the product's `Database` does."""

    def __init__(self, server: Server, process: Process, *, durable: bool = True) -> None:
        self.server = server
        self.process = process
        self.durable = durable

    def begin(self, _org_id: str = "") -> Transaction:
        return Transaction(self)

    def raw_connection(self) -> ListeningConnection:
        return ListeningConnection(self.server)


class Transaction:
    """One transaction; also the `Connection` that the product's store functions are given."""

    __slots__ = ("after_commit", "durable", "gone", "held", "process", "server", "writes")

    def __init__(self, database: Database) -> None:
        self.server = database.server
        self.process = database.process
        self.durable = database.durable
        self.gone = False
        self.writes: dict[str, dict[Any, Any]] = {}
        self.held: list[tuple[str, Any]] = []
        self.after_commit: list[Callable[[], None]] = []

    # As the product sees it ---------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self.server.away_until > self.server.sim.now:
            raise Unavailable("The database cannot be reached.")
        self.process.sessions.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        if self in self.process.sessions:
            self.process.sessions.remove(self)
        if kind is not None:
            self.abort()
            return
        self._commit()

    def exec_driver_sql(self, sql: str, parameters: Any = None) -> Any:
        """Run a statement of the product's store, known by its text."""
        if self.server.sim.blown():
            self._trouble()
        if self.gone:
            raise Unavailable("The database cannot be reached.")
        return self.server.statements[sql](self, parameters)

    def execute(self, _query: object) -> Rows:
        """The one statement that is not a constant of the store: the database's clock."""
        if self.server.sim.blown():
            self._trouble()
        if self.gone:
            raise Unavailable("The database cannot be reached.")
        return Rows([(self.server.now_s(),)])

    # As statements see it -----------------------------------------------------------------------------------------

    def rows(self, table: str) -> dict[Any, Any]:
        """All rows that this transaction sees."""
        mine = self.writes.get(table)
        rows = self.server.tables[table]
        if not mine:
            return rows
        return {key: row for key, row in {**rows, **mine}.items() if row is not None}

    def get(self, table: str, key: Any) -> Any:
        mine = self.writes.get(table)
        if mine is not None and key in mine:
            return mine[key]
        return self.server.tables[table].get(key)

    def put(self, table: str, key: Any, row: Any) -> None:
        self.writes.setdefault(table, {})[key] = row

    def try_lock(self, table: str, key: Any) -> bool:
        """FOR UPDATE SKIP LOCKED."""
        lock = (table, key)
        holder = self.server.locks.setdefault(lock, self)
        if holder is self:
            self.held.append(lock)
        return holder is self

    def lock(self, table: str, key: Any) -> None:
        """FOR UPDATE, an UPDATE, or the insertion of a unique key."""
        if not self.try_lock(table, key):
            raise Contended("The database is busy with a conflicting change.")

    def lacks(self, guard: Guard) -> bool:
        return guard in self.server.without

    # Ends ---------------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Roll back: by the caller, by a lost connection, by the death of either side."""
        self.gone = True
        self.writes.clear()
        self._unlock()

    def _unlock(self) -> None:
        for lock in self.held:
            self.server.locks.pop(lock, None)
        self.held.clear()

    def _commit(self) -> None:
        sim, server = self.server.sim, self.server
        if sim.blown():
            try:
                self._trouble()
            except BaseException:
                self.abort()
                raise
        if self.gone:
            raise Unavailable("The database cannot be reached.")
        self._unlock()
        if self.writes:
            changes = [
                (table, key, server.tables[table].get(key), row)
                for table, mine in self.writes.items()
                for key, row in mine.items()
            ]
            server.apply(changes, durable=self.durable)
        if sim.blown():
            self._trouble(committed=True)
        for action in self.after_commit:
            action()

    def _trouble(self, *, committed: bool = False) -> None:
        """A fault at this statement or commit."""
        sim, process = self.server.sim, self.process
        where = "after commit" if committed else "in a transaction"
        if sim.rng.random() < sim.slow_share:
            sim.strike("slow statement", process.name, where)
            sim.pause(process, sim.rng.choice((0.05, 0.5, 2.0, 6.0)))
            return
        draw = sim.rng.random()
        if draw < 0.45:
            sim.die(process, where)
        elif draw < 0.75:
            process.freeze(sim.rng.choice((0.5, 4.0, 8.0, 20.0)), suspend=sim.rng.random() < 0.3)
            sim.pause(process, process.frozen_until - sim.now)
        else:
            sim.strike("connection lost", process.name, where)
            self.abort()
            raise Unavailable("The database cannot be reached.")
