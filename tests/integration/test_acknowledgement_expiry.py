"""An acknowledgement that expires, through real notifiers: whoever heard of the incident is reminded, once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from common.clock import utc_now
from common.domain.incident import Status
from common.store import incident_changes
from common.store.incident_changes import How
from common.store.incidents import Deed
from tests.conftest import Databases
from tests.integration.test_notifier_process import Notifiers
from tests.sink import Sink
from tests.stack import wait_until
from tests.world import World


@pytest.fixture
def world(databases: Databases) -> World:
    return World(databases.owner, databases.worker)


@pytest.fixture
def notifiers(world: World, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Notifiers]:
    notifiers = Notifiers(world, database_url, redis_url, tmp_path / "log")
    yield notifiers
    notifiers.close()


def acknowledge(world: World, incident: str, how: How) -> None:
    with world.owner.begin() as connection:
        incident_changes.set_status(
            connection,
            org_id=world.org_id,
            incident_id=incident,
            wanted=Status.ACKNOWLEDGED,
            deed=Deed("tocsin", utc_now(), "r"),
            how=how,
        )


def test_two_notifiers_remind_once_of_what_was_acknowledged_for_a_while(world: World, notifiers: Notifiers) -> None:
    with Sink() as sink:
        world.channel(sink.url())
        (short,), (long,) = world.open(), world.open()
        notifiers.start()
        notifiers.start()
        assert sink.wait_for(lambda: len(sink.accepted()) == 2)
        acknowledge(world, short, How(utc_now() + timedelta(seconds=1)))
        acknowledge(world, long, How(utc_now() + timedelta(hours=1)))
        assert sink.wait_for(lambda: len(sink.accepted()) == 5)
        assert not sink.wait_for(lambda: len(sink.accepted()) > 5, 2.5)
        told = [(r.json["data"]["incident"]["id"], r.type) for r in sink.accepted()]
        assert [type_ for incident, type_ in told if incident == short] == ["opened", "acknowledged", "reminder"]
        assert [type_ for incident, type_ in told if incident == long] == ["opened", "acknowledged"]
        reminder = next(r for r in sink.accepted() if r.type == "reminder").json["data"]["incident"]
        assert (reminder["status"], reminder["acknowledged_at"]) == ("open", None)
        wait_until(lambda: notifiers.logged("acknowledgements_expired"), 60, "its line")
        assert sum(line["count"] for line in notifiers.logged("acknowledgements_expired")) == 1
