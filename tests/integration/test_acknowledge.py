"""Acknowledging by the link in a message: asked once, done once, by nobody who has no good link."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from api.acknowledge_page import moment
from common.channels.links import LIFETIME, Links
from common.clock import utc_now
from common.vault import Vault, generate_key
from tests import api_cast
from tests.api_cast import World

world = api_cast.world


def link(world: World, incident: str, channel: str, **changes: Any) -> str:
    """The path of an acknowledgement link."""
    vault = changes.get("vault", world.services.vault)
    org, at = changes.get("org", world.org_a), changes.get("at", utc_now())
    return Links(vault, "").url(org, incident, channel, at)


@pytest.fixture
def channel(world: World) -> str:
    return str(world.alice.make_channel()["id"])


@pytest.fixture
def incident(world: World) -> str:
    return world.open_incident(world.alice.make_monitor())


def status(world: World, incident: str) -> str:
    return str(world.alice.get(f"/v1/incidents/{incident}").get_json()["status"])


def events(world: World, incident: str) -> list[tuple[str, str]]:
    data = world.alice.get(f"/v1/incidents/{incident}/events").get_json()["data"]
    return [(event["type"], event["actor"]) for event in data]


def test_looking_asks_and_changes_nothing(world: World, incident: str, channel: str) -> None:
    path = link(world, incident, channel)
    for _ in range(3):
        page = world.nobody.get(path)
        assert page.status_code == 200
        assert "Shop is down" in page.text and "<button" in page.text and 'method="post"' in page.text
    assert world.nobody.call("HEAD", path).status_code == 200
    assert status(world, incident) == "open"
    assert [type_ for type_, _ in events(world, incident)] == ["opened"]


def test_the_answer_acknowledges_once_in_the_channels_name(world: World, incident: str, channel: str) -> None:
    path = link(world, incident, channel)
    for said in ("Everybody who was told of it hears", "Already acknowledged"):
        page = world.nobody.post(path)
        assert page.status_code == 200 and said in page.text and "<button" not in page.text
    assert events(world, incident)[1:] == [("acknowledged", f"link:{channel}")]
    assert world.rows("SELECT type FROM outbox ORDER BY id")[-1] == {"type": "acknowledged"}
    assert "Already acknowledged" in world.nobody.get(path).text


def test_what_is_resolved_stays_so(world: World, incident: str, channel: str) -> None:
    world.alice.patch(f"/v1/incidents/{incident}/status", json={"status": "resolved"})
    for method in ("GET", "POST"):
        page = world.nobody.call(method, link(world, incident, channel))
        assert page.status_code == 200 and "Resolved" in page.text and "<button" not in page.text
    assert status(world, incident) == "resolved"


def test_a_link_ends(world: World, incident: str, channel: str) -> None:
    late = link(world, incident, channel, at=utc_now() - LIFETIME - timedelta(seconds=1))
    for method in ("GET", "POST"):
        page = world.nobody.call(method, late)
        assert page.status_code == 410 and "expired" in page.text and "<button" not in page.text
    assert status(world, incident) == "open"
    early = link(world, incident, channel, at=utc_now() - LIFETIME + timedelta(minutes=1))
    assert world.nobody.post(early).status_code == 200


def test_no_other_link_works(world: World, incident: str, channel: str) -> None:
    good = link(world, incident, channel)
    token = good.removeprefix("/ack/")
    for number in range(0, len(token), 5):
        letter = "A" if token[number] != "A" else "B"
        bad = f"/ack/{token[:number]}{letter}{token[number + 1 :]}"
        assert world.nobody.post(bad).status_code == 404, number
    wrong = [
        "/ack/x", f"{good}A", good[:-1], f"/ack/{'A' * 91}", f"/ack/{'é' * 91}",
        link(world, incident, channel, vault=Vault(generate_key())),
    ]  # fmt: skip
    for path in wrong:
        page = world.nobody.post(path)
        assert (
            page.status_code == 404
            and page.content_type.startswith("text/html")
            and "This link does not work" in page.text
        )
    assert status(world, incident) == "open"


def test_a_link_is_for_its_organization_incident_and_channel(world: World, incident: str, channel: str) -> None:
    foreign = str(world.charlie.make_channel()["id"])
    for path in (
        link(world, incident, channel, org=world.org_b),
        link(world, incident, foreign),
        link(world, channel, channel),
    ):
        assert world.nobody.post(path).status_code == 404
    assert status(world, incident) == "open"


def test_a_deleted_channels_links_end_with_it(world: World, incident: str, channel: str) -> None:
    world.alice.delete(f"/v1/channels/{channel}")
    assert world.nobody.post(link(world, incident, channel)).status_code == 404


def test_links_outlive_a_rotation_while_the_old_key_is_there(world: World, incident: str, channel: str) -> None:
    old = world.services.settings.encryption_keys.get_secret_value()
    path = link(world, incident, channel)
    token = path.removeprefix("/ack/")
    assert Links(Vault(f"{generate_key()},{old}"), "").read(token) is not None
    assert Links(Vault(generate_key()), "").read(token) is None


def test_the_page_is_safe_and_needs_nothing_from_outside(world: World, channel: str) -> None:
    incident = world.open_incident(world.alice.make_monitor())
    world.execute("UPDATE incidents SET title = '<script>alert(1)</script> & \"x\"' WHERE id = %(id)s", id=incident)
    page = world.nobody.get(link(world, incident, channel))
    assert "<script" not in page.text and "&lt;script&gt;" in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "form-action 'self'" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "http://" not in page.text and "https://" not in page.text and "src=" not in page.text
    assert 'name="viewport"' in page.text
    assert page.headers["Referrer-Policy"] == "no-referrer" and page.headers["Cache-Control"] == "no-store"


def test_it_says_what_is_wrong_how_bad_and_since_when(world: World, incident: str, channel: str) -> None:
    world.execute(
        "UPDATE incidents SET opened_at = now() - interval '26 h 4 min', severity = 'critical', priority = 'P1',"
        ' cause = \'{"message": "status 500"}\' WHERE id = %(id)s',
        id=incident,
    )
    page = world.nobody.get(link(world, incident, channel)).text
    for said in ("Shop is down", "status 500", "critical (P1)", "1 d 2 h ago", " UTC</small>", 'class="critical"'):
        assert said in page, said


#: (minutes ago, what is said of it)
MOMENTS = [(0, "just now"), (1, "1 min ago"), (61, "1 h 1 min ago"), (120, "2 h 0 min ago"), (1_440, "1 d ago")]


@pytest.mark.parametrize(("minutes", "said"), MOMENTS)
def test_times_are_told_as_people_say_them(minutes: int, said: str) -> None:
    now = utc_now()
    at = now - timedelta(minutes=minutes)
    assert moment("Since", at.isoformat(), now) == ("Since", said, f"{at:%Y-%m-%d %H:%M} UTC")


def test_the_token_is_in_no_log(world: World, incident: str, channel: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = link(world, incident, channel)
    world.nobody.get(path)
    world.nobody.post(path)
    said = "".join(capfd.readouterr())
    assert path.removeprefix("/ack/") not in said
