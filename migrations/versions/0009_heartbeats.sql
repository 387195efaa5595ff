-- Heartbeats: monitors that wait to be pinged. Reasons: docs/decisions/0026-pings-are-an-inbox.md
SET LOCAL ROLE tocsin_owner;

-- One row per monitor of type heartbeat. Its secret is what it is pinged by: looked up by its hash, shown by opening
-- `secrets`. The rest belongs to the worker that judges (worker/heartbeats.py) and is locked while it does; the API never
-- waits for that lock while it holds another one that a writer wants.
CREATE TABLE heartbeats (
  id           uuid PRIMARY KEY,                       -- the monitor's
  org_id       uuid NOT NULL,
  monitor_no   integer NOT NULL UNIQUE REFERENCES monitors (monitor_no),
  token_hash   bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),  -- SHA-256 of the 16 bytes of the secret
  secrets      text,                                   -- sealed: {"token": the secret}
  look_at      timestamptz NOT NULL DEFAULT 'infinity',  -- when it has to be looked at next, if nothing happens before
  pings        bigint NOT NULL DEFAULT 0,              -- so many came
  armed        boolean NOT NULL DEFAULT false,         -- a success or failure came: from then on one is expected
  version      integer NOT NULL DEFAULT 0,             -- of the configuration that it was last looked at with
  code         smallint NOT NULL DEFAULT 0,            -- exit status of the last signal
  trouble      smallint NOT NULL DEFAULT 0,            -- common.domain.checks.Reason why it is down
  message      text NOT NULL DEFAULT '',               -- the same in words
  latency_ms   real NOT NULL DEFAULT -1,               -- the last run's duration, or what it said
  watched_from timestamptz NOT NULL DEFAULT 'epoch',   -- monitors.check_from, as far as is known here
  heard_at     timestamptz,                            -- the last success or failure since then
  expected_at  timestamptz,                            -- the next signal
  deadline_at  timestamptz,                            -- after which it is missed
  event_at     timestamptz NOT NULL DEFAULT 'epoch',   -- the newest moment that was judged
  looked_to    timestamptz NOT NULL DEFAULT 'epoch',   -- the newest slot that was looked at
  runs         jsonb NOT NULL DEFAULT '{}',            -- {run id or '': start in ms} of runs without an end
  FOREIGN KEY (org_id, id) REFERENCES monitors (org_id, id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX heartbeats_due ON heartbeats (look_at);

-- What was heard and not judged yet, in the order in which it came. Appended by the API, emptied by whoever judges.
CREATE TABLE ping_inbox (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at          timestamptz NOT NULL,
  rid         uuid,                                    -- of the run
  monitor_no  integer NOT NULL,
  latency_ms  real NOT NULL DEFAULT -1,
  kind        smallint NOT NULL,                       -- common.domain.heartbeats.PingKind
  exit_code   smallint,
  source      text NOT NULL DEFAULT '',                -- the network that it came from
  body        text NOT NULL DEFAULT ''
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ping_inbox_of ON ping_inbox (monitor_no, id);

-- The newest pings of each monitor: a ring, so that it never grows.
CREATE TABLE pings (
  n            bigint NOT NULL,                        -- counts from 1
  at           timestamptz NOT NULL,
  rid          uuid,
  monitor_no   integer NOT NULL,
  duration_ms  bigint,                                 -- of the run that it ends
  place        smallint NOT NULL,                      -- n modulo the ring's size
  kind         smallint NOT NULL,
  exit_code    smallint,
  source       text NOT NULL,
  body         text NOT NULL,
  PRIMARY KEY (monitor_no, place)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- When an API was there to hear: `until` is the last sign of any. A spell without one is written down by the first that
-- is back: what was not heard then is not held against anybody.
CREATE TABLE hearing (
  one    boolean PRIMARY KEY DEFAULT true CHECK (one),
  until  timestamptz NOT NULL
);
INSERT INTO hearing (until) VALUES (clock_timestamp());
CREATE TABLE deaf_spells (
  from_at   timestamptz PRIMARY KEY,
  until_at  timestamptz NOT NULL
);

-- A changed configuration has to be looked at. A note in the inbox, for it waits for no lock.
CREATE FUNCTION note_heartbeat() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
  INSERT INTO ping_inbox (at, monitor_no, kind) VALUES (now(), NEW.monitor_no, 9);
  RETURN NULL;
END $$;
CREATE TRIGGER note_new_heartbeat AFTER INSERT ON monitors FOR EACH ROW
  WHEN (NEW.type = 'heartbeat') EXECUTE FUNCTION note_heartbeat();
CREATE TRIGGER note_heartbeat AFTER UPDATE OF config_version ON monitors FOR EACH ROW
  WHEN (NEW.type = 'heartbeat' AND NEW.config_version <> OLD.config_version) EXECUTE FUNCTION note_heartbeat();

-- Rights ------------------------------------------------------------------------------------------------------------
DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['heartbeats', 'ping_inbox', 'pings', 'hearing', 'deaf_spells'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY owner_all ON %I TO tocsin_owner USING (true) WITH CHECK (true)', t);
    EXECUTE format('CREATE POLICY worker_all ON %I TO tocsin_worker USING (true) WITH CHECK (true)', t);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO tocsin_worker', t);
  END LOOP;
END $$;
CREATE POLICY tenant ON heartbeats TO tocsin_api USING (org_id = (SELECT current_org()))
  WITH CHECK (org_id = (SELECT current_org()));
CREATE POLICY tenant ON pings TO tocsin_api USING (
  (SELECT m.org_id FROM monitors m WHERE m.monitor_no = pings.monitor_no) = (SELECT current_org()));
GRANT SELECT, INSERT ON heartbeats TO tocsin_api;
GRANT UPDATE (token_hash, secrets) ON heartbeats TO tocsin_api;
GRANT SELECT ON pings TO tocsin_api;
REVOKE EXECUTE ON FUNCTION note_heartbeat() FROM PUBLIC;

RESET ROLE;
