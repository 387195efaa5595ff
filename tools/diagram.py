"""Draw the health of a monitor from its transition table into README.md: `python -m tools.diagram`."""

from __future__ import annotations

from pathlib import Path

from common.domain.health import INCIDENT_TABLE, VOTE_TABLE, Health

PATH = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- health diagram: begin -->", "<!-- health diagram: end -->"

_STREAKS = {"not_up": "not up", "down": "down", "up": "up", "not_down": "not down"}


def render() -> str:
    """The diagram's lines, fence included."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> pending"]
    for health, rows in VOTE_TABLE.items():
        lines += [
            f"    {health.label} --> {new.label}: {threshold}_threshold in a row {_STREAKS[streak]}"
            for streak, threshold, new in rows
        ]
    lines += [f"    {Health.DOWN.label} --> {Health.RELEASED.label}: resolved by hand", "```", ""]
    lines += ["| the quorum says | worst of the open incident | then the incident is |", "|---|---|---|"]
    lines += [
        f"| {wanted.label} | {worst.label if worst is not None else 'none is open'} | {change} |"
        for (wanted, worst), change in INCIDENT_TABLE.items()
    ]
    return "\n".join(lines)


def updated(text: str) -> str:
    """The README's text with the diagram as the table has it now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{render()}\n{END}{after}"


if __name__ == "__main__":
    PATH.write_text(updated(PATH.read_text(encoding="utf-8")), encoding="utf-8")
