"""The shared stack of all tests that harm nothing, a scripted endpoint and a receiver of webhooks.

Modules that kill or stop things have a `stack` of their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.dns_server import SILENT, Zone
from tests.e2e.endpoint import Endpoint
from tests.e2e.outage import Watch
from tests.e2e.side_by_side import Stories, side_by_side
from tests.e2e.stack import Stack, running
from tests.e2e.stillness import Stillness
from tests.sink import Sink

#: Names that the shared stack's name server refuses to resolve, or never answers for; all others do not exist.
ZONES = {"broken.test": Zone(rcode=2), "mute.test": Zone(mute=SILENT)}

#: Nothing here takes long by itself, and anything may on a busy machine (seconds).
_PATIENCE_S = 600

_began = pytest.StashKey[float]()
_stillness = pytest.StashKey[Stillness]()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Only what hangs is ended, and not what waits."""
    item.add_marker(pytest.mark.timeout(_PATIENCE_S))


@pytest.fixture(scope="session", autouse=True)
def stillness(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whether we stood still is known from the first of these tests on."""
    with Stillness() as stillness:
        request.config.stash[_stillness] = stillness
        yield


@pytest.fixture(scope="module", autouse=True)
def began(request: pytest.FixtureRequest) -> None:
    """When a module's monitors began to look at our endpoints."""
    request.node.stash[_began] = time.monotonic()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """What failed while our own endpoints stood still says nothing of the product: to it that was an outage."""
    report = yield
    module = item.getparent(pytest.Module)
    if report.failed and module is not None and (stillness := item.config.stash.get(_stillness, None)) is not None:
        still_s = stillness.since(module.stash.get(_began, 0.0))
        if still_s:
            reason = f"this process stood still for {still_s:.1f} s, its endpoints too\n{report.longreprtext}"
            report.outcome, report.longrepr = "skipped", (str(item.path), 0, reason)
    return report


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
