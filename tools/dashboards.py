"""Grafana's dashboards, made from `tools/dashboard_pages.py`: `python -m tools.dashboards`."""

from __future__ import annotations

import json
from pathlib import Path

from tools.dashboard_pages import PAGES
from tools.dashboard_panels import document

FOLDER = Path(__file__).parent.parent / "infra" / "grafana" / "dashboards"


def rendered() -> dict[str, str]:
    """{file: its text}."""
    return {f"{page.uid}.json": json.dumps(document(page), indent=1, ensure_ascii=False) + "\n" for page in PAGES}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in rendered().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
