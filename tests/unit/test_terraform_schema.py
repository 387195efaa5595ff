"""The Terraform files use what the provider has, refer to what there is, and leave nothing unused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tools import terraform_check, terraform_schema
from tools import terraform_hcl as hcl


def test_every_argument_block_and_reference_exists() -> None:
    assert terraform_check.check_all() == []


def test_there_is_something_to_check() -> None:
    schema = json.loads(terraform_schema.PATH.read_text(encoding="utf-8"))
    used = terraform_schema.used_types()
    assert len(used) > 50
    # A type that nobody uses any more has no place in the extract.
    assert used == {(kind, name) for kind in ("resource", "data", "ephemeral") for name in schema[kind]}


#: File, text, what is put in its place, what has to be said of it.
MUTATIONS = {
    "a misspelt argument": (
        "modules/cache/main.tf",
        "node_type            =",
        "node_typ =",
        "no such argument: node_typ",
    ),
    "a missing required argument": (
        "modules/service/main.tf",
        "name             = var.role\n  cluster ",
        "cluster ",
        "aws_ecs_service.this: is missing: name",
    ),
    "a misspelt block": (
        "modules/service/main.tf",
        "network_configuration {",
        "network_config {",
        "no such block: network_config",
    ),
    "a misspelt dynamic block": (
        "modules/service/main.tf",
        'dynamic "canary_configuration"',
        'dynamic "canary_config"',
        "no such block: canary_config",
    ),
    "a misspelt argument deep inside": (
        "modules/service/main.tf",
        "canary_percent              =",
        "canary_share =",
        "deployment_configuration.canary_configuration: no such argument: canary_share",
    ),
    "a required argument missing deep inside": (
        "modules/service/main.tf",
        "advanced_configuration {\n",
        "advanced_configuration {}\n      advanced_configurations {\n",
        "is missing: role_arn",
    ),
    "a block written as an argument": (
        "modules/database/main.tf",
        "  lifecycle {\n    # Told once",
        "  timeouts = {}\n\n  lifecycle {\n    # Told once",
        "is a block, no argument: timeouts",
    ),
    "an argument that is only ever read": (
        "modules/key/main.tf",
        "enable_key_rotation     = true",
        'enable_key_rotation = true\n  arn = "x"',
        "no such argument: arn",
    ),
    "an unknown type": ("modules/key/main.tf", '"aws_kms_alias"', '"aws_kms_nickname"', "no such type"),
    "an attribute that is none": (
        "modules/database/secrets.tf",
        "aws_db_instance.this.address",
        "aws_db_instance.this.hostname",
        "aws_db_instance has no such attribute",
    ),
    "a resource that is not there": (
        "modules/network/routes.tf",
        "gateway_id             = aws_internet_gateway.this",
        "gateway_id = aws_internet_gateway.that",
        "aws_internet_gateway.that.id: nothing of that name",
    ),
    "a variable that is not there": ("main.tf", "var.rate_limit", "var.limit", "var.limit: no such variable"),
    "a local value that is not there": ("services.tf", "local.lanes", "local.queues", "local.queues: no such local"),
    "an output that is not there": ("main.tf", "module.network.vpc_id", "module.network.id", "has no such output"),
    "a module that is not there": ("main.tf", "module.key.arn", "module.keys.arn", "module.keys.arn: no such module"),
    "an argument that a module does not take": (
        "main.tf",
        "  zones              =",
        "  zone_count =",
        "no such variable: zone_count",
    ),
    "an argument that a module is not given": (
        "main.tf",
        "  zones              = var.network.zones\n",
        "",
        "module.network: is missing: zones",
    ),
    "a reference in a string": (
        "services.tf",
        'name               = "${var.name}-rollout"',
        'name = "${var.nam}-rollout"',
        "var.nam",
    ),
    "a reference in an index": (
        "services.tf",
        "var.roles[each.key].min",
        "var.roles[local.nobody].min",
        "local.nobody",
    ),
    "a variable that nobody uses": (
        "modules/key/variables.tf",
        'variable "name" {',
        'variable "unused" {\n  type = string\n  default = ""\n}\n\nvariable "name" {',
        "variable.unused: is used by nothing",
    ),
    "a data source that nobody uses": (
        "modules/key/main.tf",
        'data "aws_region" "current" {}',
        'data "aws_region" "current" {}\n\ndata "aws_region" "other" {}',
        "data.aws_region.other: is used by nothing",
    ),
    "a local value that nobody uses": (
        "services.tf",
        "locals {\n",
        "locals {\n  spare = 1\n",
        "local.spare: is used by nothing",
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_it_is_noticed(mutation: str, tmp_path: Path) -> None:
    file, text, instead, said = MUTATIONS[mutation]
    root = tmp_path / "terraform"
    shutil.copytree(terraform_schema.ROOT, root)
    before = (root / file).read_text(encoding="utf-8")
    assert text in before, "the mutation has to change something"
    (root / file).write_text(before.replace(text, instead), encoding="utf-8")
    found = terraform_check.check_all(root)
    assert any(said in line for line in found), found


def test_variables_say_what_they_are_and_of_which_type() -> None:
    for folder in {path.parent for path in terraform_schema.ROOT.rglob("*.tf")}:
        for block in hcl.read(folder).of("variable"):
            assert {"description", "type"} <= set(block.body), f"{folder.name}: {block.address}"


def test_no_password_of_ours_gets_into_a_state() -> None:
    forbidden = {"password", "auth_token", "secret_string", "secret_binary"}
    for folder in {path.parent for path in terraform_schema.ROOT.rglob("*.tf")}:
        for block in hcl.read(folder).of("resource"):
            assert not forbidden & set(block.body), f"{folder.name}: {block.address}: use the argument that ends in _wo"
            assert block.labels[0] != "random_password"


def test_every_check_that_is_skipped_has_its_reason() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(terraform_schema.ROOT.rglob("*.tf")))
    skips = re.findall(r"checkov:skip=(\S+?)(?::\s*(.*))?$", text, re.MULTILINE)
    assert skips
    assert [check for check, reason in skips if len(reason.split()) < 5] == []


def test_references_are_what_strings_interpolate_and_indexes_hold() -> None:
    assert sorted(hcl.references('"var.no ${var.a["x.y"].b} text ${join(",", [for s in aws_x.y : s.id])}"')) == [
        ("aws_x", "y"),
        ("s", "id"),
        ("var", "a", "b"),
    ]
    assert sorted(hcl.references("${module.a[var.b[local.d]].c}")) == [
        ("local", "d"),
        ("module", "a", "c"),
        ("var", "b"),
    ]
