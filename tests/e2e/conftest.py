"""The shared stack of all tests that harm nothing, a scripted endpoint and a receiver of webhooks.

Modules that kill or stop things have a `stack` of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dns_server import SILENT, Zone
from tests.e2e.endpoint import Endpoint
from tests.e2e.outage import Watch
from tests.e2e.side_by_side import Stories, side_by_side
from tests.e2e.stack import Stack, running
from tests.sink import Sink

#: Names that the shared stack's name server refuses to resolve, or never answers for; all others do not exist.
ZONES = {"broken.test": Zone(rcode=2), "mute.test": Zone(mute=SILENT)}


@pytest.fixture(scope="session")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture(scope="session")
def stack(endpoint: Endpoint) -> Iterator[Stack]:
    with running(TOCSIN_DNS_SERVERS=endpoint.name_server(ZONES)) as stack:
        yield stack


@pytest.fixture(scope="module")
def watch(stack: Stack, endpoint: Endpoint, sink: Sink, request: pytest.FixtureRequest) -> Iterator[Watch]:
    """The stack's first organization with a channel to the sink for this module only."""
    watch = Watch(stack, endpoint, sink, f"/{request.module.__name__}")
    yield watch
    watch.close()


@pytest.fixture(scope="module")
def stories(watch: Watch, request: pytest.FixtureRequest) -> Iterator[Stories]:
    """Every @story of the module, all at once."""
    with side_by_side(request.module, watch) as stories:
        yield stories
