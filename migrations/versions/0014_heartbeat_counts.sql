-- Heartbeats that count successes. The version before leaves the columns as they are, and takes a period's successes for one;
-- who judges next sees that it has heard more than is counted (common/domain/heartbeats.py).
SET LOCAL ROLE tocsin_owner;

-- A constant default: nothing is rewritten.
ALTER TABLE heartbeats
  ADD COLUMN successes bigint[] NOT NULL DEFAULT '{}', -- the newest, Unix ms, at most 148; empty where nothing is counted
  ADD COLUMN counted_from timestamptz;                 -- from then on they are counted, until as many have come

-- From now on whoever judges forgets a deleted heartbeat; of those before nobody would.
DELETE FROM pings p USING monitors m WHERE m.monitor_no = p.monitor_no AND m.deleted_at IS NOT NULL;
DELETE FROM heartbeats h USING monitors m WHERE m.monitor_no = h.monitor_no AND m.deleted_at IS NOT NULL;

RESET ROLE;
