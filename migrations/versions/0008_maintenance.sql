-- Maintenance windows and parents: what holds a beginning back while it lasts. Everything is added; the version before
-- goes on with it: what it finds held back, it announces when `held_until` comes.
SET LOCAL ROLE tocsin_owner;

-- Windows -----------------------------------------------------------------------------------------------------------
-- `begins_at`, `ends_at`: the occurrence that is on or comes next; NULL when none comes any more.
CREATE TABLE maintenance_windows (
  id                  uuid PRIMARY KEY,
  org_id              uuid NOT NULL REFERENCES organizations,
  name                text NOT NULL CHECK (name <> ''),
  comment             text NOT NULL DEFAULT '',
  schedule            jsonb NOT NULL,                  -- common.domain.maintenance, by its type
  monitor_ids         uuid[] NOT NULL DEFAULT '{}',    -- covers these …
  matchers            jsonb NOT NULL DEFAULT '[]',     -- … and those for which all of these hold
  until_healthy       boolean NOT NULL DEFAULT false,
  healthy_for_s       integer NOT NULL DEFAULT 60 CHECK (healthy_for_s BETWEEN 0 AND 3600),
  created_by          text NOT NULL,                   -- actor: 'user:<id>' or 'api-key:<id>'
  created_at          timestamptz NOT NULL DEFAULT now(),
  updated_at          timestamptz NOT NULL DEFAULT now(),
  deleted_at          timestamptz,
  begins_at           timestamptz,
  ends_at             timestamptz,
  planned_end         timestamptz,                     -- of the last occurrence: the next one begins later
  cover_from          timestamptz,                     -- nothing is covered before: the window was made or changed then
  covered_to          integer NOT NULL DEFAULT 0,      -- monitors up to this number are looked at for the occurrence …
  covered             boolean NOT NULL DEFAULT false,  -- … or all of them
  seen_xid            xid8 NOT NULL DEFAULT '0',       -- monitors changed since are to be looked at again (decision 3)
  UNIQUE (org_id, id),
  CHECK ((begins_at IS NULL) = (ends_at IS NULL) AND begins_at <= ends_at)
);
CREATE INDEX maintenance_windows_listed ON maintenance_windows (org_id, created_at DESC, id DESC)
  WHERE deleted_at IS NULL;
CREATE INDEX maintenance_windows_due ON maintenance_windows (begins_at) WHERE begins_at IS NOT NULL;

-- When which monitor was, is or is about to be covered: written shortly before an occurrence begins, cut when it ends
-- early. This is what notifications, states and uptime go by.
CREATE TABLE maintenance_spans (
  monitor_no  integer NOT NULL,
  window_id   uuid NOT NULL,
  org_id      uuid NOT NULL,
  begins_at   timestamptz NOT NULL,
  ends_at     timestamptz NOT NULL,
  phase       smallint NOT NULL DEFAULT 0,             -- 0 → 1 its state shows it → 2 it shows it no more
  PRIMARY KEY (monitor_no, window_id, begins_at),
  FOREIGN KEY (org_id, window_id) REFERENCES maintenance_windows (org_id, id),
  CHECK (ends_at >= begins_at)
);
CREATE INDEX maintenance_spans_open ON maintenance_spans (window_id, monitor_no) WHERE phase < 2;
CREATE INDEX maintenance_spans_beginning ON maintenance_spans (begins_at) WHERE phase = 0;
CREATE INDEX maintenance_spans_ending ON maintenance_spans (ends_at) WHERE phase = 1;
CREATE INDEX maintenance_spans_of_monitor ON maintenance_spans (monitor_no) WHERE phase < 2;
CREATE INDEX maintenance_spans_begun ON maintenance_spans (begins_at);
CREATE INDEX maintenance_spans_over ON maintenance_spans (ends_at);

-- Whether a window covers it now: hides the state below.
ALTER TABLE monitor_states ADD COLUMN maintenance boolean NOT NULL DEFAULT false;
CREATE INDEX monitor_states_maintained ON monitor_states (org_id, monitor_no) WHERE maintenance;

-- What is held back ---------------------------------------------------------------------------------------------------
-- In the ledger: notifications.silence_id is whatever holds it back, by its `reason` a silence, a window (maintenance) or
-- the incident of a parent (parent_down), and held_until when to look at it again.

-- Incidents of parents that hold something back: whoever looks whether one is over goes through these alone.
CREATE TABLE parent_holds (
  incident_id  uuid PRIMARY KEY,
  org_id       uuid NOT NULL,
  FOREIGN KEY (org_id, incident_id) REFERENCES incidents (org_id, id)
);

