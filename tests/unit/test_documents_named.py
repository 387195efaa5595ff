"""What the documents name exists: settings, commands, targets, routes, metrics, files, links, words, figures."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.registry import REGISTRY

from api.app import ROUTES
from api.server import _DRAIN_S
from bench import sizing
from bench.kept import newest
from common import cli
from common.broker import HEARTBEAT_TIMEOUT_MS
from common.domain.delivery import LEASE
from common.settings import CLIENT_VARIABLES, SECRET_FIELDS, VARIABLES
from common.store.engine import DatabaseRole
from worker.writer import FLUSH_AFTER_S, FLUSH_SIZE

ROOT = Path(__file__).parents[2]
PATHS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "infra").rglob("README.md")])
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PATHS}
ROLES = ("api", "scheduler", "worker", "notifier")

each_document = pytest.mark.parametrize("name", TEXTS)


def code(text: str) -> str:
    """What stands in it as code: blocks and spans, a line each."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return "\n".join([*blocks, *(" ".join(span.split()) for span in spans)])


def sources(*folders: str) -> Iterator[str]:
    for folder in folders:
        yield from (path.read_text(encoding="utf-8") for path in sorted((ROOT / folder).rglob("*.py")))


CODE = {name: code(text) for name, text in TEXTS.items()}


def known_variables() -> set[str]:
    files = {f"{variable}_FILE" for variable, name in VARIABLES.items() if name in SECRET_FIELDS}
    return {*VARIABLES, *CLIENT_VARIABLES, *files}


@each_document
def test_every_setting_is_one(name: str) -> None:
    named = set(re.findall(r"\bTOCSIN_[A-Z_]*[A-Z]\b", TEXTS[name]))
    assert sorted(named - known_variables()) == []


@each_document
def test_every_command_is_one(name: str) -> None:
    for command, second in re.findall(r"(?<![\w/.:=-])(?<!-U )tocsin ([a-z][a-z-]+)(?: ([a-z][a-z-]+))?", CODE[name]):
        assert command in cli.COMMANDS, f"tocsin {command}"
        if second and cli.COMMANDS[command].attribute == "app":
            assert second in cli.load(command).commands, f"tocsin {command} {second}"


