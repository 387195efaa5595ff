"""docs/checks.md is what the code says, and its examples are monitors."""

from __future__ import annotations

from api import parsing
from api.schemas_monitors import MonitorIn
from common.domain.checks import Phases, Reason, Verdict
from tools import check_reasons, check_table
from worker.probes.base import failed
from worker.probes.registry import PROBES


def test_the_table_of_checks_is_up_to_date() -> None:
    assert check_table.PATH.read_text(encoding="utf-8") == check_table.render(), "run: python -m tools.check_table"


def test_every_type_has_an_example_that_is_a_monitor() -> None:
    assert list(check_table.examples()) == [*PROBES, "heartbeat"]
    for example in check_table.examples().values():
        parsing.validate(MonitorIn, example)


def test_every_reason_is_explained_and_only_our_own_are_unknown() -> None:
    assert set(check_reasons.ABOUT) == set(Reason) - {Reason.NONE}
    by_the_worker = {Reason.WORKER_STALLED, Reason.HEARTBEAT_UNHEARD}  # made without or after a probe
    for reason in check_reasons.ABOUT:
        ours = failed(reason, "x", Phases()).verdict is Verdict.UNKNOWN
        assert ours is (reason in check_reasons.OURS - by_the_worker)
