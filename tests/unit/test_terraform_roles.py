"""What the Terraform files give to containers is what the product knows: roles, settings, ports, paths, metrics."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import Any

from prometheus_client.registry import REGISTRY

from api import health
from common import broker, telemetry
from common.cli import COMMANDS
from common.domain.checks import Lane
from common.settings import SECRET_FIELDS, VARIABLES, load_settings
from tools import terraform_hcl as hcl
from tools.terraform_schema import ROOT

HOME = Path(__file__).parent.parent.parent


def values(folder: str) -> dict[str, Any]:
    """A module's local values."""
    return {name: value for block in hcl.read(ROOT / folder).of("locals") for name, value in hcl.entries(block.body)}


def written(value: Any) -> dict[str, str]:
    """The entries of an object, also within merge(…): name, and the expression as it stands there."""
    if isinstance(value, dict):
        return {name: str(text) for name, text in hcl.entries(value)}
    return dict(re.findall(r'\b([A-Z][A-Z_]+) = ("[^"]*"|[^,}]+)', value))


ROLES = values(".")["roles"]


def test_the_roles_are_those_that_the_command_knows() -> None:
    assert set(ROLES) == {"api", "scheduler", "worker", "notifier"}
    for name, role in ROLES.items():
        assert [hcl.plain(word) for word in role["command"]] == [name]
        assert COMMANDS[name].module == "common.role_commands"
    assert '["migrate"]' in values("modules/task")["migrate"]
    assert "migrate" in COMMANDS
    operator = next(block for block in hcl.read(ROOT).of("module") if block.labels == ("operator",))
    assert hcl.plain(operator.body["command"][0]) in COMMANDS


def test_every_setting_is_one_that_the_product_reads() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.tf")))
    named = set(re.findall(r"\b(?:TOCSIN_[A-Z_]*[A-Z]|DATABASE_URL|REDIS_URL)\b", text))
    assert len(named) > 15
    assert named <= set(VARIABLES)


def test_secrets_come_from_secrets_manager_and_nothing_else_does() -> None:
    local, task = values("."), values("modules/task")
    secrets = {*written(local["secrets"]), *written(task["first_secrets"])}
    settings = {*written(local["settings"]), *written(task["first_settings"])}
    settings |= set(chain.from_iterable(written(role["settings"]) for role in ROLES.values()))
    assert {"DATABASE_URL", "REDIS_URL", "TOCSIN_JWT_KEY", "TOCSIN_ENCRYPTION_KEYS"} <= secrets
    assert all(VARIABLES[name] in SECRET_FIELDS for name in secrets)
    assert not [name for name in settings if VARIABLES[name] in SECRET_FIELDS]


#: What Terraform fills in, as it would be.
FILLED = {
    "TOCSIN_ADMIN_EMAIL": "admin@example.com",
    "TOCSIN_ADMIN_PASSWORD": "twelve characters",
    "TOCSIN_EGRESS": "public",
    "TOCSIN_EGRESS_DENY": "10.40.128.0/20,10.40.144.0/20",
    "TOCSIN_LOCATION": "local",
    "TOCSIN_METRICS_PORT": "9464",
    "TOCSIN_PORT": "8000",
    "TOCSIN_PUBLIC_URL": "https://tocsin.example.com",
    "DATABASE_URL": "postgresql://tocsin:x@db.example:5432/tocsin?sslmode=verify-full&sslrootcert=/etc/tocsin/rds.pem",
    "REDIS_URL": "rediss://:x@cache.example:6379/0",
    "TOCSIN_JWT_KEY": "x" * 64,
    "TOCSIN_ENCRYPTION_KEYS": "x" * 44,
}


def readers() -> dict[str, list[str]]:
    """{secret: the tasks that are given it}, of those that not all are given."""
    return {name: [hcl.plain(role) for role in roles] for name, roles in hcl.entries(values(".")["readers"])}


def test_every_role_would_start_with_its_settings() -> None:
    local, task = values("."), values("modules/task")
    own = {name: written(role["settings"]) for name, role in ROLES.items()}
    for name, extra in own.items():
        given = [secret for secret in written(local["secrets"]) if name in readers().get(secret, [name])]
        extra.update(dict.fromkeys(given, ""))
    own["migrate"] = {**written(task["first_settings"]), **written(task["first_secrets"])}
    for extra in own.values():
        environ = {
            name: text.strip('"') if re.fullmatch('"[^"$]+"', text.strip()) else FILLED[name]
            for name, text in {**written(local["settings"]), **extra}.items()
        }
        settings = load_settings(environ)
        assert settings.bind == "0.0.0.0"
        assert settings.log_format == "json"
        assert settings.database_url is not None


