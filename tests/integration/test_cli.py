"""The `tocsin` command against the real API: what it says, what it keeps, how it ends."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.clock import utc_now
from common.exit_status import ExitStatus
from tests import api_cast
from tests.api_cast import PASSWORD, World
from tests.scripted_api import Answer, ScriptedApi, problem
from tests.served import Shell, serving
from tests.targets import free_port

world = api_cast.world

KEY = "tcs_abcdefgh_this-must-never-be-seen"

#: Every command that talks to an API, as it is called at the least.
COMMANDS = (
    ("whoami",), ("monitors", "ls"), ("monitors", "add", "http://192.0.2.7/"), ("monitors", "show", "x"),
    ("monitors", "pause", "x"), ("monitors", "resume", "x"), ("monitors", "rm", "x", "--yes"), ("incidents", "ls"),
    ("incidents", "show", "x"), ("incidents", "ack", "x"), ("incidents", "resolve", "x"),
    ("incidents", "comment", "x", "looking"), ("notifications", "ls"), ("notifications", "redeliver", "--dead"),
    ("maintenance", "ls"), ("maintenance", "add", "x", "--for", "1h", "--match", "team=shop"),
    ("maintenance", "end", "x"), ("maintenance", "rm", "x", "--yes"),
    ("check", "http://192.0.2.7/"), ("plan", "-f", "-"), ("apply", "-f", "-", "--yes"), ("export",),
)  # fmt: skip
EMPTY = "monitors: []\n"


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with serving(world.client.application) as url:
        yield url


def api_key(world: World, role: str = "owner") -> str:
    response = world.alice.post("/v1/api-keys", json={"name": "cli", "role": role})
    assert response.status_code == 201, response.text
    return str(response.get_json()["key"])


@pytest.fixture
def alone(tmp_path: Path) -> Shell:
    """Without any login."""
    return Shell(tmp_path, {"TOCSIN_DATA_DIR": str(tmp_path / "nothing")})


@pytest.fixture
def tocsin(world: World, url: str, tmp_path: Path) -> Shell:
    """With an API key in the environment."""
    return Shell(tmp_path, {"TOCSIN_URL": url, "TOCSIN_API_KEY": api_key(world)})


def kept(shell: Shell) -> Path:
    return shell.home / ".config" / "tocsin" / "credentials.json"


# Logging in


def test_a_login_is_remembered_for_its_owner_only_and_never_holds_the_password(alone: Shell, url: str) -> None:
    done = alone("login", url, "--email", "alice@example.com", feed=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    assert "alice@example.com" in done.stdout
    assert stat.S_IMODE(kept(alone).stat().st_mode) == 0o600
    assert stat.S_IMODE(kept(alone).parent.stat().st_mode) == 0o700
    text = kept(alone).read_text()
    assert PASSWORD not in text + done.stdout + done.stderr
    for token in ("access_token", "refresh_token"):
        assert json.loads(text)[token] not in done.stdout + done.stderr
    assert alone.json("whoami")["user"]["email"] == "alice@example.com"


def test_a_session_goes_on_after_its_access_token_and_two_commands_do_not_end_it(alone: Shell, url: str) -> None:
    alone("login", url, "--email", "alice@example.com", feed=f"{PASSWORD}\n")
    before = json.loads(kept(alone).read_text())
    kept(alone).write_text(json.dumps({**before, "access_token": before["access_token"][:-2] + "xx"}))
    assert alone.json("whoami")["role"] == "owner"
    after = json.loads(kept(alone).read_text())
    assert after["refresh_token"] != before["refresh_token"]
    # One that still has the old tokens in hand finds that another was faster, and does not use them.
    assert alone.json("whoami")["role"] == "owner"
    assert stat.S_IMODE(kept(alone).stat().st_mode) == 0o600


def test_commands_at_the_same_time_share_one_renewal(alone: Shell, url: str, world: World) -> None:
    alone("login", url, "--email", "alice@example.com", feed=f"{PASSWORD}\n")
    before = json.loads(kept(alone).read_text())
    kept(alone).write_text(json.dumps({**before, "access_token": before["access_token"][:-2] + "xx"}))
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: alone("whoami"), range(4)))
    assert [one.returncode for one in done] == [0] * 4, [one.stderr for one in done]
    families = world.rows("SELECT count(*) FILTER (WHERE revoked_at IS NOT NULL) AS revoked FROM refresh_tokens")
    assert families[0]["revoked"] == 0  # a token that was used twice would have ended the session
    assert alone("whoami").returncode == 0


def test_who_logs_out_is_let_in_no_more(alone: Shell, url: str, world: World) -> None:
    alone("login", url, "--email", "alice@example.com", feed=f"{PASSWORD}\n")
    session = json.loads(kept(alone).read_text())["access_token"]
    assert alone("logout").returncode == 0
    assert not kept(alone).exists()
    assert world.person(session).get("/v1/auth/me").status_code == 401
    assert alone.fails("whoami")[0] == ExitStatus.NOT_LET_IN
    assert alone("logout").returncode == 0


def test_an_api_key_is_read_from_standard_input_and_remembered(alone: Shell, url: str, world: World) -> None:
    key = api_key(world, "viewer")
    done = alone("login", url, "--api-key", feed=f"{key}\n")
    assert done.returncode == 0, done.stderr
    assert key not in done.stdout + done.stderr
    assert json.loads(kept(alone).read_text()) == {"url": url, "api_key": key}
    assert alone.json("whoami")["role"] == "viewer"
    status, line = alone.fails("monitors", "add", "http://192.0.2.7/")
    assert status == ExitStatus.NOT_LET_IN
    assert "monitors:write" in line
    assert alone("logout").returncode == 0
    assert world.person(key).get("/v1/auth/me").status_code == 200  # forgotten, not revoked


@pytest.mark.parametrize(
    ("words", "feed", "status"),
    [
        (("--email", "alice@example.com"), "hunter2!\n", ExitStatus.NOT_LET_IN),
        (("--email", "alice@example.com"), "", ExitStatus.USAGE),
        (("--api-key",), f"{KEY}\n", ExitStatus.NOT_LET_IN),
        (("--api-key",), "hunter2\n", ExitStatus.USAGE),
        ((), f"{PASSWORD}\n", ExitStatus.USAGE),
    ],
)
def test_a_login_that_fails_keeps_nothing(
    alone: Shell, url: str, words: tuple[str, ...], feed: str, status: ExitStatus
) -> None:
    found, line = alone.fails("login", url, *words, feed=feed)
    assert found == status
    assert "`tocsin login`" not in line or "--api-key" in words
    assert not kept(alone).exists()
    assert not feed.strip() or feed.strip() not in line


def test_a_login_that_others_can_read_is_not_used(alone: Shell, url: str, world: World) -> None:
    alone("login", url, "--api-key", feed=f"{api_key(world)}\n")
    kept(alone).chmod(0o640)
    status, line = alone.fails("whoami")
    assert status == ExitStatus.USAGE
    assert "chmod 600" in line
    kept(alone).chmod(0o600)
    kept(alone).write_text("{")
    assert "log in again" in alone.fails("whoami")[1]


def test_xdg_config_home_is_honoured_unless_it_is_relative(alone: Shell, url: str, world: World) -> None:
    there = alone.home / "elsewhere"
    feed = f"{api_key(world)}\n"
    alone("login", url, "--api-key", feed=feed, XDG_CONFIG_HOME=str(there))
    assert (there / "tocsin" / "credentials.json").exists()
    alone("login", url, "--api-key", feed=feed, XDG_CONFIG_HOME="relative")
    assert kept(alone).exists()


def test_the_environment_wins_over_what_is_remembered(alone: Shell, url: str, world: World) -> None:
    alone("login", url, "--api-key", feed=f"{api_key(world, 'viewer')}\n")
    key = api_key(world)
    done = alone("whoami", "--json", TOCSIN_URL=url, TOCSIN_API_KEY=key)
    assert json.loads(done.stdout)["role"] == "owner"
    file = alone.home / "key"
    file.write_text(f"{key}\n")
    done = alone("whoami", "--json", TOCSIN_URL=url, TOCSIN_API_KEY_FILE=str(file))
    assert json.loads(done.stdout)["role"] == "owner"
    status, line = alone.fails("whoami", TOCSIN_API_KEY=key, TOCSIN_API_KEY_FILE=str(file))
    assert (status, key in line) == (ExitStatus.USAGE, False)
    assert alone.fails("whoami", TOCSIN_URL=url, TOCSIN_API_KEY_FILE="/nowhere")[0] == ExitStatus.USAGE


def test_credentials_go_to_no_other_address_than_theirs(alone: Shell, url: str, world: World) -> None:
    alone("login", url, "--api-key", feed=f"{api_key(world)}\n")
    with ScriptedApi() as other:
        assert alone.fails("whoami", TOCSIN_URL=other.url)[0] == ExitStatus.NOT_LET_IN
    assert other.asked == []


def test_after_up_nothing_is_needed(alone: Shell, url: str, world: World) -> None:
    data_dir = alone.home / "data"
    data_dir.mkdir()
    credentials = data_dir / "credentials.json"
    credentials.write_text(json.dumps({"url": "http://127.0.0.1:1", "email": "a", "api_key": api_key(world)}))
    credentials.chmod(0o600)
    (data_dir / "stack.json").write_text(json.dumps({"url": url}))  # where it listens this time
    (data_dir / "stack.json").chmod(0o600)
    done = alone("whoami", "--json", TOCSIN_DATA_DIR=str(data_dir))
    assert json.loads(done.stdout)["url"] == url


# How commands end


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_says_in_one_line_that_nobody_is_logged_in(alone: Shell, words: tuple[str, ...]) -> None:
    status, line = alone.fails(*words, feed=EMPTY)
    assert status == ExitStatus.NOT_LET_IN
    assert "tocsin login" in line


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_says_in_one_line_that_it_is_let_in_no_more(words: tuple[str, ...], tmp_path: Path) -> None:
    with ScriptedApi(problem(401, "UNAUTHORIZED", "The token is wrong.\nIt \x1b[31mis.")) as api:
        shell = Shell(tmp_path, {"TOCSIN_URL": api.url, "TOCSIN_API_KEY": KEY})
        status, line = shell.fails(*words, feed=EMPTY)
    assert status == ExitStatus.NOT_LET_IN
    assert "tocsin login" in line and KEY not in line and "\x1b" not in line


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (problem(400, "VALIDATION_ERROR"), ExitStatus.USAGE),
        (problem(403, "FORBIDDEN"), ExitStatus.NOT_LET_IN),
        (problem(404, "MONITOR_NOT_FOUND"), ExitStatus.NOT_FOUND),
        (problem(409, "CONFLICT"), ExitStatus.REFUSED),
        (problem(412, "PLAN_STALE"), ExitStatus.STALE_PLAN),
        (problem(429, "RATE_LIMIT_EXCEEDED", headers={"Retry-After": "3600"}), ExitStatus.REFUSED),
        (problem(500, "INTERNAL_ERROR"), ExitStatus.NO_ANSWER),
        (problem(503, "UNAVAILABLE", headers={"Retry-After": "3600"}), ExitStatus.NO_ANSWER),
        (problem(504, "NO_WORKER"), ExitStatus.NO_ANSWER),
        (Answer(200, b"<html>"), ExitStatus.NO_ANSWER),
        (Answer(302, b"", {"Location": "https://elsewhere.example/"}), ExitStatus.NO_ANSWER),
        (Answer(reset=True), ExitStatus.NO_ANSWER),
    ],
)
def test_every_refusal_has_its_exit_status(answer: Answer, status: ExitStatus, tmp_path: Path) -> None:
    with ScriptedApi(answer) as api:
        shell = Shell(tmp_path, {"TOCSIN_URL": api.url, "TOCSIN_API_KEY": KEY})
        found, line = shell.fails("check", "http://192.0.2.7/")
    assert found == status
    assert KEY not in line


def test_nobody_there_is_one_line(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"TOCSIN_URL": f"http://127.0.0.1:{free_port()}", "TOCSIN_API_KEY": KEY})
    status, line = shell.fails("monitors", "add", "http://192.0.2.7/")
    assert status == ExitStatus.NO_ANSWER
    assert "nothing listens there" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("monitrs",), "Did you mean 'monitors'"),
        (("monitors", "shw"), "No such command"),
        (("monitors", "show"), "Missing argument"),
        (("monitors", "ls", "--nonsense"), "No such option"),
        (("monitors", "ls", "--limit", "0"), "--limit"),
        (("monitors", "add", "nonsense"), "neither"),
        (("monitors", "add", "http://192.0.2.7/", "--label", "team"), "name=value"),
        (("monitors", "add", "http://192.0.2.7/", "--header", "X"), "Name: value"),
        (("monitors", "add", "http://192.0.2.7/", "--interval", "0"), "interval_seconds"),
        (("monitors", "rm", "x"), ""),
        (("incidents", "ack", "x", "--for", "soon"), "no duration"),
        (("incidents", "comment", "x", " "), "some text"),
        (("notifications", "redeliver"), "--dead"),
        (("notifications", "redeliver", "--dead", "abcd"), "--dead"),
        (("plan", "-f", "/nowhere.yaml"), "/nowhere.yaml"),
        (("export", "-f", "/nowhere/x.yaml"), "/nowhere/x.yaml"),
        (("login", "ftp://x", "--api-key"), "https://"),
    ],
)
def test_a_wrong_command_line_is_one_line(tocsin: Shell, words: tuple[str, ...], said: str) -> None:
    status, line = tocsin.fails(*words)
    assert status == (ExitStatus.NOT_FOUND if words == ("monitors", "rm", "x") else ExitStatus.USAGE), line
    assert said in line


# Monitors


def test_monitors_from_adding_to_removing(tocsin: Shell) -> None:
    made = tocsin.json(
        "monitors", "add", "http://192.0.2.7/health", "--name", "Shop", "--key", "shop", "--interval", "60",
        "--label", "team=shop", "--severity", "critical", "--status", "200-299,301", "--contains", "ok",
        "--slower-than", "800", "--header", "X-From: tocsin", "--method", "head", "--paused",
    )  # fmt: skip
    assert (made["type"], made["enabled"], made["labels"]) == ("http", False, {"team": "shop"})
    assert made["http"]["method"] == "HEAD" and made["http"]["headers"] == {"X-From": "tocsin"}
    assert [item["source"] for item in made["assertions"]] == ["status", "body", "latency_ms"]
    assert tocsin.json("monitors", "add", "192.0.2.7:25")["name"] == "192.0.2.7:25"
    for which in (made["id"], made["id"][-8:], made["id"].upper(), "shop", "Shop", "SHOP"):
        assert tocsin.json("monitors", "show", which)["id"] == made["id"], which
    assert [one["name"] for one in tocsin.json("monitors", "ls", "--label", "team=shop")] == ["Shop"]
    assert [one["enabled"] for one in tocsin.json("monitors", "resume", "shop", "shop", "192.0.2.7:25")] == [True, True]
    assert tocsin.json("monitors", "pause", "shop")[0]["state"]["status"] == "paused"
    table = tocsin("monitors", "ls").stdout
    assert re.search(rf"‖ paused +Shop +http://192.0.2.7/health .* {made['id'][-8:]}\n", table)
    assert "every 1m" in tocsin("monitors", "show", "shop").stdout
    assert "--yes" in tocsin.fails("monitors", "rm", "shop")[1]
    assert tocsin.json("monitors", "rm", "shop", "--yes") == [{"id": made["id"], "name": "Shop"}]
    assert tocsin.fails("monitors", "show", "shop")[0] == ExitStatus.NOT_FOUND
    assert tocsin.fails("monitors", "show", made["id"])[0] == ExitStatus.NOT_FOUND


def test_who_is_meant_must_be_clear(tocsin: Shell, world: World) -> None:
    first, second = (world.alice.make_monitor(name="Shop") for _ in range(2))
    world.alice.make_monitor(name="Mail", key="Shop")
    assert tocsin.json("monitors", "show", "Shop")["name"] == "Mail"  # a key is one monitor's alone
    status, line = tocsin.fails("monitors", "pause", "shop")
    assert status == ExitStatus.USAGE
    assert first["id"][-8:] in line and second["id"][-8:] in line
    status, line = tocsin.fails("monitors", "show", first["id"][:4])  # ids begin with the time
    assert (status, "may be" in line) == (ExitStatus.USAGE, True)
    # One that is not there, and nothing is done to the others.
    assert tocsin.fails("monitors", "pause", first["id"], "Nobody")[0] == ExitStatus.NOT_FOUND
    assert tocsin.json("monitors", "show", first["id"])["enabled"] is True


def test_what_belongs_to_others_is_not_there(tocsin: Shell, world: World) -> None:
    theirs = world.charlie.make_monitor(name="Theirs", key="theirs")
    for which in (theirs["id"], theirs["id"][-8:], "theirs", "Theirs"):
        assert tocsin.fails("monitors", "show", which)[0] == ExitStatus.NOT_FOUND


def test_names_cannot_move_the_cursor_or_forge_lines(tocsin: Shell, world: World) -> None:
    incident = world.alice.post(
        "/v1/incidents", json={"title": "[red]x[/red]\u202eevil", "description": "a\x1b[2Jb\rc\nd"}
    ).get_json()
    shown = tocsin("incidents", "show", incident["id"]).stdout
    assert "\x1b" not in shown and "\r" not in shown and "\u202e" not in shown
    assert "[red]x[/red]" in shown


def test_lists_say_when_there_is_more(tocsin: Shell, world: World) -> None:
    for number in range(3):
        world.alice.make_monitor(name=f"Shop {number}")
    done = tocsin("monitors", "ls", "--limit", "2", "--json")
    assert len(json.loads(done.stdout)) == 2
    assert "more than 2" in done.stderr
    assert "more" not in tocsin("monitors", "ls", "--limit", "3").stderr


# Incidents and notifications


def test_incidents_from_opening_to_end(tocsin: Shell, world: World) -> None:
    monitor = world.alice.make_monitor(name="Shop", key="shop")
    incident_id = world.open_incident(monitor)
    assert [one["id"] for one in tocsin.json("incidents", "ls")] == [incident_id]
    table = tocsin("incidents", "ls").stdout
    assert re.search(rf"✖ open +P2 +Shop is down .* {incident_id[-8:]}\n", table)
    assert tocsin.json("incidents", "ack", "shop", "--for", "1h30m", "-m", "on it")[0]["status"] == "acknowledged"
    assert tocsin.json("incidents", "comment", incident_id[-8:], "looking")["data"]["body"] == "looking"
    shown = tocsin.json("incidents", "show", "Shop")
    assert shown["acknowledgement_expires_at"] is not None
    assert [event["type"] for event in shown["events"]].count("commented") == 2
    assert "on it" in tocsin("incidents", "show", incident_id).stdout
    listed = tocsin.json("incidents", "ls", "--monitor", "shop", "--priority", "p2")
    assert [one["id"] for one in listed] == [incident_id]
    assert tocsin.json("incidents", "resolve", incident_id)[0]["status"] == "resolved"
    assert tocsin.json("incidents", "ls") == []
    assert [one["id"] for one in tocsin.json("incidents", "ls", "--all")] == [incident_id]
    assert "nothing is wrong" in tocsin("incidents", "ls").stderr
    status, line = tocsin.fails("incidents", "ack", incident_id)
    assert status == ExitStatus.REFUSED and "resolved" in line
    assert tocsin.fails("incidents", "ack", "shop")[0] == ExitStatus.NOT_FOUND  # none is open
    assert tocsin.fails("incidents", "show", "0" * 8)[0] == ExitStatus.NOT_FOUND


def test_dead_notifications_are_sent_again(tocsin: Shell, world: World) -> None:
    channel = world.alice.make_channel()
    incident_id = world.open_incident(world.alice.make_monitor())
    event = world.rows("SELECT id FROM incident_events WHERE incident_id = %(id)s", id=incident_id)[0]["id"]
    notification_id = "0190a000-0000-7000-8000-00000000abcd"
    world.execute(
        "INSERT INTO notifications (id, org_id, event_id, incident_id, channel_id, event_type, status, reason,"
        " attempts, next_attempt_at)"
        " VALUES (%(id)s, %(org)s, %(event)s, %(incident)s, %(channel)s, 'incident.opened', 'dead',"
        " 'exhausted', 3, now())",
        id=notification_id, org=world.org_a, event=event, incident=incident_id, channel=channel["id"],
    )  # fmt: skip
    assert [one["id"] for one in tocsin.json("notifications", "ls", "--status", "dead")] == [notification_id]
    assert re.search(r"✖ dead +opened +exhausted +3 ", tocsin("notifications", "ls").stdout)
    assert tocsin.json("notifications", "redeliver", "0000abcd")[0]["status"] == "pending"
    assert tocsin.fails("notifications", "redeliver", notification_id)[0] == ExitStatus.REFUSED
    assert tocsin.json("notifications", "redeliver", "--dead") == {"redelivered": 0, "remaining": 0}


# Files of monitors


FILE = """
monitors:
- key: shop
  name: Shop
  type: http
  target: http://192.0.2.7/health
  labels: {team: on, since: 2026-01-01}
