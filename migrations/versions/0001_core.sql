-- Roles -------------------------------------------------------------------------------------------------------------
-- Roles belong to the whole server, so another database may have made them already, perhaps this very moment.
DO $$
DECLARE r text;
BEGIN
  FOREACH r IN ARRAY ARRAY['tocsin_owner', 'tocsin_api', 'tocsin_worker'] LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS', r);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    -- The login takes a role per transaction (SET LOCAL ROLE), so it has to be a member; since PostgreSQL 16 a login
    -- without superuser's rights is a member of what it made, but may not take it before it says so.
    IF NOT pg_has_role(
      current_user, r, CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END
    ) THEN
      EXECUTE format('GRANT %I TO %I', r, current_user);
    END IF;
  END LOOP;
END $$;

GRANT USAGE, CREATE ON SCHEMA public TO tocsin_owner;
GRANT USAGE ON SCHEMA public TO tocsin_api, tocsin_worker;
SET LOCAL ROLE tocsin_owner;

-- The organization of the running transaction, set by the engine's begin event; NULL hides everything.
CREATE FUNCTION current_org() RETURNS uuid LANGUAGE sql STABLE
  RETURN nullif(current_setting('app.org_id', true), '')::uuid;

-- Tenants and identity ----------------------------------------------------------------------------------------------
CREATE TABLE organizations (
  id               uuid PRIMARY KEY,
  name             text NOT NULL CHECK (name <> ''),
  routing_version  bigint NOT NULL DEFAULT 0,
  last_seq         bigint NOT NULL DEFAULT 0,          -- numbers committed events; only the relay moves it
  created_at       timestamptz NOT NULL DEFAULT now(),
  deleted_at       timestamptz
);

CREATE TABLE users (
  id                  uuid PRIMARY KEY,
  email               text NOT NULL CHECK (email = lower(email)),
  name                text NOT NULL DEFAULT '',
  password_hash       text NOT NULL,                   -- argon2id
  tokens_valid_after  timestamptz NOT NULL DEFAULT 'epoch',  -- older access tokens are refused
  created_at          timestamptz NOT NULL DEFAULT now(),
  disabled_at         timestamptz,
  CONSTRAINT users_email_key UNIQUE (email)
);

CREATE TABLE memberships (
  org_id      uuid NOT NULL REFERENCES organizations,
  user_id     uuid NOT NULL REFERENCES users,
  role        text NOT NULL CHECK (role IN ('owner', 'admin', 'editor', 'viewer')),
  created_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, user_id)
);
CREATE INDEX memberships_by_user ON memberships (user_id);

CREATE TABLE api_keys (
  id            uuid PRIMARY KEY,
  org_id        uuid NOT NULL REFERENCES organizations,
  name          text NOT NULL,
  prefix        text NOT NULL UNIQUE,                  -- looked up by; not secret
  key_hash      bytea NOT NULL CHECK (octet_length(key_hash) = 32),  -- SHA-256 of a 256-bit secret
  role          text NOT NULL CHECK (role IN ('owner', 'admin', 'editor', 'viewer')),
  created_by    uuid REFERENCES users,
  created_at    timestamptz NOT NULL DEFAULT now(),
  expires_at    timestamptz,
  last_used_at  timestamptz,
  revoked_at    timestamptz,
  UNIQUE (org_id, id)
);

CREATE TABLE refresh_tokens (
  id          uuid PRIMARY KEY,                        -- the token's jti
  family_id   uuid NOT NULL,                           -- one login; a replayed token revokes the whole family
  org_id      uuid NOT NULL REFERENCES organizations,
  user_id     uuid NOT NULL REFERENCES users,
  created_at  timestamptz NOT NULL DEFAULT now(),
  expires_at  timestamptz NOT NULL,
  used_at     timestamptz,
  revoked_at  timestamptz
);
CREATE INDEX refresh_tokens_by_family ON refresh_tokens (family_id);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

-- Where checks run from; belongs to the operator, not to a tenant.
CREATE TABLE locations (
  id          smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name        text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  created_at  timestamptz NOT NULL DEFAULT now()
);

