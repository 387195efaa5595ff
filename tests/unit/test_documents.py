"""What the documents say is held against the code."""

from __future__ import annotations

import re
from pathlib import Path

from common.settings import Settings
from tools import diagram, env_example

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_env_example_lists_every_setting_with_its_default() -> None:
    assert env_example.PATH.read_text(encoding="utf-8") == env_example.render(), "run: python -m tools.env_example"


def test_every_setting_has_a_variable_and_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not (field.alias and field.description)] == []


def test_the_readme_draws_the_transition_table_as_it_is() -> None:
    assert diagram.updated(README) == README, "run: python -m tools.diagram"


def test_every_file_and_function_that_the_readme_leads_to_exists() -> None:
    steps = README.partition("## Follow one check")[2].partition("## What it does")[0]
    found = re.findall(r"\[`[^`]+`\]\(([^)]+)\)((?: `[\w.]+`(?:, )?)*)", steps)
    assert len(found) >= 15
    for path, names in found:
        source = (ROOT / path).read_text(encoding="utf-8") if path.endswith(".py") else ""
        assert (ROOT / path).exists(), path
        for name in re.findall(r"`([\w.]+)`", names):
            assert re.search(rf"def {name.rpartition('.')[2]}\(", source), f"{name} is not in {path}"


def test_every_local_link_of_the_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
