from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.chaos.faults.registry import FAULTS
from tests.chaos.guards import MUTANTS, Mutant
from tests.chaos.mutants import ROOT, remove_guard


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
