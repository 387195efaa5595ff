"""The kept results: bench/results/<time>-<scenario>.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def newest(scenario: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The last kept result of a scenario."""
    found = kept(scenario, folder)
    return found[-1] if found else None


def kept(scenario: str, folder: Path = RESULTS) -> list[dict[str, Any]]:
    """All kept results of a scenario, the oldest first."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(f"*-{scenario}.json")]
    return sorted(documents, key=lambda document: str(document["at"]))
