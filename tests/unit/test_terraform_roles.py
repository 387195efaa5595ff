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


def test_every_role_would_start_with_its_settings() -> None:
    local, task = values("."), values("modules/task")
    common = {**written(local["settings"]), **written(local["secrets"])}
    own = [written(role["settings"]) for role in ROLES.values()]
    own.append({**written(task["first_settings"]), **written(task["first_secrets"])})
    for extra in own:
        environ = {
            name: text.strip('"') if re.fullmatch('"[^"$]*"', text.strip()) else FILLED[name]
            for name, text in {**common, **extra}.items()
        }
        settings = load_settings(environ)
        assert settings.bind == "0.0.0.0"
        assert settings.log_format == "json"


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
    assert named == {"tocsin_queue_depth", "tocsin_dead_letters", "tocsin_leader_epoch"}
    assert named <= set(families)
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
    assert confined["readonlyRootFilesystem"] is True
    assert f"USER {hcl.plain(confined['user'])}" in (HOME / "Dockerfile").read_text(encoding="utf-8")
    assert [hcl.plain(name) for name in confined["linuxParameters"]["capabilities"]["drop"]] == ["ALL"]
    image = (ROOT / "image" / "Dockerfile").read_text(encoding="utf-8")
    mounted = hcl.plain(confined["mountPoints"][0]["containerPath"])
    assert f'VOLUME ["{mounted}"]' in image
    database = next(block for block in hcl.read(ROOT).of("module") if block.labels == ("database",))
    assert hcl.plain(database.body["ca_file"]) in image
