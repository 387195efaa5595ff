"""Hold our Terraform files against the provider's schema and against themselves: `python -m tools.terraform_check`.

Says of every resource, data source and ephemeral block which argument or block does not exist or is missing; of every
reference whether it leads anywhere; and what is declared and used by nobody.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools import terraform_hcl as hcl
from tools.terraform_schema import PATH, ROOT

#: What the language itself gives to every such block.
_META = {"count", "for_each", "provider", "depends_on"}
_META_BLOCKS = {"lifecycle"}
#: Roots of references that are there without being declared.
_GIVEN = {"each", "count", "path", "self", "terraform"}
_KINDS = ("resource", "data", "ephemeral")


def check_all(root: Path = ROOT, schema: dict[str, Any] | None = None) -> list[str]:
    """Everything that is wrong in the modules below this folder, with the place in front."""
    known = schema if schema is not None else json.loads(PATH.read_text(encoding="utf-8"))
    modules = {folder.resolve(): hcl.read(folder) for folder in sorted({path.parent for path in root.rglob("*.tf")})}
    return [
        f"{folder.relative_to(root.resolve())}: {line}"
        for folder, module in modules.items()
        for line in (*_types(module, known), *_references(module, modules, known), *_unused(module))
    ]


def _types(module: hcl.Module, schema: dict[str, Any]) -> Iterator[str]:
    for block in module.blocks:
        if block.kind not in _KINDS:
            continue
        described = schema[block.kind].get(block.labels[0])
        if described is None:
            yield f"{block.address}: the schema has no such type (python -m tools.terraform_schema)"
        else:
            yield from _body(block.address, block.body, described, _META, _META_BLOCKS)


def _body(
    where: str, body: dict[str, Any], described: dict[str, Any], meta: set[str], blocks: set[str]
) -> Iterator[str]:
    """What of a body the schema does not know, and what of the schema the body does not give."""
    if described.get("open"):
        return
    given: set[str] = set()
    for name, value in hcl.entries(body):
        if name == "dynamic" and hcl.is_block(value) is False:
            for label, inner in _dynamic(value):
                given.add(label)
                yield from _block(where, label, inner, described)
        elif hcl.is_block(value):
            given.add(name)
            for inner in value if name not in blocks else []:
                yield from _block(where, name, inner, described)
        else:
            given.add(name)
            if name not in described["arguments"] and name not in meta:
                why = "is a block, no argument" if name in described["blocks"] else "no such argument"
                yield f"{where}: {why}: {name}"
    required = {name for name, needed in described["arguments"].items() if needed}
    required |= {name for name, inner in described["blocks"].items() if inner["required"]}
    for name in sorted(required - given):
        yield f"{where}: is missing: {name}"


def _block(where: str, name: str, inner: dict[str, Any], described: dict[str, Any]) -> Iterator[str]:
    found = described["blocks"].get(name)
    if found is None:
        yield f"{where}: {'is an argument, no block' if name in described['arguments'] else 'no such block'}: {name}"
    else:
        yield from _body(f"{where}.{name}", inner, found, set(), set())


def _dynamic(value: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of dynamic "x" { content {…} } the name and the content."""
    for labelled in value:
        for label, inner in labelled.items():
            if not label.startswith("__"):
                for content in inner["content"]:
                    yield hcl.plain(label), content


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a module's references can lead to."""

    declared: set[tuple[str, ...]]
    local: set[str]
    calls: dict[str, hcl.Module | None]
    schema: dict[str, Any]


def _references(module: hcl.Module, modules: dict[Path, hcl.Module], schema: dict[str, Any]) -> Iterator[str]:
    scope = _Scope(
        declared={(block.kind, *block.labels) for block in module.blocks},
        local={name for block in module.of("locals") for name, _ in hcl.entries(block.body)},
        calls={block.labels[0]: _called(module, block, modules) for block in module.of("module")},
        schema=schema,
    )
    for block in module.of("module"):
        yield from _call(block, scope.calls[block.labels[0]])
    for block in module.blocks:
        known = _GIVEN | hcl.bound_names(block.body)
        for chain in hcl.references(block.body):
            problem = "" if chain[0] in known else _leads_nowhere(chain, scope)
            if problem:
                yield f"{block.address}: {'.'.join(chain)}: {problem}"


def _leads_nowhere(chain: tuple[str, ...], scope: _Scope) -> str:
    """Why a reference leads nowhere; empty when it leads somewhere."""
    root, name = chain[0], chain[1]
    if root == "var":
        return "" if ("variable", name) in scope.declared else "no such variable"
    if root == "local":
        return "" if name in scope.local else "no such local value"
    if root == "module":
        return _of_module(chain, scope.calls)
    kind = root if root in ("data", "ephemeral") else "resource"
    typed = chain if kind == "resource" else chain[1:]
    if (kind, *typed[:2]) not in scope.declared:
        return "nothing of that name is declared"
    exists = len(typed) < 3 or typed[2] in _attributes(scope.schema, kind, typed[0])
    return "" if exists else f"{typed[0]} has no such attribute"


def _of_module(chain: tuple[str, ...], calls: dict[str, hcl.Module | None]) -> str:
    if chain[1] not in calls:
        return "no such module"
    called = calls[chain[1]]
    outputs = {block.labels[0] for block in called.of("output")} if called else set()
    return "" if len(chain) > 2 and chain[2] in outputs else "the module has no such output"


def _attributes(schema: dict[str, Any], kind: str, name: str) -> set[str]:
    described = schema[kind].get(name, {"arguments": {}, "blocks": {}, "attributes": []})
    return {*described["arguments"], *described["blocks"], *described["attributes"]}


def _called(module: hcl.Module, block: hcl.Block, modules: dict[Path, hcl.Module]) -> hcl.Module | None:
    source = (module.folder / str(hcl.plain(block.body.get("source", "")))).resolve()
    return modules.get(source)


def _call(block: hcl.Block, called: hcl.Module | None) -> Iterator[str]:
    """What a call gives that the module does not take, and what it takes and is not given."""
    if called is None:
        yield f"{block.address}: its source is none of our modules"
        return
    variables = {variable.labels[0]: "default" in variable.body for variable in called.of("variable")}
    given = {name for name, _ in hcl.entries(block.body)} - _META - {"source", "version", "providers"}
    for name in sorted(given - set(variables)):
        yield f"{block.address}: the module has no such variable: {name}"
    for name, has_default in sorted(variables.items()):
        if not has_default and name not in given:
            yield f"{block.address}: is missing: {name}"


def _unused(module: hcl.Module) -> Iterator[str]:
    """Variables, local values and data sources that nothing refers to; a variable's own conditions are no use."""
    used: set[tuple[str, ...]] = set()
    for block in module.blocks:
        chains = hcl.references(block.body)
        own = block.kind == "variable"
        used |= {chain[:3] for chain in chains if not (own and chain[:2] == ("var", block.labels[0]))}
    short = {chain[:2] for chain in used}
    for block in module.of("variable"):
        if ("var", block.labels[0]) not in short:
            yield f"{block.address}: is used by nothing"
    for block in module.of("locals"):
        yield from (
            f"local.{name}: is used by nothing" for name, _ in hcl.entries(block.body) if ("local", name) not in short
        )
    for block in (*module.of("data"), *module.of("ephemeral")):
        if (block.kind, *block.labels) not in used:
            yield f"{block.address}: is used by nothing"


if __name__ == "__main__":
    found = check_all()
    sys.stdout.write("".join(f"{line}\n" for line in found))
    sys.exit(1 if found else 0)
