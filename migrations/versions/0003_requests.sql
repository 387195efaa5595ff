-- Requests: idempotency keys, the audit log.
SET LOCAL ROLE tocsin_owner;

-- What a request with an Idempotency-Key has made. The row is written in the transaction of what it made, so both are
-- there or neither is; of two at once the second waits at the unique constraint for the first.
CREATE TABLE idempotency_keys (
  id           uuid PRIMARY KEY,
  org_id       uuid REFERENCES organizations,          -- NULL: the operator, who belongs to none
  actor        text NOT NULL,                          -- a key is the business of one user or API key
  route        text NOT NULL,                          -- method and path as requested
  key          text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 255),
  fingerprint  bytea NOT NULL CHECK (octet_length(fingerprint) = 32),  -- SHA-256 of the canonical body
  secrets      text,                                   -- the answer, encrypted: some show a secret once
  created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at   timestamptz NOT NULL,
  -- By key first: it is looked up by equality, and org_id may be NULL.
  CONSTRAINT idempotency_keys_once UNIQUE NULLS NOT DISTINCT (key, actor, route, org_id)
);
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);

-- Who changed what, when, from where. Only ever added to; retention is the scheduler's.
CREATE TABLE audit_log (
  id             uuid PRIMARY KEY,                     -- UUIDv7
  org_id         uuid NOT NULL REFERENCES organizations,
  at             timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor          text NOT NULL,
  action         text NOT NULL,                        -- the operation's id in the OpenAPI document
  resource_type  text NOT NULL,
  resource_id    text NOT NULL,
  before         jsonb,                                -- as the API shows it; NULL: it was not there
  after          jsonb,                                -- as the API shows it; NULL: it is gone
  request_id     text NOT NULL,
  address        text NOT NULL
);
CREATE INDEX audit_log_listed ON audit_log (org_id, at DESC, id DESC);
CREATE INDEX audit_log_by_resource ON audit_log (org_id, resource_id, at DESC, id DESC);
CREATE INDEX audit_log_by_actor ON audit_log (org_id, actor, at DESC, id DESC);
CREATE INDEX audit_log_by_age ON audit_log USING brin (at);

DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['idempotency_keys', 'audit_log'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY owner_all ON %I TO tocsin_owner USING (true) WITH CHECK (true)', t);
    EXECUTE format('CREATE POLICY worker_all ON %I TO tocsin_worker USING (true) WITH CHECK (true)', t);
    EXECUTE format('CREATE POLICY tenant ON %I TO tocsin_api
                    USING (org_id = (SELECT current_org())) WITH CHECK (org_id = (SELECT current_org()))', t);
  END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE ON idempotency_keys TO tocsin_api, tocsin_worker;
GRANT DELETE ON idempotency_keys TO tocsin_worker;
-- Nobody rewrites the audit log; the scheduler drops what is past its retention.
GRANT SELECT, INSERT ON audit_log TO tocsin_api, tocsin_worker;
GRANT DELETE ON audit_log TO tocsin_worker;
-- It drops refresh tokens past their time, too.
GRANT SELECT (id, expires_at), DELETE ON refresh_tokens TO tocsin_worker;

RESET ROLE;
