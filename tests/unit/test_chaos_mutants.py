from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

import pytest

from tests.chaos import document
from tests.chaos.faults.registry import FAULTS
from tests.chaos.guards import CORE, MUTANTS, Mutant, Simulated
from tests.chaos.mutants import FOUND, ROOT, Verdict, remove_guard
from tests.simulation.database import Guard
from tests.simulation.scenarios import SCENARIOS

_BY_GUARD = {mutant.guard: mutant for mutant in MUTANTS}


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.guard for mutant in MUTANTS])
def test_every_guard_stands_where_its_mutant_looks_for_it(mutant: Mutant, tmp_path: Path) -> None:
    files = {cut.file for cut in mutant.cuts}
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    remove_guard(tmp_path, mutant)
    assert all((tmp_path / file).read_text() != (ROOT / file).read_text() for file in files)
    assert all((ROOT / path).exists() for path in mutant.tests)
    assert not mutant.fault or mutant.fault in FAULTS
    with pytest.raises(ValueError, match="0 times"):
        remove_guard(tmp_path, mutant)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.guard for mutant in MUTANTS])
def test_a_checker_is_named_for_every_guard_or_the_reason_why_none_can_see_it(mutant: Mutant) -> None:
    assert bool(mutant.simulation or mutant.fault) is not bool(mutant.unseen)
    if mutant.simulation:
        assert mutant.simulation.scenario in SCENARIOS
        assert set(mutant.simulation.without) <= {guard.value for guard in Guard}


@pytest.mark.parametrize("guard", CORE)
def test_the_core_s_guards_are_asked_of_the_simulation_too(guard: str) -> None:
    assert _BY_GUARD[guard].simulation is not None


SAID = [
    ("FAILED tests/unit/test_health.py::test_x[a b] - assert 1 == 2", "test_health.py::test_x[a b]", None),
    ("ERROR tests/integration/test_writer.py::test_y", "test_writer.py::test_y", None),
    ("FAILED tests/simulation/test_guards.py::test_z", "test_guards.py::test_z", None),
    ("I8: monitor 1 has 2 results", None, "I8: monitor 1 has 2 results"),
    ("A3: silence 7 is gone", None, "A3: silence 7 is gone"),
    ("L1: leader lost: checks are made again not", None, "L1: leader lost: checks are made again not"),
    ("seed 12: I10: two lead at once", None, "I10: two lead at once"),
]


@pytest.mark.parametrize(("line", "test", "invariant"), SAID, ids=[line for line, _, _ in SAID])
def test_what_a_run_says_is_understood(line: str, test: str | None, invariant: str | None) -> None:
    found = FOUND.search(f"some words\n{line}\nmore words")
    assert found is not None and (found["test"], found["invariant"]) == (test, invariant)


@pytest.mark.parametrize("line", ["Traceback (most recent call last):", "  I8: indented", "│ I8  │ one result │ 0 │"])
def test_a_crash_and_a_table_are_nobody_s_word(line: str) -> None:
    assert FOUND.search(f"x\n{line}\ny") is None


VERDICTS = [
    # what the tests said, the simulation, chaos, and whether the mutant survived
    ("test_a", "I4: x", None, False),
    ("test_a", None, None, False),
    ("test_a", "", None, True),  # the checker that should notice did not
    ("", "I4: x", None, True),
    ("test_a", "I4: x", "", True),
]


@pytest.mark.parametrize(("tests", "simulation", "chaos", "survived"), VERDICTS)
def test_whoever_was_asked_has_to_notice(tests: str, simulation: str | None, chaos: str | None, survived: bool) -> None:
    assert Verdict(MUTANTS[0], tests, simulation, chaos, 1.0).survived is survived


def test_who_noticed_is_kept_and_shown_and_nobody_else_s_word_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "reliability.md"
    page.write_text("before\n<!-- chaos: guards -->\nof the day before\n<!-- end -->\nafter\n")
    monkeypatch.setattr(document, "DOCUMENT", page)
    document.keep_guards({CORE[0]: {"tests": "test_writer.py::a", "simulation": "I4: b|c"}})
    document.keep_guards({CORE[0]: {"chaos": "kill: I4"}, CORE[1]: {"tests": ""}})
    text = page.read_text()
    assert text.startswith("before") and text.endswith("after\n") and "of the day before" not in text
    assert f"| **{CORE[0]}** | test_writer.py::a | I4: b\\|c |" in text
    assert f"| **{CORE[1]}** | **did not notice** | not tried yet |" in text
    assert document.kept()["guards"][CORE[0]]["chaos"] == "kill: I4"


def test_recoveries_of_all_runs_are_held_against_what_is_promised() -> None:
    kept = {"faults": {"a": {"recoveries": {"leader lost": [4.0, 6.0]}}, "b": {"recoveries": {"leader lost": [7.5]}}},
            "guards": {}}  # fmt: skip
    text = document.recovery(cast("document.Kept", kept))
    assert "| leader lost → every monitor is checked again | ≤ 7 s | 3 | 6.0 s | 7.5 s | **not met** |" in text
    assert "| Redis back → every monitor is checked again | ≤ 15 s | 0 |  |  | not measured yet |" in text


def test_a_simulated_guard_names_its_scenario_first() -> None:
    assert Simulated("crowded").without == ()
