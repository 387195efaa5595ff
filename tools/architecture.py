"""Write docs/architecture.md, what runs, which loops turn, what imports what: `python -m tools.architecture`."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
PATH = ROOT / "docs" / "architecture.md"

SERVICES = ("api", "scheduler", "worker", "notifier")
#: What of `common` the services stand on; the rest of it is commands and the stack on one machine.
BASE = ("channels", "broker", "http", "store", "domain")

_HEAD = """\
# Architecture

Made from the code by `python -m tools.architecture`; a test holds this file to it. Why things are as they are:
[decisions](decisions). One check's way, function by function: in the
[README](../README.md#follow-one-check-through-the-system).

## What runs

```mermaid
flowchart LR
    users([clients, Prometheus]) --> api
    senders([Alertmanager, PagerDuty clients, pings]) --> api
    api --> pg[(PostgreSQL: the truth)]
    pg -- "NOTIFY: a monitor changed" --> scheduler
    scheduler -- "one leads, by a lease in PostgreSQL" --> pg
    scheduler -- "checks.L, slow.L, urgent.L" --> redis[(Redis: hints)]
    redis --> worker
    worker -- probes --> targets([endpoints])
    worker -- "results, votes, states, incidents, outbox: one transaction" --> pg
    pg -- "NOTIFY: the outbox has something" --> notifier
    notifier -- "ledger: claimed, sent, settled" --> pg
    notifier -- "a hint for each row that may leave" --> redis
    notifier --> receivers([Slack, mail, PagerDuty, webhooks])
```

A decision is a pure function of `common/domain`; an effect is one transaction of `common/store`. Whatever Redis loses,
a loop below finds again in PostgreSQL; whatever it repeats, a version or a unique index refuses. Every process may be
killed at any moment ([what is proved](reliability.md)).

## The data's way

```mermaid
sequenceDiagram
    participant S as scheduler (leader)
    participant R as Redis
    participant W as worker
    participant P as PostgreSQL
    participant N as notifier
    participant C as receiver
    S->>R: up to 100 due checks in a message
    R->>W: message
    W->>W: probe, assert, doubt ourselves
    W->>P: commit: results, votes where the version is still the one read, state, incident, event, outbox
    W->>R: ack, after the commit
    P-->>N: NOTIFY
    N->>P: commit: outbox rows become ledger rows (event x channel, unique)
    N->>P: claim: a lease on the row
    N->>C: send, with the row's id as idempotency key
    N->>P: settle: sent, again later, or dead
```
"""

_LOOPS = """\
## What each process does all the time

Each is a thread that turns one step again and again (`common/process.py` `start_loop`): at once while there is work,
then after a pause; whatever a step raises is logged, counted and tried again.
"""

_IMPORTS = """\
## What stands on what

Services never import each other, SQL is in `common.store` only, and `common.domain` has no input, output or clock:
`make check` holds the [contracts](../.importlinter). The number is how many files import how.
"""


@dataclass(frozen=True, slots=True)
class Loop:
    """A background step of a role."""

    role: str
    name: str
    path: str
    says: str


def render() -> str:
    """The whole file."""
    return f"{_HEAD}\n{_LOOPS}\n{_loop_table()}\n\n{_IMPORTS}\n{_import_graph()}\n"


def loops() -> list[Loop]:
    """Every call of `start_loop`, with the first line of what its step says of itself."""
    found = []
    for role in SERVICES:
        for path in sorted((ROOT / role).glob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for name, step in _started(tree):
                found.append(Loop(role, name, *_described(path, tree, step)))
    return found


def _started(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _last(node.func) == "start_loop" and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value), node.args[1]


def _described(path: Path, tree: ast.Module, step: ast.expr) -> tuple[str, str]:
    """Where a step is, and what it says: the function itself, or the module of the class whose method it is."""
    if isinstance(step, ast.Lambda):
        step = step.body
    if isinstance(step, ast.BoolOp):  # `ready and step()`, `step() or wait()`
        step = step.values[-1 if isinstance(step.op, ast.And) else 0]
    if isinstance(step, ast.Call):
        step = step.func
    here = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    if isinstance(step, ast.Name) and step.id in here:
        said = ast.get_docstring(here[step.id])
        return _relative(path), _first(said or ast.get_docstring(tree))
    owner = step.value if isinstance(step, ast.Attribute) else step
    made = _maker(tree, owner)
    module = _imported(tree).get(made, "") if made else ""
    if not module:
        return _relative(path), _first(ast.get_docstring(tree))
    source = ROOT / f"{module.replace('.', '/')}.py"
    return _relative(source), _first(ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))))


def _maker(tree: ast.Module, owner: ast.expr) -> str:
    """The name of the class that `owner` is an instance of, as far as this file shows it."""
    if isinstance(owner, ast.Call):
        return _last(owner.func)
    wanted = _last(owner)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and wanted in map(_last, node.targets):
            return _returned(tree, _last(node.value.func))
        if isinstance(node, ast.arg) and node.arg == wanted and node.annotation is not None:
            return _last(node.annotation)
    return ""


def _returned(tree: ast.Module, maker: str) -> str:
    """The class itself, or what the function of this file that makes it says that it returns."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == maker and node.returns is not None:
            return _last(node.returns)
    return maker


def _imported(tree: ast.Module) -> dict[str, str]:
    """{name: module} of what is imported from our own packages."""
    return {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in (*SERVICES, "common")
        for alias in node.names
    }


def _last(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _first(docstring: str | None) -> str:
    return (docstring or "").strip().split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def _loop_table() -> str:
    rows = [f"| {loop.role} | `{loop.name}` | {loop.says} | [{loop.path}](../{loop.path}) |" for loop in loops()]
    return "\n".join(["| process | loop | what its file says | where |", "|---|---|---|---|", *rows])


def _import_graph() -> str:
    graph = grimp.build_graph(*SERVICES, "common")
    edges: dict[tuple[str, str], set[str]] = defaultdict(set)
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            pair = (_box(importer), _box(imported))
            if all(pair) and pair[0] != pair[1]:
                edges[pair].add(importer)
    lines = ["```mermaid", "flowchart TD"]
    lines += [f"    {a} -- {len(files)} --> {b}" for (a, b), files in sorted(edges.items())]
    return "\n".join([*lines, "```"])


def _box(module: str) -> str:
    package, _, rest = module.partition(".")
    if package in SERVICES:
        return package
    part = rest.split(".")[0]
    return f"common.{part}" if part in BASE else ""


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
