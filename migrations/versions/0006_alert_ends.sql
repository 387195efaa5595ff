-- Alerts that end unless they are sent again, and what a fallback is told while its channel still fails. Everything is
-- added; nothing that the version before reads or writes changes its meaning.
SET LOCAL ROLE tocsin_owner;

-- When an open incident's alert ends unless its sender repeats it. Whoever prolongs it or ends it holds this row.
CREATE TABLE alert_ends (
  incident_id  uuid PRIMARY KEY,
  org_id       uuid NOT NULL,
  ends_at      timestamptz NOT NULL,
  stated       boolean NOT NULL,                       -- the sender said when; else it is the resolve timeout
  FOREIGN KEY (org_id, incident_id) REFERENCES incidents (org_id, id)
) WITH (fillfactor = 80);
CREATE INDEX alert_ends_due ON alert_ends (ends_at);

-- Since when alerts could come in, without a gap: one row, which every API process keeps fresh.
CREATE TABLE alert_intake (
  one      boolean PRIMARY KEY DEFAULT true CHECK (one),
  since    timestamptz NOT NULL,
  seen_at  timestamptz NOT NULL
);

-- When the channel's fallback was told of it although it still waits at the channel itself.
ALTER TABLE notifications ADD COLUMN handed_over_at timestamptz;
-- Failing channels are looked at every few seconds.
CREATE INDEX channels_failing ON channels (failing_since) WHERE failures > 0;

DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['alert_ends', 'alert_intake'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY owner_all ON %I TO tocsin_owner USING (true) WITH CHECK (true)', t);
    EXECUTE format('CREATE POLICY worker_all ON %I TO tocsin_worker USING (true) WITH CHECK (true)', t);
  END LOOP;
END $$;
CREATE POLICY tenant ON alert_ends TO tocsin_api
  USING (org_id = (SELECT current_org())) WITH CHECK (org_id = (SELECT current_org()));
-- Nobody's in particular: it says only that the API lives.
CREATE POLICY everybody ON alert_intake TO tocsin_api USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE ON alert_ends, alert_intake TO tocsin_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON alert_ends TO tocsin_worker;
GRANT SELECT ON alert_intake TO tocsin_worker;

RESET ROLE;