- key: mail
  name: Mail
  type: tcp
  target: 192.0.2.7:25
"""


def test_maintenance_from_adding_to_removing(tocsin: Shell) -> None:
    tocsin("monitors", "add", "http://192.0.2.7/", "--name", "Shop", "--key", "shop")
    made = tocsin.json(
        "maintenance", "add", "upgrade", "--for", "1h30m", "--monitor", "shop", "--match", "team=~s.*", "-m", "x"
    )
    assert (made["type"], made["state"], made["until_healthy"]) == ("once", "active", False)
    assert (made["matchers"], len(made["monitor_ids"])) == ([{"label": "team", "op": "=~", "value": "s.*"}], 1)
    assert "maintenance" in tocsin("monitors", "ls").stdout
    assert len(tocsin.json("monitors", "ls", "--state", "maintenance")) == 1
    days = ["sat", "sun"] if utc_now().weekday() in (1, 2, 3) else ["wed", "thu"]  # none of them is today
    weekly = ("--days", ",".join(days), "--time", "02:00", "--zone", "Europe/Berlin", "--until-healthy")
    made = tocsin.json("maintenance", "add", "backups", "--for", "45m", "--match", "tier!=1", *weekly)
    assert made["days"] == days
    assert (
        tocsin.json("maintenance", "add", "patch", "--for", "1h", "--match", "a=b", "--cron", "0 2 * * 6")["cron"]
        == "0 2 * * 6"
    )
    listed = tocsin("maintenance", "ls").stdout
    assert all(
        text in listed
        for text in ("upgrade", f"{','.join(days)} 02:00 Europe/Berlin for 45m", "0 2 * * 6", "tier!=1", "1 named")
    )
    assert "on until" in listed
    ended = tocsin("maintenance", "end", "upgrade")
    assert (ended.returncode, "does not come again" in ended.stdout) == (0, True)
    assert [one["name"] for one in tocsin.json("maintenance", "ls", "--state", "ended")] == ["upgrade"]
    assert tocsin("maintenance", "end", "backups").returncode != 0  # it is not on
    assert tocsin("maintenance", "rm", "backups", "patch", "--yes").returncode == 0
    assert tocsin("maintenance", "ls").stdout == ""
    for words, said in (
        (("x", "--for", "1h"), "--monitor or --match"),
        (("x", "--for", "soon", "--match", "a=b"), "no duration"),
        (("x", "--for", "1h", "--match", "a"), "no matcher"),
        (("x", "--for", "1h", "--match", "a=b", "--days", "mon"), "go together"),
        (("x", "--for", "1h", "--match", "a=b", "--zone", "UTC"), "--days or --cron"),
        (("x", "--for", "1h", "--match", "a=b", "--cron", "x", "--at", "y"), "one of"),
        (("x", "--for", "1h", "--match", "a=b", "--cron", "x"), "five fields"),
        (("x", "--for", "1h", "--monitor", "nobody"), "there is no monitor"),
    ):
        done = tocsin("maintenance", "add", *words)
        assert done.returncode != 0 and said in done.stderr, (words, done.stderr)


def test_a_file_is_planned_applied_and_exported_to_the_same_bytes(tocsin: Shell, tmp_path: Path) -> None:
    file = tmp_path / "monitors.yaml"
    file.write_text(FILE)
    plan = tocsin("plan", "-f", str(file))
    assert (plan.returncode, "2 to create" in plan.stdout) == (0, True)
    assert tocsin("plan", "-f", str(file), "--exit-code").returncode == ExitStatus.NOT_WELL
    assert tocsin.json("monitors", "ls") == []
    assert "--yes" in tocsin.fails("apply", "-f", str(file))[1]
    assert tocsin.json("apply", "-f", str(file), "--yes")["summary"]["create"] == 2
    again = tocsin("plan", "-f", "-", "--exit-code", feed=FILE)
    assert again.returncode == 0, again.stdout
    first, second = tocsin("export"), tocsin("export")
    assert first.stdout == second.stdout
    assert tocsin("plan", "-f", "-", "--exit-code", feed=first.stdout).returncode == 0
    assert 'team: "on"' in first.stdout or "team: 'on'" in first.stdout
    assert tocsin("export", "-f", str(tmp_path / "out.yaml")).stdout == ""
    assert (tmp_path / "out.yaml").read_text() == first.stdout
    assert tocsin.json("export", "--label", "team=on")["monitors"][0]["key"] == "shop"
    changed = tocsin("plan", "-f", "-", "--prune", feed=FILE.replace("Mail", "Post").replace("key: shop", "key: new"))
    assert "1 to create, 1 to change, 1 to remove" in changed.stdout
    assert re.search(r"name +Mail → Post", changed.stdout)


def test_a_stale_plan_is_not_applied(tmp_path: Path) -> None:
    plan = {
        "fingerprint": "f",
        "summary": {"create": 0, "update": 0, "delete": 1, "unchanged": 0},
        "changes": [{"action": "delete", "key": "shop", "id": "x", "name": "Shop", "differences": []}],
        "drift": [],
    }
    with ScriptedApi(Answer(body=plan), problem(412, "PLAN_STALE", "The monitors have changed.")) as api:
        shell = Shell(tmp_path, {"TOCSIN_URL": api.url, "TOCSIN_API_KEY": KEY})
        status, line = shell.fails("apply", "-f", "-", "--prune", "--yes", feed=EMPTY)
    assert status == ExitStatus.STALE_PLAN
    assert "tocsin plan" in line
    assert [asked.path for asked in api.asked] == ["/v1/monitors/plan", "/v1/monitors/apply"]
    assert json.loads(api.asked[1].body) == {"monitors": [], "prune": True, "fingerprint": "f"}


# How it looks


def test_without_a_terminal_there_are_no_colours_and_nothing_is_cut(tocsin: Shell, world: World) -> None:
    world.alice.make_monitor(name="N" * 190, target=f"http://192.0.2.7/{'p' * 100}")
    shown = tocsin("monitors", "ls", TERM="xterm-256color").stdout
    assert "\x1b" not in shown
    assert "N" * 190 in shown and "p" * 100 in shown


def test_help_is_there_for_everything(alone: Shell) -> None:
    overview = alone("--help").stdout
    for words in COMMANDS:
        assert words[0] in overview
        path = words[:2] if words[0] in ("monitors", "incidents", "notifications", "maintenance") else words[:1]
        shown = alone(*path, "--help")
        assert shown.returncode == 0
        assert "--json" in shown.stdout, path


def test_asking_for_nothing_shows_what_there_is(alone: Shell) -> None:
    assert "monitors" in alone().stdout + alone().stderr
