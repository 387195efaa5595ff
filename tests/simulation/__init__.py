"""Scheduler, workers and notifiers together over virtual time, under seeded random faults: the deterministic layer.

`python -m tests.simulation --seed N --verbose` replays a schedule with a readable trace, `--seeds A B` runs many.
A seed is the whole schedule: sizes, truth about the targets, faults, every chance on the way.

Real, the product's own code: Lease, Loader, Dispatcher, Wheel, Confirmations; the messages' encoding; what a worker
does with one check (`CheckRunner._due`, `_run_one`, `_doubt`, `_enqueue_slow`, LoopLag, Suspicion), Writer with fold,
rule, advance and conclude; Relay, Hints, Sweeper, `Deliverer.claim` and `send`, the webhook channel with its signature
and its judgement of answers, `after_attempt`, `Settler._commit`; DatabaseClock; all of `common/store` above the SQL.

Modelled here: PostgreSQL (`database` and `statements`: what each of the store's SQL texts means, with its locks,
guards, crashes and lost asynchronous commits), Redis with Dramatiq (`bus`), targets, networks, receivers, processes
with their clocks, lives and freezes. The loops around the product's steps are events; where the product's outline
belongs to an asyncio loop it is followed by hand, a few lines each: `CheckRunner.run` without its admission
(`working`), `Deliverer._carry` and `Settler._try` (`notifying`), the order in which `notifier.app` starts.

In half of the schedules one channel is told in groups, by a route; elsewhere nobody made any rules, and every event
goes, alone, to all default channels. Where a channel's receiver is gone the product's own notice of that is an incident
like others.

Not here: the API and deeds by hand, changes of monitors while they run, back-pressure of full lanes, poison rows; of
alerting: alerts from outside, silences, cooldowns, caps, fallbacks, reminders. A lock that is held by another is never
waited for: it ends in Contended. Leases of notifications are shorter than the product's, so that a schedule sees them
end. These are the business of the chaos suite, on real servers.

Excused, each where it is checked: a duplicate of what was sent long after its claim (nobody can take back what a
frozen process sends); two leaders after a suspension or a step of the database's clock; with a quorum of one, a
location that still reports a failure it had begun to see before another saw the end.
"""
