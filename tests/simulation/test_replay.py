"""A seed is a schedule: the same every time, in every process, whatever the order of hashes."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.simulation.run import run, simulated

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


@pytest.mark.parametrize("seed", [3, 11, 200])
def test_a_seed_replays_to_the_same_trace(seed: int) -> None:
    traces = [_replay(seed, hash_seed) for hash_seed in ("1", "2")]
    assert traces[0] == traces[1]
    assert len(traces[0].splitlines()) > 20


def test_a_trace_changes_nothing() -> None:
    with simulated():
        for seed in range(20):
            quiet, told = run(seed), run(seed, verbose=True)
            assert (quiet.events, quiet.virtual_s, quiet.faults) == (told.events, told.virtual_s, told.faults)


def test_schedules_contain_what_they_are_about() -> None:
    faults: set[str] = set()
    incidents = receipts = 0
    with simulated():
        for seed in range(150):
            outcome = run(seed)
            faults |= set(outcome.faults)
            incidents, receipts = incidents + outcome.incidents, receipts + outcome.receipts
    assert incidents > 100 and receipts > 200
    assert {"kill", "freeze", "suspend", "connection lost", "slow statement", "database crash", "database away",
            "message lost", "message duplicated", "queue flushed", "queue away", "network lost"} <= faults  # fmt: skip


def _replay(seed: int, hash_seed: str) -> str:
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "--verbose"]
    done = subprocess.run(
        command, env={"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True, timeout=110
    )
    return _UUID.sub("…", done.stdout.rpartition("\n")[0].rpartition("\n")[0])
