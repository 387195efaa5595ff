"""docs/architecture.md is what the code says, and every background loop says what it is for."""

from __future__ import annotations

from tools import architecture


def test_the_architecture_is_up_to_date() -> None:
    assert architecture.PATH.read_text(encoding="utf-8") == architecture.render(), "run: python -m tools.architecture"


def test_every_loop_is_found_and_says_what_it_does() -> None:
    found = {(loop.role, loop.name): loop for loop in architecture.loops()}
    assert len(found) >= 25
    assert [loop.name for loop in found.values() if not loop.says] == []
    assert found["worker", "writer"].path == "worker/writer.py"
    assert found["notifier", "deadman"].path == "notifier/deadman.py"
    assert found["scheduler", "lease"].path == "scheduler/lease.py"
    own = [loop for loop in found.values() if loop.path.endswith("/app.py")]
    assert [loop.name for loop in own if loop.says.startswith("The ")] == []  # a role's file is not what its loop does
