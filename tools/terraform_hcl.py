"""Read a folder of Terraform files into plain values: blocks, arguments, and the code inside of expressions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hcl2

#: A chain like var.name or data.aws_x.y.z, as it is left when strings are emptied and indexes taken out.
_CHAIN = re.compile(r"(?<![\w.\"-])[A-Za-z_][\w-]*(?:\.(?:[A-Za-z_][\w-]*|\*))+")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_FOR = re.compile(r"\bfor\s+([A-Za-z_]\w*)(?:\s*,\s*([A-Za-z_]\w*))?\s+in\b")


@dataclass(frozen=True, slots=True)
class Block:
    """A top-level block: resource "aws_vpc" "this" has kind resource and labels (aws_vpc, this)."""

    kind: str
    labels: tuple[str, ...]
    body: dict[str, Any]

    @property
    def address(self) -> str:
        """How messages call it."""
        return ".".join((self.kind, *self.labels))


@dataclass(frozen=True, slots=True)
class Module:
    """All files of one folder."""

    folder: Path
    blocks: list[Block] = field(default_factory=list)

    def of(self, kind: str) -> list[Block]:
        """Its blocks of a kind."""
        return [block for block in self.blocks if block.kind == kind]


def read(folder: Path) -> Module:
    """The module in a folder; raises what the parser raises for a file that is none."""
    module = Module(folder)
    for path in sorted(folder.glob("*.tf")):
        for kind, bodies in hcl2.loads(path.read_text(encoding="utf-8")).items():
            if kind.startswith("__"):
                continue
            for body in bodies:
                module.blocks.extend(Block(kind, labels, inner) for labels, inner in _labelled(body))
    return module


def _labelled(body: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """A block's labels are keys around its body."""
    if "__is_block__" in body:
        yield (), body
        return
    for label, inner in body.items():
        if not label.startswith("__"):
            for labels, found in _labelled(inner):
                yield (plain(label), *labels), found


def entries(body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The arguments and blocks of a body, without what the parser notes for itself."""
    return ((plain(name), value) for name, value in body.items() if not name.startswith("__"))


def is_block(value: Any) -> bool:
    """Whether an entry is one or several blocks, not an argument."""
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and "__is_block__" in v for v in value)


def plain(value: Any) -> Any:
    """A quoted string without its quotes; anything else as it is."""
    return value[1:-1] if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"' else value


def expressions(value: Any) -> Iterator[str]:
    """The code in a value and all that is in it: no strings, but what they interpolate."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if not name.startswith("__"):
                yield from expressions(name)
                yield from expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from expressions(inner)
    elif isinstance(value, str):
        yield code(value)


def code(text: str) -> str:
    """An expression with every string emptied but for its interpolations, which follow it."""
    kept: list[str] = []
    inside: list[str] = []  # what encloses this character: '"' a string, "{" braces of code
    position = 0
    while position < len(text):
        pair, character = text[position : position + 2], text[position]
        if inside and inside[-1] == '"':
            if pair in ("${", "%{"):
                inside.append("{")
                kept.append(" ( ")
                position += 1
            elif character == "\\":
                position += 1
            elif character == '"':
                inside.pop()
                kept.append('"')
        elif character == '"':
            inside.append('"')
            kept.append('"')
        elif pair == "${":
            inside.append("{")
            kept.append(" ( ")
            position += 1
        elif character == "{":
            inside.append("{")
            kept.append(character)
        elif character == "}":
            ended = inside.pop() if inside else ""
            kept.append(" ) " if ended and inside and inside[-1] == '"' else character)
        else:
            kept.append(character)
        position += 1
    return "".join(kept)


def references(value: Any) -> list[tuple[str, ...]]:
    """Every chain of names in a value, without indexes: ("var", "name"), ("data", "aws_x", "y", "z")."""
    found: list[tuple[str, ...]] = []
    for text in expressions(value):
        rest = text
        # What stands in brackets is code of its own, be it an index or a list: from the inside out.
        while inner := _BRACKETS.findall(rest):
            found.extend(chain for part in inner for chain in _chains(part))
            rest = _BRACKETS.sub("", rest)
        found.extend(_chains(rest))
    return found


def _chains(text: str) -> Iterator[tuple[str, ...]]:
    return (tuple(part for part in chain.split(".") if part != "*") for chain in _CHAIN.findall(text))


def bound_names(value: Any) -> set[str]:
    """Names that `for` and `dynamic` give within a value."""
    names = {name for text in expressions(value) for pair in _FOR.findall(text) for name in pair if name}
    return names | set(_iterators(value))


def _iterators(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for inner in value:
            yield from _iterators(inner)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name == "dynamic":
                yield from (plain(label) for block in inner for label in block if not label.startswith("__"))
            yield from _iterators(inner)