-- Monitors ----------------------------------------------------------------------------------------------------------
CREATE TABLE monitors (
  id                  uuid PRIMARY KEY,
  org_id              uuid NOT NULL REFERENCES organizations,
  monitor_no          integer GENERATED ALWAYS AS IDENTITY UNIQUE,  -- the lean key of hot tables and messages
  team_id             uuid,
  key                 text CHECK (key ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'),
  name                text NOT NULL CHECK (name <> ''),
  type                text NOT NULL,
  target              text NOT NULL,
  interval_s          integer NOT NULL CHECK (interval_s BETWEEN 1 AND 86400),
  timeout_s           double precision NOT NULL CHECK (timeout_s > 0 AND timeout_s <= interval_s),
  failure_threshold   smallint NOT NULL CHECK (failure_threshold BETWEEN 1 AND 100),
  recovery_threshold  smallint NOT NULL CHECK (recovery_threshold BETWEEN 1 AND 100),
  retry_interval_s    integer NOT NULL CHECK (retry_interval_s BETWEEN 1 AND 86400),
  severity            text NOT NULL CHECK (severity IN ('critical', 'error', 'warning', 'info')),
  labels              jsonb NOT NULL DEFAULT '{}',
  location_ids        smallint[] NOT NULL CHECK (cardinality(location_ids) > 0),
  quorum              smallint,
  enabled             boolean NOT NULL DEFAULT true,
  parent_id           uuid,
  options             jsonb NOT NULL DEFAULT '{}',     -- under the type's name; secret values are null here …
  secrets             text,                            -- … and stand here, encrypted, by their path
  assertions          jsonb NOT NULL DEFAULT '[]',
  config_version      integer NOT NULL DEFAULT 1,
  check_from          timestamptz NOT NULL,            -- a slot of its own: creation, resume, new interval check at once
  changed_xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),  -- lets the scheduler read exactly what changed
  created_at          timestamptz NOT NULL DEFAULT now(),
  updated_at          timestamptz NOT NULL DEFAULT now(),
  deleted_at          timestamptz,
  UNIQUE (org_id, id),
  FOREIGN KEY (org_id, parent_id) REFERENCES monitors (org_id, id)
);
CREATE UNIQUE INDEX monitors_key ON monitors (org_id, key) WHERE key IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX monitors_listed ON monitors (org_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX monitors_changed ON monitors (changed_xid);
CREATE INDEX monitors_parent ON monitors (org_id, parent_id) WHERE parent_id IS NOT NULL;

CREATE FUNCTION monitors_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.changed_xid := pg_current_xact_id();
  NEW.updated_at := now();
  RETURN NEW;
END $$;
CREATE TRIGGER monitors_touch BEFORE UPDATE ON monitors FOR EACH ROW EXECUTE FUNCTION monitors_touch();

-- One row per (monitor, location), rewritten by every check: no indexed column changes, so updates stay HOT.
CREATE TABLE votes (
  last_slot     timestamptz NOT NULL DEFAULT 'epoch',     
  confirm_at    timestamptz,                           -- NULL almost always; the partial index below stays tiny
  monitor_no    integer NOT NULL REFERENCES monitors (monitor_no),
  version       integer NOT NULL DEFAULT 1,            -- optimistic lock
  config_floor  integer NOT NULL DEFAULT 0,            -- results of an older configuration do not vote
  latency_ms    real NOT NULL DEFAULT -1,
  location      smallint NOT NULL,
  health        smallint NOT NULL DEFAULT 0,           -- common.domain.health.Health
  reason        smallint NOT NULL DEFAULT 0,           -- common.domain.checks.Reason of the last vote
  not_up        smallint NOT NULL DEFAULT 0,
  down          smallint NOT NULL DEFAULT 0,
  up            smallint NOT NULL DEFAULT 0,
  not_down      smallint NOT NULL DEFAULT 0,
  slow          boolean NOT NULL DEFAULT false,        -- starts in the slow lane
  last_verdict  smallint NOT NULL DEFAULT 0,           -- common.domain.checks.Verdict
  PRIMARY KEY (monitor_no, location)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX votes_to_confirm ON votes (confirm_at) WHERE confirm_at IS NOT NULL;

-- One row per monitor, changed only by a transition.
CREATE TABLE monitor_states (
  monitor_no      integer PRIMARY KEY REFERENCES monitors (monitor_no),
  org_id          uuid NOT NULL,
  version         integer NOT NULL DEFAULT 1,
  health          smallint NOT NULL DEFAULT 0,         -- common.domain.health.Health
  incident_worst  smallint,                            -- NULL while no incident is open
  since           timestamptz NOT NULL DEFAULT now(),
  open_incident   uuid,
  last_resolved   uuid                                 -- resolved by hand while still down; cleared by recovery
) WITH (fillfactor = 80);

-- Results: lean rows without tenant or foreign key, one partition a day, dropped by retention.
-- Phases are milliseconds, -1 where a phase was not reached: without NULLs the row has no null bitmap.
CREATE TABLE results (
  scheduled_at    timestamptz NOT NULL,
  monitor_no      integer NOT NULL,
  config_version  integer NOT NULL,
  dns_ms          real NOT NULL,
  connect_ms      real NOT NULL,
  tls_ms          real NOT NULL,
  ttfb_ms         real NOT NULL,
  total_ms        real NOT NULL,
  location        smallint NOT NULL,
  reason          smallint NOT NULL,
  code            smallint NOT NULL,
  verdict         "char" NOT NULL,                     -- chr of common.domain.checks.Verdict + '0'
  kind            "char" NOT NULL,                     -- chr of common.domain.checks.Kind + '0'
  PRIMARY KEY (monitor_no, location, scheduled_at)
) PARTITION BY RANGE (scheduled_at);

-- What only failures need.
CREATE TABLE result_details (
  scheduled_at      timestamptz NOT NULL,
  monitor_no        integer NOT NULL,
  location          smallint NOT NULL,
  message           text NOT NULL,
  failed_assertion  jsonb,
  PRIMARY KEY (monitor_no, location, scheduled_at)
) PARTITION BY RANGE (scheduled_at);

-- Partitions are made ahead and dropped by this function alone, so that the scheduler needs no right to create tables.
CREATE FUNCTION keep_result_partitions(days_ahead integer, retention_days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
  parent text; day date; child text; changed integer := 0;
  today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
  PERFORM pg_advisory_xact_lock(7305061972);
  FOREACH parent IN ARRAY ARRAY['results', 'result_details'] LOOP
    FOR day IN SELECT generate_series(today - 1, today + days_ahead, interval '1 day')::date LOOP
      child := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
      IF to_regclass('public.' || child) IS NULL THEN
        EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)',
                       child, parent, day::text || ' 00:00+00', (day + 1)::text || ' 00:00+00');
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', child);
        changed := changed + 1;
      END IF;
    END LOOP;
    FOR child IN
      SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
       WHERE i.inhparent = ('public.' || parent)::regclass
         AND to_date(right(c.relname, 8), 'YYYYMMDD') < today - retention_days
    LOOP
      EXECUTE format('DROP TABLE public.%I', child);
      changed := changed + 1;
    END LOOP;
  END LOOP;
  RETURN changed;
END $$;

-- Incidents ---------------------------------------------------------------------------------------------------------
CREATE TABLE incidents (
  id               uuid PRIMARY KEY,
  org_id           uuid NOT NULL REFERENCES organizations,
  monitor_id       uuid,
  source           text NOT NULL,
  dedup_key        text NOT NULL CHECK (char_length(dedup_key) <= 255),
  title            text NOT NULL,
  description      text NOT NULL DEFAULT '',
  severity         text NOT NULL CHECK (severity IN ('critical', 'error', 'warning', 'info')),
  priority         text NOT NULL CHECK (priority IN ('P1', 'P2', 'P3')),
  status           text NOT NULL CHECK (status IN ('open', 'acknowledged', 'resolved')),
  version          integer NOT NULL DEFAULT 1,
  cause            jsonb NOT NULL DEFAULT '{}',        -- {reason, message, expected, seen}
  labels           jsonb NOT NULL DEFAULT '{}',
  reopened_from    uuid,
  correlation_id   text NOT NULL DEFAULT '',
  opened_at        timestamptz NOT NULL,
  acknowledged_at  timestamptz,
  resolved_at      timestamptz,
  UNIQUE (org_id, id),
  FOREIGN KEY (org_id, monitor_id) REFERENCES monitors (org_id, id),
  FOREIGN KEY (org_id, reopened_from) REFERENCES incidents (org_id, id),
  CHECK ((status = 'resolved') = (resolved_at IS NOT NULL))
);
-- The guard of "exactly one incident per outage".
CREATE UNIQUE INDEX incidents_one_open ON incidents (org_id, dedup_key) WHERE status <> 'resolved';
CREATE INDEX incidents_listed ON incidents (org_id, opened_at DESC, id DESC);
CREATE INDEX incidents_by_monitor ON incidents (org_id, monitor_id, opened_at DESC);

-- The timeline: append-only. `snapshot` is what a message about this event says (incident and monitor as they were).
CREATE TABLE incident_events (
  id              uuid PRIMARY KEY,
  org_id          uuid NOT NULL,
  incident_id     uuid NOT NULL,
  seq             bigint,                              -- position in the organization's stream, given by the relay
  version         integer NOT NULL,                    -- the incident's version after this event
  type            text NOT NULL,
  actor           text NOT NULL,                       -- 'tocsin', 'user:<id>' or 'api-key:<id>'
  data            jsonb NOT NULL DEFAULT '{}',
  snapshot        json,                                -- json, not jsonb: keeps the contract's order of members
  correlation_id  text NOT NULL DEFAULT '',
  at              timestamptz NOT NULL,
  UNIQUE (org_id, id),
  UNIQUE (incident_id, version),
  FOREIGN KEY (org_id, incident_id) REFERENCES incidents (org_id, id)
);
CREATE UNIQUE INDEX incident_events_stream ON incident_events (org_id, seq) WHERE seq IS NOT NULL;
CREATE INDEX incident_events_unnumbered ON incident_events (id) WHERE seq IS NULL;  -- nearly empty: the relay empties it

-- Announced events on their way to the ledger; the relay takes a row away in the transaction that writes the ledger.
CREATE TABLE outbox (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  org_id       uuid NOT NULL,
  incident_id  uuid NOT NULL,
  event_id     uuid NOT NULL UNIQUE,
  type         text NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  FOREIGN KEY (org_id, event_id) REFERENCES incident_events (org_id, id)
);

-- Channels and the ledger -------------------------------------------------------------------------------------------
CREATE TABLE channels (
  id                uuid PRIMARY KEY,
  org_id            uuid NOT NULL REFERENCES organizations,
  team_id           uuid,
  name              text NOT NULL CHECK (name <> ''),
  type              text NOT NULL,
  config            jsonb NOT NULL DEFAULT '{}',
  secrets           text,                              -- encrypted, bound to organization and channel
  enabled           boolean NOT NULL DEFAULT true,
  is_default        boolean NOT NULL DEFAULT false,
  failures          integer NOT NULL DEFAULT 0,        -- in a row; 0 means the channel is well
  failing_since     timestamptz,
  retry_at          timestamptz,                       -- while it fails, nothing is sent before
  created_at        timestamptz NOT NULL DEFAULT now(),
  updated_at        timestamptz NOT NULL DEFAULT now(),
  deleted_at        timestamptz,
  UNIQUE (org_id, id)
) WITH (fillfactor = 80);
CREATE INDEX channels_listed ON channels (org_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;

-- One row per (event, channel): pending → sent | dead, or suppressed with its reason.
CREATE TABLE notifications (
  id                uuid PRIMARY KEY,
  no                bigint GENERATED ALWAYS AS IDENTITY,  -- order of the events within an incident
  org_id            uuid NOT NULL,
  event_id          uuid NOT NULL,
  incident_id       uuid NOT NULL,
  channel_id        uuid NOT NULL,
  event_type        text NOT NULL,
  status            text NOT NULL CHECK (status IN ('pending', 'sent', 'dead', 'suppressed')),
  reason            text,
  attempts          integer NOT NULL DEFAULT 0,
  unknown_outcome   boolean NOT NULL DEFAULT false,    -- an attempt may have arrived (timeout, reset)
  next_attempt_at   timestamptz NOT NULL,
  first_attempt_at  timestamptz,
  lease_token       uuid,
  leased_until      timestamptz,
  sent_at           timestamptz,
  created_at        timestamptz NOT NULL DEFAULT now(),
  UNIQUE (org_id, id),
  CONSTRAINT notifications_once UNIQUE (event_id, channel_id),
  FOREIGN KEY (org_id, event_id) REFERENCES incident_events (org_id, id),
  FOREIGN KEY (org_id, incident_id) REFERENCES incidents (org_id, id),
  FOREIGN KEY (org_id, channel_id) REFERENCES channels (org_id, id)
) WITH (fillfactor = 80);
CREATE INDEX notifications_due ON notifications (next_attempt_at) WHERE status = 'pending';
CREATE INDEX notifications_in_order ON notifications (incident_id, channel_id, no) WHERE status = 'pending';
CREATE INDEX notifications_listed ON notifications (org_id, created_at DESC, id DESC);
CREATE INDEX notifications_by_incident ON notifications (org_id, incident_id);
CREATE INDEX notifications_by_channel ON notifications (channel_id, no) WHERE status = 'pending';

CREATE TABLE delivery_attempts (
  id               uuid PRIMARY KEY,
  org_id           uuid NOT NULL,
  notification_id  uuid NOT NULL,
  number           integer NOT NULL,
  outcome          text NOT NULL CHECK (outcome IN ('delivered', 'rejected', 'failed', 'unknown')),
  status_code      integer,
  error            text,
  duration_ms      real NOT NULL,
  at               timestamptz NOT NULL,
  FOREIGN KEY (org_id, notification_id) REFERENCES notifications (org_id, id)
);
CREATE INDEX delivery_attempts_listed ON delivery_attempts (notification_id, number);

-- Leadership --------------------------------------------------------------------------------------------------------
CREATE TABLE leases (
  name           text PRIMARY KEY,
  holder         text NOT NULL,
  epoch          bigint NOT NULL,
  expires_at     timestamptz NOT NULL,
  dispatched_to  timestamptz NOT NULL
);

-- Rights: row-level security is forced on every tenant-owned table --------------------------------------------------
DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['organizations', 'users', 'memberships', 'api_keys', 'refresh_tokens', 'monitors', 'votes',
                           'monitor_states', 'results', 'result_details', 'incidents', 'incident_events', 'outbox',
                           'channels', 'notifications', 'delivery_attempts'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY owner_all ON %I TO tocsin_owner USING (true) WITH CHECK (true)', t);
    EXECUTE format('CREATE POLICY worker_all ON %I TO tocsin_worker USING (true) WITH CHECK (true)', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['memberships', 'api_keys', 'refresh_tokens', 'monitors', 'monitor_states', 'incidents',
                           'incident_events', 'outbox', 'channels', 'notifications', 'delivery_attempts'] LOOP
    EXECUTE format('CREATE POLICY tenant ON %I TO tocsin_api
                    USING (org_id = (SELECT current_org())) WITH CHECK (org_id = (SELECT current_org()))', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['votes', 'results', 'result_details'] LOOP
    -- No org_id on the hot tables: they belong to whom their monitor belongs (itself seen through its policy).
    -- Not EXISTS: PostgreSQL would hash all monitors of the organization for a page of results.
    EXECUTE format('CREATE POLICY tenant ON %I TO tocsin_api USING (
                      (SELECT m.org_id FROM monitors m WHERE m.monitor_no = %I.monitor_no) = (SELECT current_org()))',
                   t, t);
  END LOOP;
END $$;
CREATE POLICY tenant ON organizations TO tocsin_api USING (id = (SELECT current_org()));
CREATE POLICY tenant ON users TO tocsin_api USING (EXISTS (
  SELECT 1 FROM memberships m WHERE m.user_id = users.id));

GRANT SELECT ON organizations, users, memberships, locations TO tocsin_api;
GRANT INSERT ON locations TO tocsin_api, tocsin_worker;
GRANT SELECT, INSERT, UPDATE ON api_keys, refresh_tokens, monitors, votes, monitor_states, incidents, channels,
                                notifications TO tocsin_api;
GRANT SELECT, INSERT ON incident_events, outbox TO tocsin_api;
GRANT DELETE ON votes TO tocsin_api;
GRANT SELECT ON results, result_details, delivery_attempts TO tocsin_api;

GRANT SELECT ON organizations, monitors, locations TO tocsin_worker;
GRANT UPDATE (last_seq) ON organizations TO tocsin_worker;
GRANT SELECT, UPDATE ON votes, monitor_states TO tocsin_worker;
GRANT SELECT, INSERT ON results, result_details TO tocsin_worker;
GRANT SELECT, INSERT, UPDATE ON incidents, notifications, leases TO tocsin_worker;
GRANT SELECT, INSERT ON incident_events, delivery_attempts TO tocsin_worker;
GRANT UPDATE (seq) ON incident_events TO tocsin_worker;
GRANT SELECT, INSERT, DELETE ON outbox TO tocsin_worker;
GRANT SELECT ON channels TO tocsin_worker;
GRANT UPDATE (failures, failing_since, retry_at, enabled) ON channels TO tocsin_worker;
REVOKE EXECUTE ON FUNCTION keep_result_partitions(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keep_result_partitions(integer, integer) TO tocsin_worker;

-- Identity is looked up before the organization is known: these functions are the only way around the tenant policy,
-- each by a key that the caller has to present.
CREATE FUNCTION auth_user_by_email(wanted text)
RETURNS TABLE (user_id uuid, password_hash text, disabled boolean, org_id uuid, role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT u.id, u.password_hash, u.disabled_at IS NOT NULL, m.org_id, m.role
    FROM users u JOIN memberships m ON m.user_id = u.id JOIN organizations o ON o.id = m.org_id
   WHERE u.email = lower(wanted) AND o.deleted_at IS NULL
   ORDER BY m.created_at, m.org_id
$$;

CREATE FUNCTION auth_api_key(wanted_prefix text)
RETURNS TABLE (key_id uuid, org_id uuid, role text, key_hash bytea, expires_at timestamptz, last_used_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT k.id, k.org_id, k.role, k.key_hash, k.expires_at, k.last_used_at
    FROM api_keys k JOIN organizations o ON o.id = k.org_id
   WHERE k.prefix = wanted_prefix AND k.revoked_at IS NULL AND o.deleted_at IS NULL
$$;

-- Whether an access token's user may still act, and as what: asked on every request, so revocation is immediate.
CREATE FUNCTION auth_session(wanted_user uuid, wanted_org uuid, family uuid)
RETURNS TABLE (email text, name text, role text, tokens_valid_after timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT u.email, u.name, m.role, u.tokens_valid_after
    FROM users u JOIN memberships m ON m.user_id = u.id AND m.org_id = wanted_org
    JOIN organizations o ON o.id = m.org_id
   WHERE u.id = wanted_user AND u.disabled_at IS NULL AND o.deleted_at IS NULL
     AND EXISTS (SELECT 1 FROM refresh_tokens t WHERE t.family_id = family AND t.user_id = wanted_user)
     AND NOT EXISTS (SELECT 1 FROM refresh_tokens t WHERE t.family_id = family AND t.revoked_at IS NOT NULL)
$$;

REVOKE EXECUTE ON FUNCTION auth_user_by_email(text), auth_api_key(text), auth_session(uuid, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth_user_by_email(text), auth_api_key(text), auth_session(uuid, uuid, uuid) TO tocsin_api;
RESET ROLE;
-- Alembic's own table belongs to the login; everybody may see which revision this is (readiness).
GRANT SELECT ON alembic_version TO tocsin_api, tocsin_worker;
