"""Put a universe into the database, in one transaction: all of it or nothing."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from common.domain.errors import StackError
from common.seed.universe import Route, Universe
from common.store import seeding
from common.store.engine import Connection
from common.store.seeding import SeedChannel, SeedRoute
from common.vault import Vault

_AT_ONCE = 2_000

#: Where a webhook leads: (number of the channel) → URL.
Endpoint = Callable[[int], str]


def plant(connection: Connection, universe: Universe, *, endpoint: Endpoint, vault: Vault | None) -> Iterator[int]:
    """Write it; yields how many routes are there so far. Without a vault the webhooks cannot be sent.

    Raises StackError when this universe is there already.
    """
    organizations = [str(id_) for id_, _ in universe.organizations]
    if seeding.known(connection, organizations):
        raise StackError(f"what seed {universe.plan.seed} makes is here already: choose another --seed")
    seeding.add_organizations(connection, [(str(id_), name) for id_, name in universe.organizations])
    # Made data, but real keys: nobody who knows the seed can sign like us.
    secret = {"secret": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()}
    provided: set[int] = set()
    channels = done = 0
    routes = universe.routes()
    while batch := list(islice(routes, _AT_ONCE)):
        made: list[SeedChannel] = []
        for route in batch:
            org_id = organizations[route.organization]
            for id_ in route.channels:
                sealed = None if vault is None else vault.seal(f"channel:{org_id}:{id_}", secret)
                is_default = route.organization not in provided
                provided.add(route.organization)
                channels += 1
                made.append(
                    SeedChannel(str(id_), org_id, f"endpoint {channels}", endpoint(channels), sealed, is_default)
                )
        seeding.add_channels(connection, made)
        seeding.add_routes(connection, _stored(batch, organizations))
        done += len(batch)
        yield done
    seeding.analyze(connection)


def _stored(batch: Sequence[Route], organizations: Sequence[str]) -> list[SeedRoute]:
    return [
        SeedRoute(
            str(route.id),
            organizations[route.organization],
            route.name,
            route.position,
            route.match,
            route.matchers,
            [str(id_) for id_ in route.channels],
        )
        for route in batch
    ]