#: By what the code of a role reads a secret, where it is not the setting's own name.
READ_BY = {"smtp_url": r"smtp_url|open_context", "admin_password": "admin_password"}


def test_a_role_is_given_exactly_the_secrets_that_its_code_reads() -> None:
    for variable, setting in VARIABLES.items():
        if setting in SECRET_FIELDS and setting not in ("database_url", "redis_url", "admin_password"):
            pattern = re.compile(rf"\b(?:{READ_BY.get(setting, setting)})\b")
            reads = {
                name
                for name in ROLES
                if any(pattern.search(path.read_text(encoding="utf-8")) for path in sorted((HOME / name).rglob("*.py")))
            }
            assert reads == set(readers()[variable]) - {"operator"}, variable
    assert set(written(values("modules/task")["first_secrets"])) == {"DATABASE_URL", "TOCSIN_ADMIN_PASSWORD"}
    assert "operator" in readers()["TOCSIN_ENCRYPTION_KEYS"], "rotate-keys"


def test_what_the_first_migration_writes_down_no_role_finds() -> None:
    task = values("modules/task")
    (volume,) = re.findall(r'sourceVolume *[:=] *"(\w+)"', task["migrate"])
    assert volume == "first"
    assert f'sourceVolume = "{volume}"' not in (ROOT / "modules/task/main.tf").read_text().partition("  main = ")[2]


def test_ports_and_paths_are_real() -> None:
    local, paths = values("."), {route.path for route in health.routes}
    assert local["api_port"] == load_settings({}).port
    balancer = next(block for block in hcl.read(ROOT).of("module") if block.labels == ("load_balancer",))
    assert hcl.plain(balancer.body["health_path"]) in paths
    assert hcl.plain(ROLES["api"]["health"]["path"]) in paths
    assert hcl.plain(local["at_metrics"]["path"]) == "/metrics"
    script = hcl.plain(values("modules/task")["probe"][-1])
    assert script in (HOME / "Dockerfile").read_text(encoding="utf-8")


def test_what_asks_nobody_who_they_are_is_not_for_the_world() -> None:
    rule = next(
        block
        for block in hcl.read(ROOT / "modules/load_balancer").of("resource")
        if block.labels == ("aws_lb_listener_rule", "metrics")
    )
    assert '"/metrics"' in rule.body["condition"][0]["path_pattern"][0]["values"]
    assert hcl.plain(rule.body["action"][0]["type"]) == "fixed-response"


def test_metrics_that_alarms_and_scaling_go_by_exist() -> None:
    families = {family.name: family for family in REGISTRY.collect()}
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.tf")))
    named = set(re.findall(r"\btocsin_[a-z_]*[a-z]\b", text))
    gauges = {"tocsin_queue_depth", "tocsin_dead_letters", "tocsin_leader_epoch", "tocsin_outbox_oldest_seconds"}
    assert named == {*gauges, "tocsin_checks_skipped_total"}
    assert {name.removesuffix("_total") for name in named} <= set(families)
    collector = values(".")["collector"]
    kept = re.findall(r'regex *[:=] *"([^"]+)"', collector)
    assert set(kept[0].split("|")) == named, "what the collector does not keep, no alarm sees"
    assert set(re.findall(r'"\^(\w+)"', collector)) == named
    telemetry.QUEUE_DEPTH.labels(queue="x")
    telemetry.DEAD_LETTERS.labels(queue="x")


def test_autoscaling_is_as_promised() -> None:
    scaling, lanes = values(".")["scaling"], values(".")["lanes"]
    assert [role for role in scaling if scaling[role]["cpu_target"] == 70] == ["api", "worker", "notifier"]
    assert scaling["worker"]["backlog"]["target"] == 100
    assert scaling["notifier"]["backlog"]["target"] == 50
    assert {hcl.plain(lane).replace("${var.location}", "here") for lane in lanes} == {
        broker.queue_name(lane, "here") for lane in Lane
    }
    assert [hcl.plain(queue) for queue in scaling["notifier"]["backlog"]["queues"]] == [broker.NOTIFY_QUEUE]


