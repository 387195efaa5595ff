-- What pages need: which monitors changed (for the stream), counts over all monitors, series of results.
SET LOCAL ROLE tocsin_owner;

-- As monitors.changed_xid (decision 3): whoever looks reads exactly what changed since the last look. NULL until the
-- next transition, so adding it rewrites nothing. A trigger, so that writers of the version before set it too.
ALTER TABLE monitor_states ADD COLUMN changed_xid xid8;

CREATE FUNCTION monitor_states_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.changed_xid := pg_current_xact_id();
  RETURN NEW;
END $$;
CREATE TRIGGER monitor_states_touch BEFORE INSERT OR UPDATE ON monitor_states
  FOR EACH ROW EXECUTE FUNCTION monitor_states_touch();

-- By organization: a storm at one of them must not fill the page of another.
CREATE INDEX monitor_states_changed ON monitor_states (org_id, changed_xid);
CREATE INDEX monitors_changed_of ON monitors (org_id, changed_xid);

-- How many monitors of the transaction's organization are how, by group, the worst groups first; without a group
-- (what = '') one row for all. `what` is severity, type, state, location, or label with its name in `label_name`.
--   A function that may look at all rows: the tenant policy of votes would look up a monitor for every one of them. It
-- sees to the organization itself. EXECUTE: planned for the organization that asks.
--   Nothing of ours says yet that a monitor is in maintenance.
CREATE FUNCTION summarize_monitors(what text, label_name text, with_labels jsonb)
RETURNS TABLE (name text, monitors bigint, up bigint, degraded bigint, down bigint, unknown bigint, pending bigint,
               paused bigint, incidents bigint)
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
             CASE WHEN NOT mine.enabled THEN 'paused' WHEN blind.monitor_no IS NOT NULL THEN 'unknown'
                  ELSE (ARRAY['pending', 'up', 'degraded', 'down', 'down'])[s.health + 1] END AS status
        FROM mine JOIN monitor_states s USING (monitor_no)
        LEFT JOIN (SELECT DISTINCT monitor_no FROM blind) blind USING (monitor_no)
        LEFT JOIN open ON open.monitor_id = mine.id
       WHERE s.org_id = $1
    )
    SELECT %s, count(*), count(*) FILTER (WHERE k.status = 'up'), count(*) FILTER (WHERE k.status = 'degraded'),
           count(*) FILTER (WHERE k.status = 'down'), count(*) FILTER (WHERE k.status = 'unknown'),
           count(*) FILTER (WHERE k.status = 'pending'), count(*) FILTER (WHERE k.status = 'paused'),
           sum(k.open)::bigint
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

-- Scheduled results of some monitors of the transaction's organization, in steps from t0 on: how many said what, and
-- the latencies of those that reached their target. Only steps with a result are there.
--   One index range per monitor and location, whatever the planner thinks of the others; the reason for a function is
-- that of summarize_monitors.
CREATE FUNCTION series_of_results(ids uuid[], t0 timestamptz, until timestamptz, step_s integer)
RETURNS TABLE (id uuid, step integer, seen bigint, well bigint, p50 double precision, p95 double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
SET max_parallel_workers_per_gather = 0 SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
  RETURN QUERY EXECUTE $q$
    SELECT m.id, r.step, r.seen, r.well, r.p[1], r.p[2]
      FROM monitors m CROSS JOIN LATERAL (
        SELECT floor(extract(epoch FROM x.scheduled_at - $2) / $4)::integer AS step,
               count(*) FILTER (WHERE x.verdict <> '0') AS seen, count(*) FILTER (WHERE x.verdict IN ('1', '2')) AS well,
               percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY x.total_ms)
                 FILTER (WHERE x.verdict IN ('1', '2') AND x.total_ms >= 0) AS p
          FROM locations l CROSS JOIN LATERAL (
            SELECT * FROM results r WHERE r.monitor_no = m.monitor_no AND r.location = l.id
               AND r.scheduled_at >= $2 AND r.scheduled_at < $3 AND r.kind = '0') x
         GROUP BY 1) r
     WHERE m.org_id = $5 AND m.id = ANY ($1)$q$
  USING ids, t0, until, step_s, current_org();
END $$;
REVOKE EXECUTE ON FUNCTION series_of_results(uuid[], timestamptz, timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION series_of_results(uuid[], timestamptz, timestamptz, integer) TO tocsin_api;

RESET ROLE;
