"""The check of the checks: remove one guard at a time from a copy of the product and see that the suite notices.

`python -m tests.chaos.mutants` (`make chaos-mutants`). For each mutant the tests that should tell run in the copy, and
with `--chaos` the chaos run that should. A mutant that survives both, or a guard whose text has moved, is a failure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "*.pyc", "__pycache__", ".*_cache", ".hypothesis", "docs", "results"
)
_TESTS_WITHIN_S, _CHAOS_WITHIN_S = 300, 400
_SEED = 20


@dataclass(frozen=True, slots=True)
class Mutant:
    """One guard less: `old`, which has to be found exactly once in `file`, becomes `new`.

    `tests` are asked first; `fault` is the chaos run that should notice, in so many `trials`.
    """

    guard: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    fault: str = ""
    trials: int = 6


_LATE_OUTBOX = """import threading

        def late(engine: Any = connection.engine) -> None:
            with engine.begin() as other:
                other.exec_driver_sql(_ANNOUNCE, {"ids": loud})
                other.exec_driver_sql(_NOTIFY)

        threading.Timer(0.3, late).start()"""

MUTANTS = (
    Mutant(
        "a vote is written under its version", "common/store/votes.py",
        "WHERE v.monitor_no = u.monitor_no AND v.location = u.location AND v.version = u.version",
        "WHERE v.monitor_no = u.monitor_no AND v.location = u.location",
        ("tests/integration/test_writer.py", "tests/simulation"),
    ),
    Mutant(
        "a vote is locked under its version", "common/store/votes.py",
        "   WHERE v.version = u.version\n", "",
        ("tests/integration/test_writer.py", "tests/simulation"),
    ),
    Mutant(
        "only a newer slot moves a vote", "common/domain/health.py",
        "return result.slot_ms > vote.last_slot_ms", "return True",
        ("tests/unit/test_health.py", "tests/unit/test_judge.py"), fault="queue-stale",
    ),
    Mutant(
        "one result per slot", "migrations/versions/0001_core.sql",
        "  kind            \"char\" NOT NULL,                     -- chr of common.domain.checks.Kind + '0'\n"
        "  PRIMARY KEY (monitor_no, location, scheduled_at)\n",
        '  kind            "char" NOT NULL\n',
        ("tests/integration/test_writer.py",), fault="queue-duplicate",
    ),
    Mutant(
        "one open incident per key", "migrations/versions/0001_core.sql",
        "CREATE UNIQUE INDEX incidents_one_open", "CREATE INDEX incidents_one_open",
        ("tests/integration/test_incidents_store.py",),
    ),
    Mutant(
        "one ledger row per event and channel", "migrations/versions/0001_core.sql",
        "  CONSTRAINT notifications_once UNIQUE (event_id, channel_id),\n", "",
        ("tests/integration/test_relay.py",),
    ),
    Mutant(
        "an attempt is settled under its lease", "common/store/settlements.py",
        "   WHERE n.lease_token = u.token\n", "",
        ("tests/integration/test_deliver.py", "tests/simulation"),
    ),
    Mutant(
        "a lease is taken only when it has expired", "common/store/leases.py",
        " WHERE l.expires_at < clock_timestamp()\n", "",
        ("tests/integration/test_lease.py", "tests/simulation"), fault="kill-leader",
    ),
    Mutant(
        "a lease is renewed under its epoch", "common/store/leases.py",
        " WHERE name = %(name)s AND holder = %(holder)s AND epoch = %(epoch)s\nRETURNING epoch",
        " WHERE name = %(name)s\nRETURNING epoch",
        ("tests/integration/test_lease.py", "tests/simulation"), fault="freeze-leader",
    ),
    Mutant(
        "the outbox row is in the transaction", "common/store/incidents.py",
        'connection.exec_driver_sql(_ANNOUNCE, {"ids": loud})', _LATE_OUTBOX,
        ("tests/integration/test_writer.py", "tests/integration/test_incidents_store.py"), fault="failpoint-commit",
    ),
    Mutant(
        "a message is acknowledged after its commit", "worker/checks.py",
        "        await ticket.wait()\n", "        del ticket\n",
        ("tests/integration/test_worker_process.py",), fault="failpoint-commit",
    ),
    Mutant(
        "a transition waits for the disk", "worker/writer.py",
        "                commit_durably(connection)\n", "                pass\n",
        ("tests/integration/test_writer.py",), fault="postgres-stop",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one mutant; `noticed_by` is empty when it survived."""

    mutant: Mutant
    noticed_by: tuple[str, ...]
    seconds: float


def main() -> int:
    """Try all mutants; exit status 1 when one survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutants", description=__doc__)
    parser.add_argument("--chaos", action="store_true", help="run the telling chaos as well (a minute or two each)")
    parser.add_argument("--only", default="", help="guards whose name contains this")
    arguments = parser.parse_args()
    console = Console()
    table = Table(title="Each guard removed in turn")
    for name in ("guard", "noticed by", "seconds"):
        table.add_column(name)
    survived = 0
    for mutant in (m for m in MUTANTS if arguments.only in m.guard):
        console.print(f"without: {mutant.guard} …", style="dim")
        verdict = _try(mutant, chaos=arguments.chaos)
        survived += not verdict.noticed_by
        told = "; ".join(verdict.noticed_by) or "[bold red]nobody[/bold red]"
        table.add_row(mutant.guard, told, f"{verdict.seconds:.0f}")
    console.print(table)
    return 1 if survived else 0


def _try(mutant: Mutant, *, chaos: bool) -> Verdict:
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="tocsin-mutant-"))
    try:
        copy = folder / "tree"
        shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
        remove_guard(copy, mutant)
        noticed = [path for path in mutant.tests if _fails(_pytest(path), copy, _TESTS_WITHIN_S)]
        if chaos and mutant.fault and _fails(_chaos(mutant), copy, _CHAOS_WITHIN_S):
            noticed.append(f"chaos {mutant.fault}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Verdict(mutant, tuple(noticed), time.monotonic() - began)


def remove_guard(tree: Path, mutant: Mutant) -> None:
    """Apply a mutant to a tree; raises ValueError when its guard is not found exactly once."""
    path = tree / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.file} holds the guard {mutant.guard!r} {text.count(mutant.old)} times, not once")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def _pytest(path: str) -> list[str]:
    return ["-m", "pytest", "-x", "-q", path]


def _chaos(mutant: Mutant) -> list[str]:
    return ["-m", "tests.chaos", "--profile", "quick", "--fault", mutant.fault, "--trials", str(mutant.trials),
            "--seed", str(_SEED)]  # fmt: skip


def _fails(arguments: Sequence[str], tree: Path, within_s: float) -> bool:
    """Whether it says that something is wrong (status 1); any other failure is not a proof and raises."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.communicate(timeout=30)
            return True  # it hangs, which the suite's own time limit would say as well
    if process.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {said[-800:]}")
    return process.returncode == 1


if __name__ == "__main__":
    sys.exit(main())
