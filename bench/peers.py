"""Side by side in one run: Prometheus + blackbox_exporter and Tocsin, on the same nginx, under rising load.

Tocsin does more per check: every result is committed to PostgreSQL with its phases, judged against the monitor's
history under an optimistic lock, and may open an incident. Prometheus appends to its own database and judges nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.measurement import Measurement
from bench.peer import Peer, PeerMeasurement
from bench.plan import Plan
from bench.progress import Progress
from bench.scenarios import MIN_COVERAGE, held, throughput
from bench.stack import ROOT, end
from bench.target import Target, start_target

PEER_STEPS = (500, 1_000, 1_500, 2_000, 2_500, 3_000, 3_500, 4_000, 4_500, 5_000)
STEPS = (1_000, 2_000, 3_000, 5_000, 6_500, 8_000, 9_500, 10_000, 10_500, 11_000)


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Both rows of steps; the last of each is the one that was not held, if there was one."""

    peer: list[PeerMeasurement]
    ours: list[Measurement]

    @property
    def peer_best(self) -> PeerMeasurement | None:
        """The greatest load that the peer held."""
        return max((m for m in self.peer if peer_held(m)), key=lambda m: m.done, default=None)

    @property
    def our_best(self) -> Measurement | None:
        """The greatest load that we held."""
        return max((m for m in self.ours if held(m)), key=lambda m: m.checks.committed, default=None)

    @property
    def ratio(self) -> float | None:
        """Ours ÷ theirs, in checks per second held."""
        ours, theirs = self.our_best, self.peer_best
        if ours is None or theirs is None:
            return None
        return (ours.checks.committed / ours.seconds) / (theirs.done / theirs.seconds)

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        return {
            "peer": [{**m.as_json(), "held": peer_held(m)} for m in self.peer],
            "steps": [{**m.as_json(), "held": held(m)} for m in self.ours],
            "ratio": self.ratio,
        }


def peer_held(step: PeerMeasurement) -> bool:
    """The rule that holds for us, too; how late its scrapes start, Prometheus does not say."""
    return step.coverage >= MIN_COVERAGE


def side_by_side(
    plan: Plan, progress: Progress, *, peer_steps: Sequence[int] = PEER_STEPS, steps: Sequence[int] = STEPS
) -> SideBySide:
    """Raise both loads, each until it is not held any more."""
    return SideBySide(_peer(plan, progress, peer_steps), throughput(plan, steps, progress))


def _peer(plan: Plan, progress: Progress, steps: Sequence[int]) -> list[PeerMeasurement]:
    folder = Path(tempfile.mkdtemp(prefix="tocsin-bench-"))
    env = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(ROOT)}
    measured: list[PeerMeasurement] = []
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        target = start_target(plan.target, folder / "target", env, ROOT, lambda line: progress.show(line, None))
        undo.callback(end, [target.process])
        for monitors in steps:
            tries = [folder / f"peer-{monitors}-{number}" for number in (1, 2)]
            for place in tries:  # fair: one bad start does not end the row
                step = _peer_step(replace(plan, monitors=monitors), target, place, env, progress)
                if peer_held(step):
                    break
            measured.append(step)
            if not peer_held(step):
                break
    return measured


def _peer_step(plan: Plan, target: Target, folder: Path, env: Mapping[str, str], progress: Progress) -> PeerMeasurement:
    title = f"Prometheus + blackbox_exporter, {plan.monitors:,} targets at {plan.interval_s} s"
    with Peer(plan, target, folder, env, lambda line: progress.show(f"{title}: {line}", None)) as peer:
        return peer.measure(lambda what, done: progress.show(f"{title}: {what}", done))
