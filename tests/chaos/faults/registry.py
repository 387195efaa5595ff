"""All faults by name: `make chaos FAULT=<name>`. A new one is a function here and a line below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from tests.chaos.faults import clocks, egress, network, postgres, processes, promotion, queues, receivers
from tests.chaos.faults.site import Site

Inflict = Callable[[Site], None]
"""Do it, return when it is over, leave nothing behind. Raises Impossible where this machine cannot."""

FAULTS: Mapping[str, Inflict] = {
    "kill": processes.kill,
    "kill-api": partial(processes.kill, role="api"),
    "kill-scheduler": partial(processes.kill, role="scheduler"),
    "kill-worker": partial(processes.kill, role="worker"),
    "kill-notifier": partial(processes.kill, role="notifier"),
    "kill-leader": processes.kill_leader,
    "failpoint": processes.fall,
    "failpoint-commit": partial(processes.fall, kind="commit"),
    "failpoint-send": partial(processes.fall, kind="send"),
    "failpoint-ack": partial(processes.fall, kind="ack"),
    "failpoint-fetch": partial(processes.fall, kind="fetch"),
    "failpoint-enqueue": partial(processes.fall, kind="enqueue"),
    "failpoint-claim": partial(processes.fall, kind="commit@claim"),
    "failpoint-settle": partial(processes.fall, kind="commit@settle"),
    "failpoint-silences": partial(processes.fall_together, loop="silences"),
    "failpoint-reminders": partial(processes.fall_together, loop="reminders", hurry=processes.remind_now),
    "failpoint-cooldowns": partial(processes.fall_together, loop="cooldowns"),
    "failpoint-acknowledgements": partial(processes.fall_together, loop="acknowledgements"),
    "failpoint-api": partial(processes.fall, kind="commit@api"),
    "failpoint-pings": partial(processes.fall, kind="commit@pings"),
    "failpoint-heartbeats": partial(processes.fall, kind="commit@heartbeats"),
    "failpoint-maintenance": partial(processes.fall_together, loop="maintenance"),
    "freeze-api": partial(processes.freeze, role="api"),
    "freeze-scheduler": partial(processes.freeze, role="scheduler"),
    "freeze-worker": partial(processes.freeze, role="worker"),
    "freeze-notifier": partial(processes.freeze, role="notifier"),
    "freeze-leader": processes.freeze_leader,
    "rolling-restart": processes.rolling_restart,
    "redis-kill": queues.kill_redis,
    "redis-flush": queues.flush,
    "redis-pause": queues.pause,
    "redis-clients": queues.cut_clients,
    "redis-full": queues.fill_memory,
    "redis-disk": queues.fill_disk,
    "redis-promote": promotion.promote,
    "slow-flood": queues.flood,
    "queue-duplicate": queues.duplicate,
    "queue-shuffle": queues.shuffle,
    "queue-stale": queues.stale,
    "queue-corrupt": queues.corrupt,
    "postgres-stop": postgres.stop_immediately,
    "postgres-backend": postgres.kill_backend,
    "postgres-terminate": postgres.terminate_backends,
    "postgres-lock": postgres.lock_table,
    "postgres-connections": postgres.exhaust_connections,
    "disk-full": postgres.fill_disk,
    "egress-unreachable": egress.unreachable,
    "egress-mute": egress.mute,
    "net-reset": network.reset,
    "net-lost-replies": network.lose_replies,
    "net-blackhole": network.blackhole,
    "net-latency": network.latency,
    "net-slices": network.slices,
    "net-refuse": network.refuse,
    "net-cut": network.cut,
    "clock-skew": clocks.skew,
    "sink-error": partial(receivers.misbehave, treatment="error"),
    "sink-busy": partial(receivers.misbehave, treatment="busy"),
    "sink-reset": partial(receivers.misbehave, treatment="reset"),
    "sink-torn": partial(receivers.misbehave, treatment="torn"),
    "sink-hang": partial(receivers.misbehave, treatment="hang"),
}
