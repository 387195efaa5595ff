"""Draw docs/demo.svg, the README's picture, from a real run of the demo: `python -m tools.demo_picture`."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from common.demo import stacks
from common.demo.app import play

PATH = Path(__file__).parent.parent / "docs" / "demo.svg"
WIDTH = 86

THEME = TerminalTheme(
    (22, 27, 34),
    (230, 237, 243),
    [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207),
     (177, 186, 196)],
    [(110, 118, 129), (255, 161, 152), (86, 211, 100), (227, 179, 65), (121, 192, 255), (210, 168, 255), (86, 212, 221),
     (255, 255, 255)],
)  # fmt: skip
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


_CELL = 12.2
_INDENTED = re.compile(r'x="([\d.]+)" y="([\d.]+)" textLength="([\d.]+)" ([^>]*)>((?:&#160;)+)')


def _outdent(match: re.Match[str]) -> str:
    """Leading blanks as a place further right: not every renderer keeps them."""
    x, y, length, rest, blanks = match.groups()
    shift = _CELL * (len(blanks) // len("&#160;"))
    return f'x="{float(x) + shift:.4g}" y="{y}" textLength="{float(length) - shift:.4g}" {rest}>'


def picture(console: Console) -> str:
    """The recorded output as SVG that loads nothing from elsewhere."""
    svg = console.export_svg(title="tocsin demo", theme=THEME, unique_id="demo")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: (Fira Code, monospace|arial);", f"font-family: {FONTS};", svg)
    svg = _INDENTED.sub(_outdent, svg)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def main() -> int:
    """Run the demo on a temporary stack; the exit status is the demo's."""
    console = Console(record=True, force_terminal=True, width=WIDTH, file=io.StringIO(), color_system="truecolor")
    with stacks.temporary(Console(stderr=True)) as stack:
        status = play(stack, console)
    console.print()
    if status == 0:
        PATH.write_text(picture(console), encoding="utf-8")
    sys.stderr.write(f"{PATH.name} drawn\n" if status == 0 else console.export_text())
    return status


if __name__ == "__main__":
    sys.exit(main())