-- Incidents whose beginning was held back and whose timeline does not say so yet.
CREATE TABLE held_notes (
  incident_id  uuid PRIMARY KEY,
  org_id       uuid NOT NULL,
  reason       text NOT NULL,
  held_by      uuid NOT NULL,
  at           timestamptz NOT NULL,
  FOREIGN KEY (org_id, incident_id) REFERENCES incidents (org_id, id)
);

-- Reading -------------------------------------------------------------------------------------------------------------
-- As in 0004, and with the state `maintenance`.
CREATE OR REPLACE FUNCTION monitors_page(
  org uuid, words text[], with_labels jsonb, with_keys text[], types text[], states text[], in_order text,
  after_at timestamptz, after_name text, after_id uuid, page integer)
RETURNS uuid[] LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public AS $$
DECLARE
  few constant integer := 2000;        -- so many rows are read by number and sorted, or looked at in their order
  glance constant integer := 20000;    -- unknown votes are everybody's: so many are looked at
  by_terms constant text := 'monitor_terms(m.org_id, m.key, m.name, m.type, m.target, m.labels) @@ $8';
  place constant text := CASE WHEN in_order IN ('name', '-name') THEN 'lower(m.name) COLLATE "C"' ELSE 'm.created_at' END;
  down constant text := CASE WHEN in_order IN ('name', 'created_at') THEN '' ELSE ' DESC' END;
  ordered constant text := format(' ORDER BY %s%s, m.id%s ', place, down, down);
  placed constant text := format(' ORDER BY m.place%s, m.id%s ', down, down);
  rows constant text := format('SELECT m.*, %s AS place FROM monitors m', place);
  narrow constant text := format('SELECT m.id, m.monitor_no, m.enabled, %s AS place FROM monitors m', place);
  within constant text := ' m.org_id = $1 AND m.deleted_at IS NULL'
    || CASE WHEN after_id IS NULL THEN '' ELSE format(' AND (%s, m.id) %s (%s, $4)', place,
         CASE WHEN down = '' THEN '>' ELSE '<' END, CASE WHEN after_name IS NULL THEN '$2' ELSE '$3' END) END;
  exactly constant text := CASE WHEN with_labels IS NULL THEN '' ELSE ' AND (m.labels @> $5) IS TRUE' END
    || CASE WHEN with_keys IS NULL THEN '' ELSE ' AND (m.labels ?& $6) IS TRUE' END
    || CASE WHEN types IS NULL THEN '' ELSE ' AND m.type = ANY ($7)' END;
  -- Most rows are out because a word is nowhere in them, which is soon said; words hold neither % nor _.
  said constant text := CASE WHEN words IS NULL THEN '' ELSE format(
    ' AND CASE WHEN lower(concat_ws('' '', m.key, m.name, m.target)) LIKE ALL ($12) THEN %s END', by_terms) END;
  parts constant text[] := ARRAY(SELECT '%' || w || '%' FROM unnest(words) w);
  joined constant text := CASE WHEN states IS NULL THEN '' ELSE ' JOIN monitor_states s ON s.monitor_no = m.monitor_no' END;
  of_state constant text := CASE WHEN states IS NULL THEN '' ELSE
    ' AND CASE WHEN NOT m.enabled THEN ''paused'' WHEN s.maintenance THEN ''maintenance''
               WHEN (SELECT v.last_verdict FROM votes v WHERE v.monitor_no = m.monitor_no AND v.last_slot > ''epoch''
                      ORDER BY v.last_slot DESC LIMIT 1) = 0 THEN ''unknown''
               ELSE (ARRAY[''pending'', ''up'', ''degraded'', ''down''])[s.health + 1] END = ANY ($9)' END;
  terms tsquery;
  numbers integer[];
  unknowns integer[] := '{}';
  found uuid[];
