"""docker-compose.yml and the Dockerfile hold to their own rules, without Docker."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.cli import COMMANDS
from common.settings import SECRET_FIELDS, VARIABLES, load_settings
from tests.unit.test_terraform_roles import readers
from tools.env_example import COMPOSE_VARIABLES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ROLES = {name: service for name, service in SERVICES.items() if "tocsin" in service["image"]}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
DOCUMENT = (ROOT / "docs" / "deploy-compose.md").read_text(encoding="utf-8")

#: ${NAME}, ${NAME:-default}, ${NAME:?message}
_VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")
_PINNED = re.compile(r"(?:[a-z0-9.-]+/)*[a-z0-9-]+:v?\d+(?:\.\d+)+(?:-[a-z]+)*")

each_service = pytest.mark.parametrize("name", SERVICES)
each_role = pytest.mark.parametrize("name", ROLES)


#: {secret: the roles that are given it}, as on AWS, where tests/unit/test_terraform_roles.py holds it to the code.
READERS = {**readers(), "TOCSIN_ADMIN_PASSWORD": ["migrate"]}


def is_secret(variable: str) -> bool:
    return VARIABLES.get(variable) in SECRET_FIELDS or variable.endswith("_PASSWORD")


def with_defaults(text: str) -> str:
    """The text as Compose reads it when .env is empty; what is required becomes `required`."""
    return _VARIABLE.sub(lambda found: found[3] or "" if found[2] == "-" else "required", text)


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


#: What holds for every service, whoever made its image.
RULES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "its root file system is read-only": lambda service: service["read_only"] is True,
    "it has no capability": lambda service: service["cap_drop"] == ["ALL"] and "cap_add" not in service,
    "it gains no privilege": lambda service: service["security_opt"] == ["no-new-privileges:true"],
    "it is not privileged": lambda service: (
        not service.keys() & {"privileged", "network_mode", "pid", "ipc", "devices"}
    ),
    "it is not root": lambda service: service["user"] not in ("0", "root", "0:0"),
    "its logs end": lambda service: service["logging"]["options"].keys() == {"max-size", "max-file"},
    "its time to stop is given": lambda service: 10 <= seconds(service["stop_grace_period"]) <= 60,
    "its CPU, memory and processes are limited": lambda service: (
        service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    ),
    "it starts again": lambda service: service["restart"] == "unless-stopped" or service["command"] == ["migrate"],
    "its image is pinned": lambda service: bool(_PINNED.fullmatch(with_defaults(service["image"]))),
    "nothing of the host but configuration is mounted, and that to be read": lambda service: all(
        ":/" in volume
        and (not volume.startswith(("/", ".")) or (volume.startswith("./infra/") and volume.endswith(":ro")))
        for volume in service.get("volumes", ())
    ),
    "only this machine reaches its ports": lambda service: all(
        with_defaults(port).startswith("127.0.0.1:") for port in service.get("ports", ())
    ),
}


@pytest.mark.parametrize("rule", RULES)
@each_service
def test_every_service_holds_to_the_rule(name: str, rule: str) -> None:
    assert RULES[rule](SERVICES[name]), f"{name}: not true that {rule}"


@each_service
def test_every_service_that_stays_says_whether_it_is_healthy(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    if SERVICES[name]["restart"] == "no":
        assert check == {"disable": True}, "a service that ends cannot be healthy"
    else:
        assert check["test"][0] in ("CMD", "CMD-SHELL")
        assert {"interval", "timeout", "retries", "start_period"} <= check.keys()


def test_the_parts_are_all_there() -> None:
    assert {"postgres", "valkey", "migrate", "api", "scheduler", "worker", "notifier"} <= SERVICES.keys()
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"prometheus", "grafana", "mail"}
    assert ROLES.keys() == {"migrate", "api", "scheduler", "worker", "notifier"}
    assert SERVICES["scheduler"]["deploy"]["replicas"] == 2


@each_role
def test_a_role_runs_a_command_that_there_is(name: str) -> None:
    (command,) = SERVICES[name]["command"]
    assert command in COMMANDS
    assert command == name


@each_role
def test_a_role_starts_when_what_it_needs_is_there(name: str) -> None:
    needs = {other: condition["condition"] for other, condition in SERVICES[name]["depends_on"].items()}
    if name == "migrate":
        assert needs == {"postgres": "service_healthy"}
    else:
        assert needs == {"migrate": "service_completed_successfully", "valkey": "service_healthy"}


@each_role
def test_a_role_gets_settings_only_and_they_are_valid(name: str) -> None:
    environment: dict[str, str] = SERVICES[name]["environment"]
    assert {variable for variable in environment.keys() - VARIABLES.keys() if environment[variable]} == set()
    given = {variable: "" if value == "" else with_defaults(value) for variable, value in environment.items()}
    settings = load_settings({**given, "TOCSIN_JWT_KEY": given["TOCSIN_JWT_KEY"] and "k" * 32})
    assert settings.bind == "0.0.0.0"
    assert settings.database_url is not None
    assert settings.redis_url is not None


@each_role
def test_a_role_is_given_exactly_the_secrets_that_it_needs(name: str) -> None:
    environment: dict[str, str] = SERVICES[name]["environment"]
    here = {variable for variable in (*VARIABLES, *COMPOSE_VARIABLES) if is_secret(variable)} - {"DATABASE_URL"}
    assert here - environment.keys() == set(), "env_file would give it"
    needs = {"REDIS_URL", *(variable for variable, roles in READERS.items() if name in roles)}
    assert {variable for variable in here if environment[variable]} == needs


def test_the_secrets_have_no_default() -> None:
    found = {name: kind for name, kind, _ in _VARIABLE.findall(TEXT) if is_secret(name)}
    required = {name for name, kind in found.items() if kind == "?"}
    assert required == {
        *("POSTGRES_PASSWORD", "VALKEY_PASSWORD", "GRAFANA_PASSWORD", "TOCSIN_JWT_KEY", "TOCSIN_ENCRYPTION_KEYS")
    }
    assert {with_defaults(f"${{{name}:{found[name]}}}") for name in found.keys() - required} == {""}


def test_every_variable_of_the_file_is_a_setting_or_listed_in_the_example() -> None:
    used = {found[0] for found in _VARIABLE.findall(TEXT)}
    assert used - VARIABLES.keys() == COMPOSE_VARIABLES.keys()
    assert not [name for name in COMPOSE_VARIABLES if name.startswith("TOCSIN_")], "roles refuse unknown TOCSIN_ names"


def test_every_variable_that_must_be_set_is_made_by_the_document() -> None:
    required = {found[0] for found in _VARIABLE.findall(TEXT) if found[1] == "?"}
    start = DOCUMENT.partition("## Start it")[2].partition("\n## ")[0]
    assert {name for name in required if name in start or name.startswith("TOCSIN_")} == required
    assert "keygen" in start


def test_the_database_and_the_queue_are_cut_off() -> None:
    assert COMPOSE["networks"]["data"] == {"internal": True}
    for name in ("postgres", "valkey"):
        assert SERVICES[name]["networks"] == ["data"]
        assert "ports" not in SERVICES[name]


def test_what_is_mounted_from_here_exists() -> None:
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", ())]
    local = [ROOT / volume.partition(":")[0] for volume in volumes if volume.startswith("./")]
    assert local
    assert [path for path in local if not path.is_dir()] == []
    named = {volume.partition(":")[0] for volume in volumes if not volume.startswith("./")}
    assert named == COMPOSE["volumes"].keys()


def test_prometheus_asks_the_ports_where_the_roles_answer() -> None:
    found = yaml.safe_load((ROOT / "infra" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    asked = {
        name: places["port"]
        for job in found["scrape_configs"]
        for places in job.get("dns_sd_configs", ())
        for name in places["names"]
    }
    assert asked == {"api": 8000, "scheduler": 9464, "worker": 9464, "notifier": 9464}
    assert (
        load_settings({"TOCSIN_METRICS_PORT": SERVICES["worker"]["environment"]["TOCSIN_METRICS_PORT"]}).metrics_port
        == 9464
    )


def test_grafana_finds_its_dashboards_and_prometheus() -> None:
    provisioning = ROOT / "infra" / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "tocsin.yml").read_text(encoding="utf-8"))["providers"]
    mounted = dict(volume.removesuffix(":ro").rsplit(":", 1) for volume in SERVICES["grafana"]["volumes"])
    assert mounted["./infra/grafana/dashboards"] == provider["options"]["path"]
    assert mounted["./infra/grafana/provisioning"] == "/etc/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "tocsin.yml").read_text(encoding="utf-8"))["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_our_image_is_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert {with_defaults(service["image"]) for service in ROLES.values()} == {f"tocsin:{version}"}


def test_no_secret_of_ours_is_in_the_image() -> None:
    baked = set(re.findall(r"^(?:ENV|ARG)?\s*([A-Z_]+)=", DOCKERFILE, re.MULTILINE))
    assert not baked & {variable for variable, name in VARIABLES.items() if name in SECRET_FIELDS}
    assert {name for name in baked if name.startswith("TOCSIN_")} <= VARIABLES.keys()


def test_the_dockerfile_is_pinned_not_root_and_names_no_package_index() -> None:
    default = dict(re.findall(r"^ARG (\w+)=(\S+)", DOCKERFILE, re.MULTILINE))
    stages = set(re.findall(r"^FROM \S+ AS (\w+)", DOCKERFILE, re.MULTILINE))
    bases = [
        re.sub(r"\$\{(\w+)\}", lambda found: default[found[1]], base)
        for base in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    ]
    assert len(bases) >= 2
    assert [base for base in bases if base not in {*stages, "scratch"} and not _PINNED.fullmatch(base)] == []
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)[-1] == "10001:10001"
    assert "HEALTHCHECK" in DOCKERFILE
    assert not re.search(r"https?://|index-url|ADD ", DOCKERFILE)


def test_the_builder_gets_exactly_what_is_copied() -> None:
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.+)", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]
    }
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert lines[1] == "*"
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert {name.partition(".")[0] for name in packages} <= copied


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "requirements-dev.txt brings it"
    files = ["Dockerfile", *(str(path) for path in sorted((ROOT / "infra" / "docker").rglob("*Dockerfile")))]
    found = subprocess.run([hadolint, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")
