"""`tocsin demo`: on a running stack, without one, and where it cannot go on."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.e2e.stack import COMMAND, ROOT, Stack, clean_environment, running, wait_for

#: What the demo has to say for each act, in this order.
STORY = (
    "the endpoint breaks", "check failed", "1 of 2", "2 of 2", "incident opened", "incident.opened, signature valid",
    "the endpoint is mended", "check succeeded", "incident resolved", "incident.resolved, signature valid",
    "one incident, two webhooks",
)  # fmt: skip


class Demo:
    """A `tocsin demo` under way, with a temp directory of its own to leave things in."""

    def __init__(self, temp: Path, **variables: str) -> None:
        self.temp = temp
        self._variables = variables
        temp.mkdir()
        temp.chmod(0o711)
        self.began = time.monotonic()
        environment = clean_environment(TMPDIR=str(temp), PYTHONUNBUFFERED="1", **variables)
        self.out = temp.parent / f"{temp.name}.out"
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                [*COMMAND, "demo"], env=environment, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
            )

    def again(self, name: str) -> Demo:
        """Another one like it."""
        return Demo(self.temp.parent / name, **self._variables)

    @property
    def text(self) -> str:
        return self.out.read_text()

    def await_text(self, text: str) -> None:
        wait_for(lambda: text in self.text, f"{text!r} in\n{self.text}", 120)

    def wait(self, within_s: float = 240.0) -> int:
        return self.process.wait(within_s)

    def leftovers(self) -> list[str]:
        files = [str(path) for path in self.temp.iterdir()]
        processes = [p.name() for p in psutil.process_iter(["environ"]) if str(self.temp) in str(p.info["environ"])]
        return [*files, *processes]

    def assert_left_nothing(self) -> None:
        wait_for(lambda: not self.leftovers(), f"the end of {self.leftovers()}")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(240)


@pytest.fixture(scope="module")
def temp() -> Iterator[Path]:
    """Short, and open to the database's user."""
    with tempfile.TemporaryDirectory(prefix="tcs-demo-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running(TOCSIN_WORKERS="1") as stack:
        yield stack


@dataclass
class Plays:
    """The demos of this module, side by side: each takes longer than all the rest."""

    demos: dict[str, Demo]
    public: Stack

    def __getitem__(self, name: str) -> Demo:
        return self.demos[name]


@pytest.fixture(scope="module")
def plays(stack: Stack, temp: Path) -> Iterator[Plays]:
    nowhere = str(temp / "nowhere")
    # Settings of somebody's real stack: a temporary one must not touch it.
    real = {"DATABASE_URL": "postgresql://127.0.0.1:1/real", "TOCSIN_PORT": str(stack.port), "TOCSIN_EGRESS": "public"}
    demos = {
        "interrupted": Demo(temp / "interrupted", TOCSIN_DATA_DIR=nowhere, **real),
        "running": Demo(temp / "running", TOCSIN_DATA_DIR=str(stack.data_dir)),
        "alone": Demo(temp / "alone", TOCSIN_DATA_DIR=nowhere),
    }
    try:
        with running(TOCSIN_WORKERS="1", TOCSIN_EGRESS="public") as public:
            demos["public"] = Demo(temp / "public", TOCSIN_DATA_DIR=str(public.data_dir))
            yield Plays(demos, public)
    finally:
        for demo in demos.values():
            demo.end()


def assert_story(text: str) -> None:
    place = 0
    for line in STORY:
        assert line in text[place:], f"{line!r} is missing or out of order in\n{text}"
        place = text.index(line, place)


def rows_by_table(stack: Stack) -> dict[str, int]:
    """How many rows every table has that could belong to an organization."""
    tables = [row[0] for row in stack.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    shared = {
        "alembic_version",
        "leases",
        "locations",
        "alert_intake",
        "rollup_progress",
        "rollup_marks",
        "rollup_fills",
        "deaf_spells",
        "hearing",
        "location_sights",
        "worker_signs",
    }
    return {t: stack.sql(f"SELECT count(*) FROM {t}")[0][0] for t in sorted(tables) if t not in shared}


def test_ctrl_c_in_the_middle_of_an_outage_leaves_nothing(plays: Plays) -> None:
    demo = plays["interrupted"]
    for again in range(3):
        demo.await_text("check failed")
        demo.process.send_signal(signal.SIGINT)
        if demo.wait() != 0:
            break
        # It was over before we came to it.
        demo = plays.demos["interrupted"] = demo.again(f"interrupted-{again}")
    assert demo.wait() == 130
    assert demo.text.splitlines()[-1] == "interrupted"
    demo.assert_left_nothing()


def test_on_a_running_stack_everything_arrives_once_and_nothing_stays(stack: Stack, plays: Plays) -> None:
    assert plays["running"].wait() == 0, plays["running"].text
    assert_story(plays["running"].text)
    assert stack.url in plays["running"].text
    # This stack has no organization but the first, its user and its key.
    rows = {table: count for table, count in rows_by_table(stack).items() if count}
    assert rows == {"organizations": 1, "users": 1, "memberships": 1, "api_keys": 1}
    plays["running"].assert_left_nothing()


def test_without_a_stack_it_starts_one_and_leaves_nothing(plays: Plays) -> None:
    assert plays["alone"].wait() == 0, plays["alone"].text
    assert_story(plays["alone"].text)
    plays["alone"].assert_left_nothing()
    assert "\x1b" not in plays["alone"].text  # plain lines where there is no terminal


def test_where_loopback_is_refused_it_says_so_and_cleans_up(plays: Plays) -> None:
    demo = plays["public"]
    assert demo.wait() == 2
    (line,) = [line for line in demo.text.splitlines() if line.startswith("tocsin demo:")]
    assert "TOCSIN_EGRESS=public" in line
    assert rows_by_table(plays.public)["organizations"] == 1


def test_a_stack_that_goes_away_in_the_middle_is_said_in_one_line(stack: Stack, plays: Plays, temp: Path) -> None:
    plays["running"].wait()  # the same stack, which ends here
    demo = plays.demos["midway"] = Demo(temp / "midway", TOCSIN_DATA_DIR=str(stack.data_dir))
    for again in range(3):
        demo.await_text("the endpoint breaks")
        stack.stop(signal.SIGKILL)
        if demo.wait() != 0:
            break
        # It was over before we came to it.
        stack.start()
        demo = plays.demos["midway"] = demo.again(f"midway-{again}")
    assert demo.wait() == 1
    assert "the stack stopped answering" in demo.text
    assert "is still in it" in demo.text
    assert "Traceback" not in demo.text
    demo.assert_left_nothing()
