"""How a role's process lives: one loop for every background step, signals that ask it to stop, one way to fail.

A step does one piece of work and returns whether there was any. The loop around it exists here only: it runs the next
step at once while there is work, waits while there is none, and survives whatever a step raises.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self, TypeVar

from common import log, telemetry
from common.domain.errors import Contended, NotMigrated, SettingsError, StackError, Unavailable
from common.settings import Settings, load_settings
from common.spawn import watch_parent

T = TypeVar("T")
Step = Callable[[], bool]

#: A killed `tocsin up` takes its servers along: nothing that we could still wait for will come back (seconds).
_ORPHAN_S = 5

_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM or SIGINT sets. Call it from the main thread."""
    stop, orphaned = threading.Event(), watch_parent()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        if orphaned():
            signal.alarm(_ORPHAN_S)  # its default action ends us, whatever hangs by then

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop


def run_steps(name: str, step: Step, stop: threading.Event, *, idle_s: float) -> None:
    """Run a step until `stop` is set, waiting `idle_s` after one that found no work.

    A step that fails is counted, logged and tried again after a growing pause: in an alerting system a loop that
    silently ends would be the outage. A dependency that is away is one warning, not a traceback a second.
    """
    logger = log.get_logger()
    with _Troubles(name) as troubles:
        while not stop.is_set():
            try:
                worked = step()
            except Unavailable as error:
                troubles.away(error)
            except Exception:
                telemetry.LOOP_ERRORS.labels(name).inc()
                logger.exception("loop_step_failed", loop=name)
                troubles.failed()
            else:
                troubles.over()
                if not worked:
                    stop.wait(idle_s)
                continue
            stop.wait(troubles.pause_s)


#: Held by the loop that has said that the database is not migrated: all loops of a process find out, and one says it.
_saying_not_migrated = threading.Lock()


class _Troubles:
    """What a loop has run into since its last good step; what lasts is said once."""

    def __init__(self, loop: str) -> None:
        self._loop = loop
        self._logger = log.get_logger()
        self._failures = 0
        self._away = self._behind = self._told = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_others_say()

    @property
    def pause_s(self) -> float:
        """How long to wait before the next try."""
        return _BACKOFF_S[min(self._failures, len(_BACKOFF_S)) - 1]

    def failed(self) -> None:
        """The step raised what nobody expected, and that was said."""
        self._failures, self._told = self._failures + 1, True

    def away(self, error: Unavailable) -> None:
        """Something that the step needs is not there."""
        self._failures += 1
        if isinstance(error, NotMigrated):
            if not self._behind and _saying_not_migrated.acquire(blocking=False):
                self._logger.warning("database_not_migrated", error=error.message)
                self._behind = self._told = True
        # Another transaction won: nothing is away, and the same again will do.
        elif not self._away and not isinstance(error, Contended):
            self._logger.warning("dependency_away", loop=self._loop, error=str(error.__cause__ or error))
            self._away = self._told = True

    def over(self) -> None:
        """The step went well."""
        if self._told:
            self._logger.info("loop_recovered", loop=self._loop, failures=self._failures)
        self._failures, self._away, self._told = 0, False, False
        self._let_others_say()

    def _let_others_say(self) -> None:
        if self._behind:
            self._behind = False
            _saying_not_migrated.release()


def wait_for_database(ask: Callable[[], T], stop: threading.Event) -> T | None:
    """What the database answers, as soon as it does and is migrated; None when we are asked to stop before.

    Why we wait is said once.
    """
    said: set[str] = set()
    while not stop.is_set():
        try:
            return ask()
        except Unavailable as error:
            behind = isinstance(error, NotMigrated)
            event = "database_not_migrated" if behind else "waiting_for_database"
            if event not in said:
                log.get_logger().warning(event, error=error.message if behind else str(error.__cause__ or error))
                said.add(event)
            stop.wait(1.0)
    return None


def start_loop(name: str, step: Step, stop: threading.Event, *, idle_s: float) -> threading.Thread:
    """`run_steps` in a thread of its own; the process does not wait for it at exit."""
    thread = threading.Thread(
        target=run_steps, args=(name, step, stop), kwargs={"idle_s": idle_s}, name=name, daemon=True
    )
    thread.start()
    return thread


def main(role: str, run: Callable[[Settings, threading.Event], int]) -> int:
    """Start a role: settings, logs, metrics, signals; the exit status of `run`.

    A wrong setting or an unusable stack is one line on stderr and exit status 2.
    """
    try:
        settings = load_settings()
        log.configure(role, level=settings.log_level, style=settings.log_format)
        if settings.metrics_dir is None:
            _serve_metrics(settings)
        telemetry.tell_build(role)
        _calm_collector()
        return run(settings, stop_on_signals())
    except (SettingsError, StackError) as error:
        sys.stderr.write(f"tocsin {role}: {error.message}\n")
        return 2


def _serve_metrics(settings: Settings) -> None:
    port = settings.metrics_port
    try:
        telemetry.serve(port, settings.bind)
    except OSError as error:
        raise SettingsError(f"TOCSIN_METRICS_PORT: cannot listen on port {port}: {error.strerror}") from None


def _calm_collector() -> None:
    """Look for cycles seldom: hot values hold none, and a fifth of a worker's time went into looking."""
    gc.collect()
    gc.freeze()  # modules and wiring live as long as we do
    gc.set_threshold(50_000, 20, 50)


def require_urls(settings: Settings) -> tuple[str, str]:
    """The database's and the queue's URL; raises SettingsError when a role is started without them."""
    missing = [
        variable
        for variable, value in (("DATABASE_URL", settings.database_url), ("REDIS_URL", settings.redis_url))
        if value is None
    ]
    if missing or settings.database_url is None or settings.redis_url is None:
        raise SettingsError(
            f"{' and '.join(missing)} must be set to start a single role; `tocsin up` starts everything by itself"
        )
    return settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()
