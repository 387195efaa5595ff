"""All organizations' enabled routes, for alerts of the platform; read again where a routing_version moved."""

from __future__ import annotations

from collections.abc import Collection

from common.domain.labels import Matcher
from common.domain.routing import conditions
from common.store.engine import Connection

# Which organizations take part, and when their routes last changed.
_VERSIONS = "SELECT id::text, routing_version FROM organizations WHERE deleted_at IS NULL AND disabled_at IS NULL"

# What an alert has to be so that somebody in these organizations hears of it.
_ROUTES = """
SELECT org_id::text, match, matchers FROM routes
 WHERE org_id = ANY(%(orgs)s::uuid[]) AND enabled AND deleted_at IS NULL
"""


def versions(connection: Connection) -> dict[str, int]:
    """{organization: routing_version} of those that are neither disabled nor deleted."""
    return {row[0]: row[1] for row in connection.exec_driver_sql(_VERSIONS)}


def selectors(connection: Connection, orgs: Collection[str]) -> dict[str, list[tuple[Matcher, ...]]]:
    """{organization: the conditions of each of its enabled routes}."""
    found: dict[str, list[tuple[Matcher, ...]]] = {org: [] for org in orgs}
    for org_id, match, matchers in connection.exec_driver_sql(_ROUTES, {"orgs": list(orgs)}):
        found[org_id].append(conditions(match, matchers))
    return found
