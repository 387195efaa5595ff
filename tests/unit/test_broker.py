"""What travels in queues: round trips, and everything else is unreadable."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.broker import (
    BATCH_SIZE,
    PREFETCH,
    VERSION,
    Batch,
    UnreadableMessage,
    decode_batch,
    decode_probe,
    encode_batch,
    make_broker,
    probe_queue,
    queue_name,
)
from common.domain.checks import Check, Kind, Lane

GOOD: dict[str, Any] = {"v": VERSION, "b": "batch", "e": 3, "c": [[1, 2, 1_800_000_000_000, 0]]}

numbers = st.integers(1, 2**31 - 1)
checks = st.builds(Check, numbers, numbers, st.integers(0, 4_102_444_800_000), st.sampled_from(Kind))
batches = st.builds(
    Batch, st.text(max_size=20), st.integers(0, 2**40), st.lists(checks, max_size=BATCH_SIZE).map(tuple)
)


@given(batches)
def test_a_batch_survives_its_journey_through_json(batch: Batch) -> None:
    assert decode_batch(json.loads(json.dumps(encode_batch(batch)))) == batch


#: What is in the queue instead of a batch.
UNREADABLE: list[Any] = [
    None,
    17,
    "text",
    [],
    [1, 2],
    {},
    {**GOOD, "v": VERSION + 1},  # a newer version's
    {**GOOD, "v": None},
    {**GOOD, "v": [1]},
    {**GOOD, "v": "1"},
    {key: value for key, value in GOOD.items() if key != "v"},
    {key: value for key, value in GOOD.items() if key != "b"},
    {key: value for key, value in GOOD.items() if key != "e"},
    {key: value for key, value in GOOD.items() if key != "c"},
    {**GOOD, "c": None},
    {**GOOD, "c": 5},
    {**GOOD, "c": "text"},
    {**GOOD, "c": [[1, 2, 3]]},  # a column is missing
    {**GOOD, "c": [[1, 2, 3, 0, 0]]},
    {**GOOD, "c": [[1, 2, 3, 99]]},  # a kind that does not exist
    {**GOOD, "c": [["x", 2, 3, 0]]},
    {**GOOD, "c": [[None, 2, 3, 0]]},
    {**GOOD, "c": [[1, 2, float("inf"), 0]]},  # JSON of Python has it
    {**GOOD, "c": [[1, 2, float("nan"), 0]]},
    {**GOOD, "e": "epoch"},
]


@pytest.mark.parametrize("payload", UNREADABLE)
def test_anything_else_is_unreadable_and_nothing_worse(payload: Any) -> None:
    with pytest.raises(UnreadableMessage):
        decode_batch(payload)


def test_the_good_payload_that_the_others_are_made_from_is_readable() -> None:
    assert decode_batch(GOOD).checks == (Check(1, 2, 1_800_000_000_000, Kind.SCHEDULED),)


@pytest.mark.parametrize(
    "payload", [None, 17, "text", [], {}, {"v": VERSION}, {"p": "x"}, {"v": VERSION + 1, "p": "x"}]
)
def test_anything_but_an_id_is_no_question_for_a_probe(payload: Any) -> None:
    assert decode_probe({"v": VERSION, "p": "x"}) == "x"
    with pytest.raises(UnreadableMessage):
        decode_probe(payload)


def test_each_lane_of_each_location_has_a_queue_of_its_own_with_its_prefetch() -> None:
    names = {queue_name(lane, location) for lane in Lane for location in ("local", "eu-west.1")}
    assert len(names) == 6
    assert {name.split(".", 1)[0] for name in (*names, probe_queue("local"))} <= set(PREFETCH)


def test_prefetch_and_polling_are_ours_and_delayed_messages_poll_seldom() -> None:
    broker = make_broker("redis://127.0.0.1:1/0")
    assert [broker.consume(f"{queue}.local", 2).prefetch for queue in ("checks", "slow", "urgent")] == [48, 64, 16]
    assert broker.consume("checks.local", 2).timeout == 50
    delayed = broker.consume("checks.local.DQ", 7)
    assert (delayed.prefetch, delayed.timeout) == (7, 1000)


def test_only_the_reaper_cleans_up_and_then_always() -> None:
    assert make_broker("redis://127.0.0.1:1/0").maintenance_chance == 0
    assert make_broker("redis://127.0.0.1:1/0", reaper=True).maintenance_chance == 1_000_000
