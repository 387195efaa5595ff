"""Made organizations, channels and routes, thousands at a time, as tocsin_owner.

Arrays and not COPY: PostgreSQL copies nothing into tables with row-level security.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from common.store.arrays import integers
from common.store.engine import Connection

# What a user would miss if it were mixed with made data.
_PRESENT = """
SELECT (SELECT count(*) - 1 FROM organizations) AS "organizations beside the first",
       (SELECT count(*) FROM monitors) AS monitors, (SELECT count(*) FROM channels) AS channels,
       (SELECT count(*) FROM routes) AS routes, (SELECT count(*) FROM incidents) AS incidents
"""
_KNOWN = "SELECT EXISTS (SELECT 1 FROM organizations WHERE id = ANY(%(ids)s::uuid[]))"

_ORGANIZATIONS = """
INSERT INTO organizations (id, name, routing_version)
SELECT u.id, u.name, 1 FROM unnest(%(ids)s::uuid[], %(names)s::text[]) AS u(id, name)
"""

# The first channel of an organization is its default, as the API has it.
_CHANNELS = """
INSERT INTO channels (id, org_id, name, type, config, secrets, is_default)
SELECT u.id, u.org_id, u.name, 'webhook', jsonb_build_object('url', u.url), u.secrets, u.is_default
  FROM unnest(%(ids)s::uuid[], %(orgs)s::uuid[], %(names)s::text[], %(urls)s::text[], %(secrets)s::text[],
              %(defaults)s::bool[]) AS u(id, org_id, name, url, secrets, is_default)
"""

_ROUTES = """
INSERT INTO routes (id, org_id, name, position, match, matchers, channel_ids)
SELECT u.id, u.org_id, u.name, u.position, u.match::jsonb, u.matchers::jsonb, u.channels::uuid[]
  FROM unnest(%(ids)s::uuid[], %(orgs)s::uuid[], %(names)s::text[], %(positions)s::int[], %(matches)s::text[],
              %(matchers)s::text[], %(channels)s::text[]) AS u(id, org_id, name, position, match, matchers, channels)
"""

# What autovacuum would have done by the time there are so many.
_ANALYZE = "ANALYZE organizations, channels, routes"


@dataclass(frozen=True, slots=True)
class SeedChannel:
    """A webhook to make; `secrets` are sealed, None where nothing is ever to be sent."""

    id: str
    org_id: str
    name: str
    url: str
    secrets: str | None
    is_default: bool


@dataclass(frozen=True, slots=True)
class SeedRoute:
    """A route to make."""

    id: str
    org_id: str
    name: str
    position: int
    match: dict[str, str]
    matchers: list[dict[str, str]]
    channel_ids: list[str] = field(default_factory=list)


def present(connection: Connection) -> dict[str, int]:
    """What is there already, by kind; nothing that a first start makes by itself."""
    row = connection.exec_driver_sql(_PRESENT).mappings().one()
    return {kind: count for kind, count in row.items() if count > 0}


def known(connection: Connection, organization_ids: Sequence[str]) -> bool:
    """Whether any of these organizations exists."""
    return bool(connection.exec_driver_sql(_KNOWN, {"ids": list(organization_ids)}).scalar())


def add_organizations(connection: Connection, organizations: Sequence[tuple[str, str]]) -> None:
    """Make organizations: (id, name)."""
    ids, names = [row[0] for row in organizations], [row[1] for row in organizations]
    connection.exec_driver_sql(_ORGANIZATIONS, {"ids": ids, "names": names})


def add_channels(connection: Connection, channels: Sequence[SeedChannel]) -> None:
    """Make channels."""
    connection.exec_driver_sql(
        _CHANNELS,
        {
            "ids": [channel.id for channel in channels],
            "orgs": [channel.org_id for channel in channels],
            "names": [channel.name for channel in channels],
            "urls": [channel.url for channel in channels],
            "secrets": [channel.secrets for channel in channels],
            "defaults": [channel.is_default for channel in channels],
        },
    )


def add_routes(connection: Connection, routes: Sequence[SeedRoute]) -> None:
    """Make routes."""
    connection.exec_driver_sql(
        _ROUTES,
        {
            "ids": [route.id for route in routes],
            "orgs": [route.org_id for route in routes],
            "names": [route.name for route in routes],
            "positions": integers(route.position for route in routes),
            "matches": [json.dumps(route.match) for route in routes],
            "matchers": [json.dumps(route.matchers) for route in routes],
            "channels": ["{" + ",".join(route.channel_ids) + "}" for route in routes],
        },
    )


def analyze(connection: Connection) -> None:
    """Let the planner know how much there is now."""
    connection.exec_driver_sql(_ANALYZE)
