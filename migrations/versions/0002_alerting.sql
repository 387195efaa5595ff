-- Alert routing: routes, silences, alerts from outside, groups, caps, fallbacks. Everything is added; nothing that
-- the version before reads or writes changes its meaning.
SET LOCAL ROLE tocsin_owner;

-- Who is to hear of what. `match` holds patterns for severity, source and name; both are ANDed.
CREATE TABLE routes (
  id                 uuid PRIMARY KEY,
  org_id             uuid NOT NULL REFERENCES organizations,
  team_id            uuid,
  name               text NOT NULL CHECK (name <> ''),
  position           integer NOT NULL,
  match              jsonb NOT NULL DEFAULT '{}',
  matchers           jsonb NOT NULL DEFAULT '[]',
  channel_ids        uuid[] NOT NULL,
  cooldown_s         integer NOT NULL DEFAULT 0 CHECK (cooldown_s BETWEEN 0 AND 604800),
  group_by           text[],                           -- NULL: every incident is told on its own
  group_wait_s       integer NOT NULL DEFAULT 30 CHECK (group_wait_s BETWEEN 0 AND 3600),
  group_interval_s   integer NOT NULL DEFAULT 300 CHECK (group_interval_s BETWEEN 1 AND 86400),
  repeat_interval_s  integer CHECK (repeat_interval_s BETWEEN 60 AND 604800),  -- NULL: no reminders
  continues          boolean NOT NULL DEFAULT true,
  enabled            boolean NOT NULL DEFAULT true,
  created_at         timestamptz NOT NULL DEFAULT now(),
  updated_at         timestamptz NOT NULL DEFAULT now(),
  deleted_at         timestamptz,
  UNIQUE (org_id, id)
);
CREATE INDEX routes_in_order ON routes (org_id, position, id) WHERE deleted_at IS NULL;

-- When a route last announced a problem; a newer announcement within its cooldown is suppressed.
CREATE TABLE route_cooldowns (
  route_id   uuid NOT NULL,
  org_id     uuid NOT NULL,
  dedup_key  text NOT NULL,
  last_at    timestamptz NOT NULL,
  PRIMARY KEY (route_id, dedup_key),
  FOREIGN KEY (org_id, route_id) REFERENCES routes (org_id, id)
);

-- When an open incident is brought to mind again: one row per route that told of it and repeats.
CREATE TABLE reminders (
  route_id     uuid NOT NULL,
  incident_id  uuid NOT NULL,
  org_id       uuid NOT NULL,
  due_at       timestamptz NOT NULL,
  PRIMARY KEY (route_id, incident_id),
  FOREIGN KEY (org_id, route_id) REFERENCES routes (org_id, id),
  FOREIGN KEY (org_id, incident_id) REFERENCES incidents (org_id, id)
);
CREATE INDEX reminders_due ON reminders (due_at);

CREATE TABLE silences (
  id          uuid PRIMARY KEY,
  org_id      uuid NOT NULL REFERENCES organizations,
  matchers    jsonb NOT NULL,
  comment     text NOT NULL DEFAULT '',
  created_by  text NOT NULL,                           -- actor: 'user:<id>' or 'api-key:<id>'
  starts_at   timestamptz NOT NULL,
  ends_at     timestamptz NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  settled_at  timestamptz,                             -- what was still wrong at its end has been announced
  UNIQUE (org_id, id),
  CHECK (ends_at >= starts_at)
);
CREATE INDEX silences_listed ON silences (org_id, ends_at DESC, id DESC);
CREATE INDEX silences_unsettled ON silences (ends_at) WHERE settled_at IS NULL;

