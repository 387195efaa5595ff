"""One stack, one scripted endpoint and one receiver of webhooks for each module of end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.endpoint import Endpoint
from tests.e2e.outage import Watch
from tests.e2e.stack import Stack, running
from tests.sink import Sink


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running() as stack:
        yield stack


@pytest.fixture(scope="module")
def watch(stack: Stack, endpoint: Endpoint, sink: Sink) -> Watch:
    """The stack's first organization, whose default channel is the sink."""
    return Watch(stack, endpoint, sink)