BEGIN
  IF words IS NOT NULL OR with_labels IS NOT NULL OR with_keys IS NOT NULL OR types IS NOT NULL THEN
    terms := ('''=' || org || ''''
      || coalesce((SELECT string_agg(' & ''' || w || ''':*', '') FROM unnest(words) w), '')
      || coalesce((SELECT string_agg(' & ''#' || md5(k) || '''', '') FROM unnest(with_keys) k), '')
      || coalesce((SELECT string_agg(' & ''#' || md5(l.key || chr(31) || l.value) || '''', '')
                     FROM jsonb_each_text(with_labels) l), '')
      || coalesce(' & (' || (SELECT string_agg('''~' || t || '''', ' | ') FROM unnest(types) t) || ')', ''))::tsquery;
  END IF;

  IF states IS NOT NULL THEN
    SELECT array_agg(c.monitor_no) INTO numbers FROM (
      (SELECT s.monitor_no FROM monitor_states s
        WHERE s.org_id = org AND s.health <> 0 AND s.health = ANY (ARRAY(
          SELECT h.health::smallint FROM (VALUES (1, 'up'), (2, 'degraded'), (3, 'down')) AS h(health, state)
           WHERE h.state = ANY (states)))
        LIMIT few + 1)
      UNION ALL
      (SELECT s.monitor_no FROM monitor_states s
        WHERE s.org_id = org AND s.health = 0 AND NOT s.resting AND 'pending' = ANY (states) LIMIT few + 1)
      UNION ALL
      (SELECT m.monitor_no FROM monitors m
        WHERE m.org_id = org AND m.deleted_at IS NULL AND NOT m.enabled AND 'paused' = ANY (states) LIMIT few + 1)
      UNION ALL
      (SELECT s.monitor_no FROM monitor_states s
        WHERE s.org_id = org AND s.maintenance AND 'maintenance' = ANY (states) LIMIT few + 1)
    ) c;
    numbers := coalesce(numbers, '{}');
    IF 'unknown' = ANY (states) AND cardinality(numbers) <= few THEN
      SELECT coalesce(array_agg(v.monitor_no), '{}') INTO unknowns FROM (
        SELECT v.monitor_no FROM votes v WHERE v.last_verdict = 0 LIMIT glance + 1) v;
    END IF;
    IF cardinality(numbers) <= few AND cardinality(unknowns) <= glance THEN
      EXECUTE 'WITH hits AS MATERIALIZED (' || narrow || joined || ' WHERE m.monitor_no = ANY ($10) AND' || within || exactly
              || said || of_state || ') SELECT array_agg(p.id) FROM (SELECT m.id FROM hits m' || placed || 'LIMIT $11) p'
        INTO found
        USING org, after_at, after_name, after_id, with_labels, with_keys, types, terms, states, numbers || unknowns, page,
              parts;
      RETURN found;
    END IF;
  END IF;

  EXECUTE 'SELECT array_agg(p.id) FROM (SELECT m.id FROM (' || rows || ' WHERE' || within || ordered || 'LIMIT $10) m'
          || joined || ' WHERE true' || exactly || said || of_state || placed || 'LIMIT $11) p'
    INTO found
    USING org, after_at, after_name, after_id, with_labels, with_keys, types, terms, states,
          CASE WHEN terms IS NOT NULL THEN few END, page, parts;
  IF terms IS NOT NULL AND coalesce(cardinality(found), 0) < page THEN
    EXECUTE 'WITH hits AS MATERIALIZED (' || narrow || ' WHERE' || within || ' AND ' || by_terms || exactly
            || ') SELECT array_agg(p.id) FROM (SELECT m.id FROM (SELECT * FROM hits m' || placed || ') m' || joined
            || ' WHERE true' || of_state || placed || 'LIMIT $11) p'
      INTO found
      USING org, after_at, after_name, after_id, with_labels, with_keys, types, terms, states, numbers, page;
  END IF;
  RETURN found;
END $$;

-- As in 0004; what is in maintenance comes before what is paused.
CREATE OR REPLACE FUNCTION find_monitors(
  said text, with_labels jsonb, with_keys text[], types text[], states text[], in_order text,
  after_state text, after_at timestamptz, after_name text, after_id uuid, page integer)
RETURNS SETOF uuid LANGUAGE plpgsql STABLE ROWS 50
SECURITY DEFINER SET search_path = pg_catalog, public SET max_parallel_workers_per_gather = 0 SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
  org constant uuid := current_org();
  words constant text[] := CASE WHEN said IS NULL THEN NULL ELSE monitor_words(said) END;
  found uuid[] := '{}';
  one text;
  started boolean := after_state IS NULL;
BEGIN
  IF org IS NULL OR words = '{}' THEN
    RETURN;
  END IF;
  IF in_order <> 'state' THEN
    RETURN QUERY SELECT unnest(monitors_page(org, words, with_labels, with_keys, types, states, in_order, after_at,
                                             after_name, after_id, page));
    RETURN;
  END IF;
  FOREACH one IN ARRAY ARRAY['down', 'degraded', 'unknown', 'pending', 'up', 'maintenance',
                            'paused'] LOOP
    IF one = after_state THEN
      started := true;
    ELSE
      after_id := CASE WHEN NOT started THEN after_id END;
    END IF;
    IF started AND (states IS NULL OR one = ANY (states)) THEN
      found := found || monitors_page(org, words, with_labels, with_keys, types, ARRAY[one], '-created_at', after_at, NULL,
                                      after_id, page - cardinality(found));
      EXIT WHEN cardinality(found) >= page;
    END IF;
  END LOOP;
  RETURN QUERY SELECT unnest(found);
END $$;

-- As in 0005, and counts what is in maintenance.
DROP FUNCTION summarize_monitors(text, text, jsonb);
CREATE FUNCTION summarize_monitors(what text, label_name text, with_labels jsonb)
RETURNS TABLE (name text, monitors bigint, up bigint, degraded bigint, down bigint, unknown bigint, pending bigint,
               paused bigint, incidents bigint, maintenance bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
SET max_parallel_workers_per_gather = 0 SET jit = off AS $$
DECLARE
  kind constant text := CASE what
    WHEN 'severity' THEN 'k.severity' WHEN 'type' THEN 'k.type' WHEN 'state' THEN 'k.status'
    WHEN 'location' THEN 'l.name' WHEN 'label' THEN 'k.label' ELSE 'NULL::text' END;
BEGIN
  RETURN QUERY EXECUTE format($q$
    WITH mine AS MATERIALIZED (
      SELECT m.monitor_no, m.id, m.severity, m.type, m.location_ids, m.enabled, %s AS label
        FROM monitors m WHERE m.org_id = $1 AND m.deleted_at IS NULL %s
    ), blind AS (  -- whose newest check could not see
      SELECT v.monitor_no FROM mine JOIN votes v USING (monitor_no)
       WHERE v.last_verdict = 0 AND v.last_slot > 'epoch'
         AND NOT EXISTS (SELECT 1 FROM votes w WHERE w.monitor_no = v.monitor_no AND w.last_slot > v.last_slot)
    ), open AS (
      SELECT i.monitor_id, count(*) AS n FROM incidents i
       WHERE i.org_id = $1 AND i.status <> 'resolved' AND i.monitor_id IS NOT NULL GROUP BY i.monitor_id
    ), known AS (
      SELECT mine.*, coalesce(open.n, 0) AS open,
             CASE WHEN NOT mine.enabled THEN 'paused' WHEN s.maintenance THEN 'maintenance'
                  WHEN blind.monitor_no IS NOT NULL THEN 'unknown'
                  ELSE (ARRAY['pending', 'up', 'degraded', 'down', 'down'])[s.health + 1] END AS status
        FROM mine JOIN monitor_states s USING (monitor_no)
        LEFT JOIN (SELECT DISTINCT monitor_no FROM blind) blind USING (monitor_no)
        LEFT JOIN open ON open.monitor_id = mine.id
       WHERE s.org_id = $1
    )
    SELECT %s, count(*), count(*) FILTER (WHERE k.status = 'up'), count(*) FILTER (WHERE k.status = 'degraded'),
           count(*) FILTER (WHERE k.status = 'down'), count(*) FILTER (WHERE k.status = 'unknown'),
           count(*) FILTER (WHERE k.status = 'pending'), count(*) FILTER (WHERE k.status = 'paused'),
           sum(k.open)::bigint, count(*) FILTER (WHERE k.status = 'maintenance')
      FROM known k %s GROUP BY 1
     ORDER BY 5 DESC, 4 DESC, 6 DESC, 2 DESC, 1$q$,
    CASE WHEN what = 'label' THEN 'm.labels ->> $2' ELSE 'NULL::text' END,
    CASE WHEN with_labels IS NULL THEN '' ELSE 'AND m.labels @> $3' END,
    kind,
    CASE WHEN what = 'location' THEN 'JOIN locations l ON l.id = ANY (k.location_ids)' ELSE '' END)
  USING current_org(), label_name, with_labels;
END $$;
REVOKE EXECUTE ON FUNCTION summarize_monitors(text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION summarize_monitors(text, text, jsonb) TO tocsin_api;

-- Rights ------------------------------------------------------------------------------------------------------------
DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['maintenance_windows', 'maintenance_spans', 'parent_holds', 'held_notes'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY owner_all ON %I TO tocsin_owner USING (true) WITH CHECK (true)', t);
    EXECUTE format('CREATE POLICY worker_all ON %I TO tocsin_worker USING (true) WITH CHECK (true)', t);
    EXECUTE format('CREATE POLICY tenant ON %I TO tocsin_api
                    USING (org_id = (SELECT current_org())) WITH CHECK (org_id = (SELECT current_org()))', t);
  END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE ON maintenance_windows, maintenance_spans TO tocsin_api;
GRANT SELECT, UPDATE ON maintenance_windows TO tocsin_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON maintenance_spans, parent_holds, held_notes TO tocsin_worker;

RESET ROLE;
