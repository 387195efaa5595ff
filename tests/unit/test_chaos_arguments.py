"""What `make chaos` and `make bench` are asked for: whatever cannot be is refused in a line that says what can."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from bench import __main__ as bench
from tests.chaos import __main__ as chaos

CHAOS = [
    (("--fault", "nonsense"), "invalid choice: 'nonsense'"),
    (("--seed", "abc"), "invalid int value: 'abc'"),
    # None of a fault proves nothing, and would be called a success.
    (("--fault", "kill", "--trials", "0"), "'0' is not a number of times"),
    (("--fault", "kill", "--trials", "-3"), "'-3' is not a number of times"),
    (("--trials", "3"), "name it with --fault"),
    (("--fault", "kill", "--minutes", "3"), "the trials say how long it takes"),
    (("--minutes", "nan"), "'nan' is not a number of minutes"),
    (("--minutes", "-1"), "'-1' is not a number of minutes"),
]
BENCH = [
    (("--scenario", "nonsense"), "invalid choice: 'nonsense'"),
    (("--monitors", "many"), "'many' is not a number, or several"),
    (("--monitors", "1000,0"), "'1000,0' is not a number, or several"),
    (("--seconds", "0"), "'0' is not a whole number above 0"),
    (("--workers", "-1"), "'-1' is not a whole number above 0"),
]


@pytest.mark.parametrize(
    ("main", "arguments", "said"),
    [*((chaos.main, *case) for case in CHAOS), *((bench.main, *case) for case in BENCH)],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    main: Callable[[], int], arguments: tuple[str, ...], said: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["it", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
