from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.chaos.faults.registry import FAULTS
from tests.chaos.mutants import MUTANTS, ROOT, Mutant, remove_guard


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.guard for mutant in MUTANTS])
def test_every_guard_stands_where_its_mutant_looks_for_it(mutant: Mutant, tmp_path: Path) -> None:
    copy = tmp_path / mutant.file
    copy.parent.mkdir(parents=True)
    shutil.copy(ROOT / mutant.file, copy)
    remove_guard(tmp_path, mutant)
    assert copy.read_text() != (ROOT / mutant.file).read_text()
    assert all((ROOT / path).exists() for path in mutant.tests)
    assert not mutant.fault or mutant.fault in FAULTS
    with pytest.raises(ValueError, match="0 times"):
        remove_guard(tmp_path, mutant)