-- Alerts from outside by their identity: a repeat is stopped here, whatever crashed in between.
CREATE TABLE alerts (
  org_id       uuid NOT NULL,
  alert_id     text NOT NULL CHECK (char_length(alert_id) <= 255),
  status       text NOT NULL CHECK (status IN ('firing', 'resolved')),
  incident_id  uuid NOT NULL,
  received_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, alert_id),
  -- Deferred: an identity is taken before the incident that it leads to is written.
  FOREIGN KEY (org_id, incident_id) REFERENCES incidents (org_id, id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX alerts_by_age ON alerts USING brin (received_at);

-- The guard of "exactly one incident per outage" once more, by key first: an alert of the platform ends in every
-- organization where it is open.
DROP INDEX incidents_one_open;
CREATE UNIQUE INDEX incidents_one_open ON incidents (dedup_key, org_id) WHERE status <> 'resolved';
-- Alerts have no monitor.
DROP INDEX incidents_by_monitor;
CREATE INDEX incidents_by_monitor ON incidents (org_id, monitor_id, opened_at DESC) WHERE monitor_id IS NOT NULL;

-- The label `name` that routes match: the monitor's name or the alert's.
ALTER TABLE incidents ADD COLUMN name text NOT NULL DEFAULT '';

-- Notifications that share a message: same channel, same group; `message_id` is the message's id over all attempts.
ALTER TABLE notifications ADD COLUMN route_id uuid;
ALTER TABLE notifications ADD COLUMN silence_id uuid;
ALTER TABLE notifications ADD COLUMN group_key text;
ALTER TABLE notifications ADD COLUMN message_id uuid;
CREATE INDEX notifications_grouped ON notifications (channel_id, group_key, no)
  WHERE status = 'pending' AND group_key IS NOT NULL;
CREATE INDEX notifications_bundled ON notifications (channel_id, message_id)
  WHERE status = 'pending' AND message_id IS NOT NULL;
CREATE INDEX notifications_told ON notifications (channel_id, group_key, sent_at)
  WHERE group_key IS NOT NULL AND sent_at IS NOT NULL;
CREATE INDEX notifications_silenced ON notifications (silence_id) WHERE silence_id IS NOT NULL;
-- When a cooldown that holds it back is to be looked at; NULL: never (again).
ALTER TABLE notifications ADD COLUMN held_until timestamptz;
CREATE INDEX notifications_cooling ON notifications (held_until) WHERE held_until IS NOT NULL;
CREATE INDEX notifications_dead ON notifications (org_id, created_at, id) WHERE status = 'dead';
-- Nothing looks by time alone, and a planner that believes nothing to be pending reads it to its end for each row.
DROP INDEX notifications_due;
-- "Pending" in words that prove no other index: who says it so (common/store/notifications.py) is sure of this one.
DROP INDEX notifications_in_order;
CREATE INDEX notifications_in_order ON notifications (incident_id, channel_id, no)
  WHERE status NOT IN ('sent', 'dead', 'suppressed');

ALTER TABLE channels ADD COLUMN fallback_id uuid;      -- hears what this channel could not be told
ALTER TABLE channels ADD COLUMN cap_count integer CHECK (cap_count > 0);
ALTER TABLE channels ADD COLUMN cap_window_s integer CHECK (cap_window_s BETWEEN 1 AND 86400);
ALTER TABLE channels ADD COLUMN cap_started_at timestamptz;   -- when the cap's running window began …
ALTER TABLE channels ADD COLUMN cap_used integer NOT NULL DEFAULT 0;  -- … and how many new messages left in it
ALTER TABLE channels ADD COLUMN disabled_reason text;
-- What waits for these is suppressed: looked for every second.
CREATE INDEX channels_closed ON channels (id) WHERE NOT enabled OR deleted_at IS NOT NULL;
ALTER TABLE channels ADD CONSTRAINT channels_cap CHECK ((cap_count IS NULL) = (cap_window_s IS NULL));
ALTER TABLE channels ADD CONSTRAINT channels_fallback FOREIGN KEY (org_id, fallback_id)
  REFERENCES channels (org_id, id) NOT VALID;
ALTER TABLE channels VALIDATE CONSTRAINT channels_fallback;

-- Of a disabled organization nobody is let in and nothing is taken in.
ALTER TABLE organizations ADD COLUMN disabled_at timestamptz;

-- Keys of the operator's own: what they send is offered to every organization's routes.
CREATE TABLE platform_keys (
  id          uuid PRIMARY KEY,
  name        text NOT NULL,
  prefix      text NOT NULL UNIQUE,
  key_hash    bytea NOT NULL CHECK (octet_length(key_hash) = 32),
  created_at  timestamptz NOT NULL DEFAULT now(),
  revoked_at  timestamptz
);

DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['routes', 'route_cooldowns', 'reminders', 'silences', 'alerts', 'platform_keys'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY owner_all ON %I TO tocsin_owner USING (true) WITH CHECK (true)', t);
    EXECUTE format('CREATE POLICY worker_all ON %I TO tocsin_worker USING (true) WITH CHECK (true)', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['routes', 'route_cooldowns', 'reminders', 'silences', 'alerts'] LOOP
    EXECUTE format('CREATE POLICY tenant ON %I TO tocsin_api
                    USING (org_id = (SELECT current_org())) WITH CHECK (org_id = (SELECT current_org()))', t);
  END LOOP;
END $$;

-- Whoever changes routes, silences or channels moves the organization's routing_version in the same transaction; the
-- relay holds that row while it matches.
GRANT UPDATE (routing_version) ON organizations TO tocsin_api, tocsin_worker;
GRANT SELECT, INSERT, UPDATE ON routes, reminders, silences, alerts TO tocsin_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON reminders TO tocsin_worker;
GRANT UPDATE (cap_started_at, cap_used, disabled_reason, updated_at) ON channels TO tocsin_worker;
GRANT SELECT ON route_cooldowns TO tocsin_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON route_cooldowns TO tocsin_worker;
GRANT SELECT, UPDATE ON silences TO tocsin_worker;
GRANT SELECT ON routes TO tocsin_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON alerts TO tocsin_worker;
-- The operator's part of the API acts as tocsin_worker too.
GRANT INSERT, UPDATE (name, disabled_at) ON organizations TO tocsin_worker;
GRANT SELECT, INSERT ON api_keys TO tocsin_worker;

-- A platform key is looked up before anything is known, and names no organization.
CREATE FUNCTION auth_platform_key(wanted_prefix text) RETURNS TABLE (key_id uuid, key_hash bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT k.id, k.key_hash FROM platform_keys k WHERE k.prefix = wanted_prefix AND k.revoked_at IS NULL
$$;
REVOKE EXECUTE ON FUNCTION auth_platform_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth_platform_key(text) TO tocsin_api;

CREATE OR REPLACE FUNCTION auth_user_by_email(wanted text)
RETURNS TABLE (user_id uuid, password_hash text, disabled boolean, org_id uuid, role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT u.id, u.password_hash, u.disabled_at IS NOT NULL, m.org_id, m.role
    FROM users u JOIN memberships m ON m.user_id = u.id JOIN organizations o ON o.id = m.org_id
   WHERE u.email = lower(wanted) AND o.deleted_at IS NULL AND o.disabled_at IS NULL
   ORDER BY m.created_at, m.org_id
$$;

CREATE OR REPLACE FUNCTION auth_api_key(wanted_prefix text)
RETURNS TABLE (key_id uuid, org_id uuid, role text, key_hash bytea, expires_at timestamptz, last_used_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT k.id, k.org_id, k.role, k.key_hash, k.expires_at, k.last_used_at
    FROM api_keys k JOIN organizations o ON o.id = k.org_id
   WHERE k.prefix = wanted_prefix AND k.revoked_at IS NULL AND o.deleted_at IS NULL AND o.disabled_at IS NULL
$$;

CREATE OR REPLACE FUNCTION auth_session(wanted_user uuid, wanted_org uuid, family uuid)
RETURNS TABLE (email text, name text, role text, tokens_valid_after timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT u.email, u.name, m.role, u.tokens_valid_after
    FROM users u JOIN memberships m ON m.user_id = u.id AND m.org_id = wanted_org
    JOIN organizations o ON o.id = m.org_id
   WHERE u.id = wanted_user AND u.disabled_at IS NULL AND o.deleted_at IS NULL AND o.disabled_at IS NULL
     AND EXISTS (SELECT 1 FROM refresh_tokens t WHERE t.family_id = family AND t.user_id = wanted_user)
     AND NOT EXISTS (SELECT 1 FROM refresh_tokens t WHERE t.family_id = family AND t.revoked_at IS NOT NULL)
$$;

RESET ROLE;
