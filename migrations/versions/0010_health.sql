-- Which workers live, what locations see, whom a blind location concerns; monitors that flap, monitors nobody sees.
SET LOCAL ROLE tocsin_owner;

-- Where checks run from ---------------------------------------------------------------------------------------------
-- A worker process says every few seconds that it lives, and what it saw. One row each, taken away by an orderly end;
-- what a killed one leaves is forgotten after a day. No tenant's: locations are the operator's.
CREATE TABLE worker_signs (
  id             uuid PRIMARY KEY,                     -- of the process
  location       smallint NOT NULL,
  started_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  seen_at        timestamptz NOT NULL,
  judged_at      timestamptz,                          -- its newest committed result, whatever it says
  saw            integer NOT NULL,                     -- results of the last seconds (common.domain.blindness) that saw …
  blinded        integer NOT NULL,                     -- … and that could not, by our own fault
  checks_minute  integer NOT NULL
) WITH (fillfactor = 50);

-- What whoever leads has made of it: one row a location. The row is the mutex of two who think that they lead.
CREATE TABLE location_sights (
  location       smallint PRIMARY KEY,
  looked_at      timestamptz NOT NULL,
  failing_since  timestamptz,                          -- sees nothing, perhaps not yet for long enough
  seeing_since   timestamptz,                          -- blind, and sees again since then, not yet for long enough
  blind_since    timestamptz,
  reason         text CHECK (reason IN ('network', 'no_worker', 'no_results'))
) WITH (fillfactor = 50);

-- The incident that an organization got for a blind location. The row outlives a resolve by hand, which holds until the
-- location sees again.
CREATE TABLE blind_incidents (
  location     smallint NOT NULL,
  org_id       uuid NOT NULL REFERENCES organizations,
  incident_id  uuid NOT NULL,
  PRIMARY KEY (location, org_id),
  FOREIGN KEY (org_id, incident_id) REFERENCES incidents (org_id, id)
);

-- Monitors ----------------------------------------------------------------------------------------------------------
-- Constant defaults: nothing is rewritten. The version before leaves them as they are; both are read with that in mind.
ALTER TABLE monitor_states
  ADD COLUMN flapping boolean NOT NULL DEFAULT false,
  ADD COLUMN turns bigint[] NOT NULL DEFAULT '{}',     -- slots (Unix ms) of the newest changes between up and not up
  ADD COLUMN unseen boolean NOT NULL DEFAULT false;    -- no location has looked for too long; a hint for the stream
CREATE INDEX monitor_states_unseen ON monitor_states (monitor_no) WHERE unseen;

-- Rights ------------------------------------------------------------------------------------------------------------
ALTER TABLE blind_incidents ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_all ON blind_incidents TO tocsin_owner USING (true) WITH CHECK (true);
CREATE POLICY worker_all ON blind_incidents TO tocsin_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON blind_incidents TO tocsin_api
  USING (org_id = (SELECT current_org())) WITH CHECK (org_id = (SELECT current_org()));
GRANT SELECT, INSERT, UPDATE, DELETE ON worker_signs, location_sights TO tocsin_worker;
GRANT SELECT, INSERT, DELETE ON blind_incidents TO tocsin_worker;
GRANT SELECT ON worker_signs, location_sights TO tocsin_api;

RESET ROLE;
