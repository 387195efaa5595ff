"""Tests that mostly wait, run at once: a module's stories start together, and each test asks for the end of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType

from tests.e2e.outage import Watch

Stories = dict[str, Future[None]]
Story = Callable[[Watch], None]

_MARK = "story"


def story(tell: Story) -> Callable[[Stories], None]:
    """Make a test of something that needs a `watch` and no other test's state."""

    def test(stories: Stories) -> None:
        stories[tell.__name__].result()

    setattr(test, _MARK, tell)
    test.__name__ = tell.__name__
    test.__doc__ = tell.__doc__
    return test


@contextmanager
def side_by_side(module: ModuleType, watch: Watch) -> Iterator[Stories]:
    """Start all stories of a module."""
    tellers = [vars(test)[_MARK] for test in vars(module).values() if _MARK in getattr(test, "__dict__", {})]
    with ThreadPoolExecutor(max(1, len(tellers))) as pool:
        yield {tell.__name__: pool.submit(tell, watch) for tell in tellers}
