"""The API over real servers, with its cast: alice owns organization A, bob is a viewer there, charlie owns B."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from api import auth
from api.app import create_app, open_services
from api.context import Services
from common.clock import to_ms
from common.domain.health import Health, State
from common.domain.incident import Severity
from common.passwords import Passwords
from common.settings import Settings
from common.store import accounts, incidents, locations, monitors, platform_keys, votes
from common.store.engine import Database
from common.vault import generate_key
from tests.conftest import Databases

PASSWORD = "correct horse battery"
JWT_KEY = "k" * 40

MONITOR = {"name": "Shop", "type": "http", "target": "http://192.0.2.7/health"}
CHANNEL = {"name": "Ops", "type": "webhook", "config": {"url": "https://hooks.example/token"}}


_CAST = (("alice", "a"), ("bob", "a"), ("charlie", "b"))
_ROLES = {"bob": "viewer"}


@functools.cache
def password_hash() -> str:
    return Passwords().hash(PASSWORD)


class Person:
    """A client that sends one credential with everything."""

    def __init__(self, client: FlaskClient, token: str = "") -> None:
        self._client = client
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def call(self, method: str, path: str, **arguments: Any) -> TestResponse:
        headers = {**self.headers, **arguments.pop("headers", {})}
        return self._client.open(path, method=method, headers=headers, **arguments)

    get = functools.partialmethod(call, "GET")
    post = functools.partialmethod(call, "POST")
    put = functools.partialmethod(call, "PUT")
    patch = functools.partialmethod(call, "PATCH")
    delete = functools.partialmethod(call, "DELETE")

    def make_monitor(self, **fields: Any) -> dict[str, Any]:
        response = self.post("/v1/monitors", json={**MONITOR, **fields})
        assert response.status_code == 201, response.text
        return response.get_json()

    def make_channel(self, **fields: Any) -> dict[str, Any]:
        response = self.post("/v1/channels", json={**CHANNEL, **fields})
        assert response.status_code == 201, response.text
        return response.get_json()


@dataclass
class World:
    """Everything a test may want to look at."""

    services: Services
    databases: Databases
    client: FlaskClient
    org_a: str
    org_b: str
    alice: Person
    bob: Person
    charlie: Person
    nobody: Person
    users: dict[str, str]

    def login(self, name: str) -> dict[str, Any]:
        response = self.nobody.post("/v1/auth/login", json={"email": f"{name}@example.com", "password": PASSWORD})
        assert response.status_code == 200, response.text
        return response.get_json()

    def person(self, token: str) -> Person:
        return Person(self.client, token)

    def operator(self) -> Person:
        """Who holds a platform key."""
        key = platform_keys.NewPlatformKey("operator")
        with self.databases.owner.begin() as connection:
            platform_keys.add(connection, key)
        return self.person(key.token)

    def rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """What really stands in the database, whoever owns it."""
        with self.databases.owner.begin() as connection:
            return [dict(row) for row in connection.exec_driver_sql(sql, parameters).mappings()]

    def execute(self, sql: str, **parameters: Any) -> None:
        with self.databases.owner.begin() as connection:
            connection.exec_driver_sql(sql, parameters)

    def open_incident(self, monitor: dict[str, Any], org_id: str = "") -> str:
        """What the writer does when a monitor goes down."""
        org_id = org_id or self.org_a
        key = f"monitor:{monitor['id']}"
        number = self.rows("SELECT monitor_no FROM monitors WHERE id = %(id)s", id=monitor["id"])[0]["monitor_no"]
        with self.databases.worker.begin() as connection:
            at = monitors.now(connection)
            opening = incidents.Opening(
                org_id,
                monitor["id"],
                "monitor",
                key,
                "Shop is down",
                Severity.ERROR,
                {"reason": "timeout"},
                at,
                "batch",
            )
            incident_id = incidents.open_all(connection, [opening])[org_id, key]
            state = State(Health.DOWN, Health.DOWN)
            votes.save_states(connection, [votes.StateUpdate(number, state, incident_id, None, to_ms(at))])
        self.execute("UPDATE votes SET health = 3, down = 2, not_up = 2 WHERE monitor_no = %(no)s", no=number)
        return incident_id


def settings_for(database_url: str, redis_url: str, **more: Any) -> Settings:
    """Without rate limits, unless a test asks for them."""
    limits = {"rate_limit_writes": 0, "rate_limit_auth": 0}
    return Settings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        jwt_key=SecretStr(JWT_KEY),
        encryption_keys=SecretStr(generate_key()),
        **{**limits, **more},
    )


def populate(owner: Database) -> dict[str, str]:
    """Both organizations and the cast; ids by name."""
    ids = {}
    with owner.begin() as connection:
        locations.ensure(connection, "local")
        for org in ("a", "b"):
            ids[org] = accounts.add_organization(connection, org.upper())
        for name, org in _CAST:
            ids[name] = accounts.add_user(
                connection, email=f"{name}@example.com", name=name.title(), password_hash=password_hash()
            )
            accounts.add_member(connection, org_id=ids[org], user_id=ids[name], role=_ROLES.get(name, "owner"))
    return ids


def session(world: World, name: str, org: str) -> str:
    """An access token without the login, whose hashing takes its time."""
    login = accounts.Login(world.users[name], "", disabled=False, org_id=world.users[org], role="")
    with world.client.application.app_context():
        tokens, row = auth.make_tokens(login, str(uuid4()))
    with world.databases.owner.begin() as connection:
        accounts.add_token(connection, row)
    return str(tokens["access_token"])


@pytest.fixture
def patient_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that waits for Valkey however long the machine lets that stand still: for `usefixtures`."""
    for name in ("_REQUEST_CONNECT_S", "_REQUEST_ANSWER_S", "_REQUEST_BLOCK_S"):
        monkeypatch.setattr(f"common.broker.{name}", 30.0)


@pytest.fixture
def world(databases: Databases, database_url: str, redis_url: str) -> Iterator[World]:
    ids = populate(databases.owner)
    services = open_services(settings_for(database_url, redis_url))
    client = create_app(services).test_client()
    nobody = Person(client)
    made = World(services, databases, client, ids["a"], ids["b"], nobody, nobody, nobody, nobody, ids)
    yield replace(made, **{name: Person(client, session(made, name, org)) for name, org in _CAST})
    services.database.dispose()
    services.platform.close()
    services.broker.client.close()
    services.incident_cache.close()
