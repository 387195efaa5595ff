"""Write .env.example from the settings: `python -m tools.env_example`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from pydantic_core import PydanticUndefined

from common.settings import SECRET_FIELDS, VARIABLES, Settings

PATH = Path(__file__).parent.parent / ".env.example"

_HEAD = """\
# Every setting of Tocsin. Nothing here is needed for `make run`: it starts its own PostgreSQL and Valkey.
# A commented line shows the default. A secret may come from a file instead: set <NAME>_FILE to its path.
"""

_COMPOSE_HEAD = """
# What docker-compose.yml alone reads, see docs/deploy-compose.md.
"""

#: Variables of docker-compose.yml that are no settings: default and description. None begins with TOCSIN_, since a role
#: gets the whole file and refuses what is no setting.
COMPOSE_VARIABLES: Mapping[str, tuple[str, str]] = {
    "POSTGRES_PASSWORD": ("", "Of the database; letters and digits only. Has to be set."),
    "VALKEY_PASSWORD": ("", "Of the queue; letters and digits only. Has to be set."),
    "GRAFANA_PASSWORD": ("", "Of Grafana's user admin. Has to be set."),
    "IMAGE": ("tocsin:0.1.0", "The image of every role."),
    "WORKERS": ("2", "How many worker containers."),
    "PUBLISH_API": ("127.0.0.1:8000", "Where the host listens for the API."),
    "PUBLISH_PROMETHEUS": ("127.0.0.1:9090", "Where it listens for Prometheus."),
    "PUBLISH_GRAFANA": ("127.0.0.1:3000", "Where it listens for Grafana."),
    "PUBLISH_MAIL": ("127.0.0.1:8025", "Where it listens for the mail catcher's pages."),
}


def render() -> str:
    """The file's text."""
    compose = (f"\n# {text}\n#{name}={default}\n" for name, (default, text) in COMPOSE_VARIABLES.items())
    return (
        _HEAD
        + "".join(_entry(variable, name) for variable, name in VARIABLES.items())
        + _COMPOSE_HEAD
        + "".join(compose)
    )


def _entry(variable: str, name: str) -> str:
    field = Settings.model_fields[name]
    text = "\n".join(f"# {line}" for line in textwrap.wrap(field.description or "", 110))
    default = "" if field.default in (None, PydanticUndefined) else field.default
    also = f"\n#{variable}_FILE=" if name in SECRET_FIELDS else ""
    return f"\n{text}\n#{variable}={default}{also}\n"


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
