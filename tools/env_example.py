"""Write .env.example from the settings: `python -m tools.env_example`."""

from __future__ import annotations

import textwrap
from pathlib import Path

from pydantic_core import PydanticUndefined

from common.settings import SECRET_FIELDS, VARIABLES, Settings

PATH = Path(__file__).parent.parent / ".env.example"

_HEAD = """\
# Every setting of Tocsin. Nothing here is needed for `make run`: it starts its own PostgreSQL and Valkey.
# A commented line shows the default. A secret may come from a file instead: set <NAME>_FILE to its path.
"""


def render() -> str:
    """The file's text."""
    return _HEAD + "".join(_entry(variable, name) for variable, name in VARIABLES.items())


def _entry(variable: str, name: str) -> str:
    field = Settings.model_fields[name]
    text = "\n".join(f"# {line}" for line in textwrap.wrap(field.description or "", 110))
    default = "" if field.default in (None, PydanticUndefined) else field.default
    also = f"\n#{variable}_FILE=" if name in SECRET_FIELDS else ""
    return f"\n{text}\n#{variable}={default}{also}\n"


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