@each_document
def test_every_target_of_make_is_one(name: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert sorted(set(re.findall(r"(?:^|[\s`])make ([a-z][a-z-]+)", CODE[name], re.MULTILINE)) - targets) == []


def shape(path: str) -> str:
    """A path with every part that stands for something as {}."""
    return re.sub(r"<[^>]+>|\{[^}]+\}", "{}", path.partition("?")[0]).rstrip(".")


@each_document
def test_every_route_is_one(name: str) -> None:
    routes = {(route.method, shape(route.path)) for route in ROUTES}
    ours = {path.split("/")[1] for _, path in routes}
    for method, path in re.findall(r"\b(GET|POST|PUT|PATCH|DELETE) (/[^\s`\"'|,;)]+)", TEXTS[name]):
        if path.split("/")[1].partition("?")[0] in ours:
            assert (method, shape(path)) in routes, f"{method} {path}"


def exported() -> set[str]:
    names = {sample.name for family in REGISTRY.collect() for sample in family.samples}
    names |= {family.name for family in REGISTRY.collect()}
    names |= {f"{family.name}_total" for family in REGISTRY.collect() if family.type == "counter"}
    # Of monitors and probes: made by the API for one answer.
    return names | set(re.findall(r'"(tocsin_[a-z_]+)"', "".join(sources("api"))))


#: What else begins like a metric: the database's roles, the composition's volumes.
BESIDE = {*(role.value for role in DatabaseRole), "tocsin_postgres", "tocsin_valkey"}


@each_document
def test_every_metric_is_one(name: str) -> None:
    named = set(re.findall(r"(?<![\w:])tocsin_[a-z_]*[a-z]\b", CODE[name])) - BESIDE
    bare = {re.sub(r"_(?:bucket|sum|count)$", "", metric) for metric in named}
    assert sorted(bare - exported()) == []


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


@each_document
def test_every_link_leads_somewhere(name: str) -> None:
    here = ROOT / name
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", TEXTS[name]):
        path, _, anchor = link.partition("#")
        there = (here.parent / path) if path else here
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


@each_document
def test_every_file_is_one(name: str) -> None:
    named = re.findall(r"(?:^|[\s`])((?:[a-z_.-]+/)+[\w.-]+\.(?:py|ya?ml|md|sql|tf|sh|cjs|txt|in))\b", CODE[name])
    places = (ROOT, ROOT / "docs", (ROOT / name).parent)
    assert [file for file in named if not any((place / file).exists() for place in places)] == []


def test_every_word_of_the_runbooks_is_said_by_the_code() -> None:
    said = "".join(sources(*ROLES, "common", "migrations"))
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", TEXTS["docs/runbooks.md"]))
    words = {word for word in words if not word.startswith(("tocsin_", "pg_"))}
    assert len(words) >= 7
    # Reasons are named by their constants.
    assert [word for word in sorted(words) if f'"{word}"' not in said and f"{word.upper()} = " not in said] == []


# Figures


def connections(role: str) -> int:
    """How many connections to PostgreSQL a process of the role keeps, by its code; of the API without its threads'."""
    found = 0
    for path in sorted((ROOT / role).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        loops = [node for node in ast.walk(tree) if isinstance(node, ast.GeneratorExp)]
        for node in ast.walk(tree):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if called == "Listener":
                found += 1
            elif called == "Database":
                over = [loop.generators[0].iter for loop in loops if node in ast.walk(loop)]
                times = sum(len(places.elts) for places in over if isinstance(places, ast.Tuple)) or 1
                found += times * _size(node)
    return found


def _size(call: ast.AST) -> int:
    assert isinstance(call, ast.Call)
    size = next(keyword.value for keyword in call.keywords if keyword.arg == "pool_size")
    # settings.api_threads + 1
    number = size.right if isinstance(size, ast.BinOp) else size
    assert isinstance(number, ast.Constant)
    return int(str(number.value))


def test_connections_are_as_operators_and_terraform_count_them() -> None:
    counted = {role: connections(role) for role in ROLES}
    assert counted == {"api": 8, "scheduler": 7, "worker": 5, "notifier": 13}
    said = " ".join(TEXTS["docs/operations.md"].split())
    assert "(api: one per thread and {api}; scheduler {scheduler}, worker {worker}, notifier {notifier})".format(
        **counted
    ) in said  # fmt: skip
    condition = (ROOT / "infra/terraform/variables_sizes.tf").read_text(encoding="utf-8")
    assert f'"TOCSIN_API_THREADS", "8")) + {counted.pop("api")})' in condition
    assert [role for role, count in counted.items() if f"var.roles.{role}.max * {count}" not in condition] == []


PEERS, STEADY, ROLLING = newest("peers"), newest("steady"), newest("rolling")
assert PEERS is not None
assert STEADY is not None
assert ROLLING is not None
MOST = max((step for step in PEERS["steps"] if step["held"]), key=lambda step: step["offered_per_s"])
BYTES = f"{STEADY['detection']['load']['bytes_per_check']:.0f}"
PER_CORE = f"{round(MOST['checks_per_worker_cpu_s'], -1):,.0f}"

#: {document: what it says, with the figure that the code or the last measurement has}
FIGURES = {
    "docs/deploy-aws.md": [f"{BYTES} bytes a check"],
    "docs/operations.md": [
        f"{PER_CORE} HTTP checks a second for each core",
        f"{BYTES} bytes per result",
        f"lease of {LEASE.total_seconds():.0f} s is over",
        f"taken over after {HEARTBEAT_TIMEOUT_MS / 1000:.0f} s",
        f"(api {_DRAIN_S} s,",
    ],
    "docs/scaling.md": [
        f"{MOST['offered_per_s']:,.0f} checks a second on {PEERS['machine']['cores']} cores",
        f"{PER_CORE} checks a second per core",
        f"{BYTES} bytes per check",
        f"up to {FLUSH_SIZE} results or {FLUSH_AFTER_S * 1000:.0f} ms",
        f"at most {1 / FLUSH_AFTER_S:.0f} times a second",
    ],
}


@pytest.mark.parametrize(("name", "said"), [(name, said) for name, lines in FIGURES.items() for said in lines])
def test_every_figure_is_the_codes(name: str, said: str) -> None:
    assert said in " ".join(TEXTS[name].split())


def test_what_is_said_of_an_upgrade_under_load_was_measured() -> None:
    said = " ".join(TEXTS["docs/operations.md"].split())
    assert "no check was lost, no request was answered with a 5xx" in said
    assert ROLLING is not None
    assert (ROLLING["rolling"]["lost"], ROLLING["rolling"]["failed"]) == (0, 0)


def test_the_sizing_table_is_what_was_measured() -> None:
    text = TEXTS["docs/operations.md"]
    assert sizing.filled(text) == text, "run: python -m bench.document"