def test_a_full_message_carries_as_much_as_scaling_says(monkeypatch: Any) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(broker, "_enqueue", lambda _broker, message: sent.append(message))
    broker.enqueue_notifications(object(), [str(number) for number in range(1000)])  # type: ignore[arg-type]
    scaling = values(".")["scaling"]
    assert scaling["notifier"]["backlog"]["per_message"] == max(len(message.args[0]["n"]) for message in sent)
    assert scaling["worker"]["backlog"]["per_message"] == broker.BATCH_SIZE


def test_containers_are_confined() -> None:
    confined = values("modules/task")["confined"]
    collector = values("modules/task")["collector"]
    assert f"USER {hcl.plain(confined['user'])}" in (HOME / "Dockerfile").read_text(encoding="utf-8")
    assert [hcl.plain(name) for name in values("modules/task")["capabilities"]["capabilities"]["drop"]] == ["ALL"]
    for container in (confined, collector):
        assert container["readonlyRootFilesystem"] is True
        assert int(hcl.plain(container["user"])) > 0
        assert "local.capabilities" in container["linuxParameters"]
    image = (ROOT / "image" / "Dockerfile").read_text(encoding="utf-8")
    text = (ROOT / "modules/task/main.tf").read_text(encoding="utf-8")
    mounted = set(re.findall(r'containerPath = "([^"]+)"', text))
    assert [f'VOLUME ["{path}"]' for path in mounted] == [line for line in image.splitlines() if "VOLUME" in line]
    database = next(block for block in hcl.read(ROOT).of("module") if block.labels == ("database",))
    assert hcl.plain(database.body["ca_file"]) in image


GUIDE = (HOME / "docs" / "deploy-aws.md").read_text(encoding="utf-8")


def test_every_address_of_the_guide_is_there() -> None:
    named = set(re.findall(r"module\.tocsin\.module\.(\w+)(?:\.(\w+)\.(\w+))?", GUIDE))
    assert len(named) >= 3
    modules = {block.labels[0] for block in hcl.read(ROOT).of("module")}
    for module, kind, name in named:
        assert module in modules
        if kind:
            assert (kind, name) in {block.labels for block in hcl.read(ROOT / "modules" / module).of("resource")}


def test_every_output_of_the_guide_is_every_examples() -> None:
    named = set(re.findall(r"outputs?\s+`(\w+)`|terraform output -raw (\w+)", GUIDE))
    names = {first or second for first, second in named}
    assert names == {"load_balancer", "outgoing_addresses", "run_operator"}
    for example in ("small", "production"):
        outputs = {block.labels[0] for block in hcl.read(ROOT / "examples" / example).of("output")}
        assert names <= outputs, example


def test_every_variable_of_the_guide_is_one() -> None:
    module = hcl.read(ROOT)
    variables = {block.labels[0] for block in module.of("variable")}
    inner = set(re.findall(r"^    (\w+) +=", (ROOT / "variables_sizes.tf").read_text(encoding="utf-8"), re.MULTILINE))
    said = re.findall(r"`(\w+)(?:\.(\w+))? = ", GUIDE) + re.findall(r"^(\w+) += \"", GUIDE, re.MULTILINE)
    for name in (part[0] if isinstance(part, tuple) else part for part in said):
        assert name in variables | inner | {"region", "bucket", "kms_key_id"}, name
    for outer, within in re.findall(r"`(network|database|cache|roles|rollout)\.(\w+)", GUIDE):
        assert outer in variables
        assert within in inner, f"{outer}.{within}"


def test_the_examples_costs_add_up() -> None:
    for example in ("small", "production"):
        text = (ROOT / "examples" / example / "README.md").read_text(encoding="utf-8")
        rows = [int(cost) for cost in re.findall(r"^\|(?! \*\*sum).* \| (\d+) \|$", text, re.MULTILINE)]
        total = int(re.findall(r"\*\*sum\*\* \| \| \*\*(\d+)\*\*", text)[0])
        assert len(rows) >= 10
        assert abs(sum(rows) - total) <= 1  # each line is rounded by itself
        (about,) = re.findall(r"about (\d+) USD a month", text)
        assert abs(int(about) - total) <= 5
        assert f"{about} USD a month" in " ".join(GUIDE.split())
