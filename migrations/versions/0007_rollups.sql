-- What uptime is made of: when a monitor's health or the way it is watched changed, and what its results come to in five
-- minutes, an hour, a day. Rules: docs/reports.md; reasons: docs/decisions.
SET LOCAL ROLE tocsin_owner;

-- Changes -----------------------------------------------------------------------------------------------------------
-- Both are written by triggers, so that no writer can forget it, one of the version before neither: in the transaction of
-- the change, and only when something changes. Two tables, since each is in the order of the lock of one row; what a
-- trigger would read of the other row could be about to change.
CREATE TABLE health_changes (
  at          timestamptz NOT NULL,                    -- never before the one before; milliseconds
  no          bigint GENERATED ALWAYS AS IDENTITY,     -- the order of those of one moment
  monitor_no  integer NOT NULL,
  health      smallint NOT NULL,                       -- common.domain.health.Health, from `at` on
  PRIMARY KEY (monitor_no, at, no)
);
CREATE INDEX health_changes_at ON health_changes (at);

CREATE TABLE watch_changes (
  at          timestamptz NOT NULL,
  no          bigint GENERATED ALWAYS AS IDENTITY,
  monitor_no  integer NOT NULL,
  interval_s  integer NOT NULL,
  places      smallint NOT NULL,                       -- from how many locations
  enabled     boolean NOT NULL,
  gone        boolean NOT NULL,                        -- deleted
  PRIMARY KEY (monitor_no, at, no)
);
CREATE INDEX watch_changes_at ON watch_changes (at);

CREATE FUNCTION note_health() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
  INSERT INTO health_changes (monitor_no, health, at)
  SELECT NEW.monitor_no, NEW.health,
         greatest(date_trunc('milliseconds', CASE WHEN TG_OP = 'UPDATE' AND NEW.since IS NOT DISTINCT FROM OLD.since
                                                  THEN now() ELSE NEW.since END),
                  (SELECT max(c.at) FROM health_changes c WHERE c.monitor_no = NEW.monitor_no));
  RETURN NULL;
END $$;
CREATE TRIGGER note_first_health AFTER INSERT ON monitor_states FOR EACH ROW EXECUTE FUNCTION note_health();
CREATE TRIGGER note_health AFTER UPDATE OF health ON monitor_states FOR EACH ROW
  WHEN (OLD.health IS DISTINCT FROM NEW.health) EXECUTE FUNCTION note_health();

-- check_from is the slot of the check at once that creation, resuming and a new interval bring: from there on it counts.
CREATE FUNCTION note_watch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
  INSERT INTO watch_changes (monitor_no, interval_s, places, enabled, gone, at)
  SELECT NEW.monitor_no, NEW.interval_s, cardinality(NEW.location_ids), NEW.enabled, NEW.deleted_at IS NOT NULL,
         greatest(date_trunc('milliseconds', CASE
                    WHEN TG_OP = 'INSERT' THEN least(NEW.created_at, NEW.check_from)
                    WHEN NEW.check_from IS DISTINCT FROM OLD.check_from THEN NEW.check_from
                    ELSE now() END),
                  (SELECT max(c.at) FROM watch_changes c WHERE c.monitor_no = NEW.monitor_no));
  RETURN NULL;
END $$;
CREATE TRIGGER note_first_watch AFTER INSERT ON monitors FOR EACH ROW EXECUTE FUNCTION note_watch();
CREATE TRIGGER note_watch AFTER UPDATE OF enabled, interval_s, location_ids, deleted_at ON monitors FOR EACH ROW
  WHEN ((OLD.enabled, OLD.interval_s, OLD.location_ids, OLD.deleted_at)
        IS DISTINCT FROM (NEW.enabled, NEW.interval_s, NEW.location_ids, NEW.deleted_at))
  EXECUTE FUNCTION note_watch();

-- Of what is there already, nothing is known about the time before.
INSERT INTO health_changes (monitor_no, health, at)
SELECT s.monitor_no, s.health, date_trunc('milliseconds', now())
  FROM monitor_states s JOIN monitors m USING (monitor_no) WHERE m.deleted_at IS NULL;
INSERT INTO watch_changes (monitor_no, interval_s, places, enabled, gone, at)
SELECT m.monitor_no, m.interval_s, cardinality(m.location_ids), m.enabled, false, date_trunc('milliseconds', now())
  FROM monitors m WHERE m.deleted_at IS NULL;

-- Rollups -----------------------------------------------------------------------------------------------------------
-- A row speaks for the monitor's part of [at, at + length). In the order of time, not of monitors: rows are appended, and
-- a monitor's are found by the beginnings that a window has.
CREATE TABLE rollups_5m (
  at              timestamptz NOT NULL,
  monitor_no      integer NOT NULL,
  seen            integer NOT NULL,                    -- scheduled results that are not unknown
  well            integer NOT NULL,                    -- of these, up or degraded
  up_ms           integer,                             -- NULL is 0: most rows have one of these six
  degraded_ms     integer,
  down_ms         integer,
  unknown_ms      integer,
  paused_ms       integer,
  maintenance_ms  integer,
  latencies       bytea,                               -- common.domain.histogram, of the well ones
  PRIMARY KEY (at, monitor_no)
) PARTITION BY RANGE (at);
CREATE TABLE rollups_hour (LIKE rollups_5m INCLUDING INDEXES) PARTITION BY RANGE (at);
CREATE TABLE rollups_day (LIKE rollups_5m INCLUDING INDEXES) PARTITION BY RANGE (at);

-- Reports go through an organization's monitors in the order of their numbers, which is how the rows lie.
CREATE INDEX monitors_by_number ON monitors (org_id, monitor_no) WHERE deleted_at IS NULL;

-- How far they go: one row. Nothing is counted before `since`; `fine_from` and `kept_from`: older rows have gone.
CREATE TABLE rollup_progress (
  one        boolean PRIMARY KEY DEFAULT true CHECK (one),
  since      timestamptz NOT NULL,
  fine_from  timestamptz NOT NULL,
  kept_from  timestamptz NOT NULL,
  fine_to    timestamptz NOT NULL,
  hours_to   timestamptz NOT NULL,
  days_to    timestamptz NOT NULL
);
INSERT INTO rollup_progress (since, fine_from, kept_from, fine_to, hours_to, days_to)
SELECT s, s, s, s, date_bin('1 hour', s + interval '1 hour' - interval '1 microsecond', 'epoch'),
       date_bin('1 day', s + interval '1 day' - interval '1 microsecond', 'epoch')
  FROM date_bin('5 minutes', now(), 'epoch') AS s;

-- What a row's maker saw, to find out what came later. Kept for some days.
CREATE TABLE rollup_marks (
  level    smallint NOT NULL,                          -- common.domain.accounting_cover.Level
  at       timestamptz NOT NULL,
  results  bigint NOT NULL DEFAULT 0,                  -- scheduled ones
  changes  bigint NOT NULL DEFAULT 0,                  -- of health or watching
  stale    boolean NOT NULL DEFAULT false,             -- to be made again
  PRIMARY KEY (level, at)
);

-- Results of a stretch of time, without reading a day of them. BRIN: they are appended in the order of their slots, so
-- that it is a few pages, and costs the writers next to nothing.
--   On what is still written: building it on a month of results would hold them up for nothing.
CREATE INDEX results_by_time ON ONLY results USING brin (scheduled_at) WITH (pages_per_range = 32);
DO $$
DECLARE child text;
BEGIN
  FOR child IN
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'public.results'::regclass
       AND to_date(right(c.relname, 8), 'YYYYMMDD') >= (now() AT TIME ZONE 'UTC')::date - 1
  LOOP
    EXECUTE format('CREATE INDEX %I ON public.%I USING brin (scheduled_at) WITH (pages_per_range = 32)',
                   child || '_by_time', child);
    EXECUTE format('ALTER INDEX public.results_by_time ATTACH PARTITION public.%I', child || '_by_time');
  END LOOP;
END $$;

-- The newest pages are summarized by nobody else, and would be read every time.
CREATE FUNCTION summarize_results() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE index_of regclass;
BEGIN
  FOR index_of IN
    SELECT x.indexrelid FROM pg_inherits i JOIN pg_index x ON x.indrelid = i.inhrelid
      JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am a ON a.oid = c.relam JOIN pg_class t ON t.oid = i.inhrelid
     WHERE i.inhparent = 'public.results'::regclass AND a.amname = 'brin'
       AND to_date(right(t.relname, 8), 'YYYYMMDD') BETWEEN (now() AT TIME ZONE 'UTC')::date - 1
                                                        AND (now() AT TIME ZONE 'UTC')::date
  LOOP
    PERFORM brin_summarize_new_values(index_of);
  END LOOP;
END $$;

-- Partitions are made ahead and dropped by this function alone: a day of five minutes, a month of hours and of days. Rows
-- that the next level still needs stay.
CREATE FUNCTION keep_rollup_partitions(days_ahead integer, fine_days integer, days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
  parent text; child text; part date; changed integer := 0; p rollup_progress;
  today date := (now() AT TIME ZONE 'UTC')::date;
  fine_before date; before date;
BEGIN
  PERFORM pg_advisory_xact_lock(7305061972);
  SELECT * INTO p FROM rollup_progress;
  fine_before := least(today - fine_days, (p.hours_to AT TIME ZONE 'UTC')::date, (p.days_to AT TIME ZONE 'UTC')::date);
  before := least(today - days, (p.days_to AT TIME ZONE 'UTC')::date);
  FOREACH parent IN ARRAY ARRAY['rollups_5m', 'rollups_hour', 'rollups_day'] LOOP
    FOR part IN
      SELECT g::date FROM generate_series(
        CASE WHEN parent = 'rollups_5m' THEN least(today - 1, (p.fine_to AT TIME ZONE 'UTC')::date)
             ELSE date_trunc('month', least(today - 1, (p.fine_to AT TIME ZONE 'UTC')::date,
                                            (p.days_to AT TIME ZONE 'UTC')::date - 1)) END::timestamp,
        (today + days_ahead)::timestamp,
        CASE WHEN parent = 'rollups_5m' THEN interval '1 day' ELSE interval '1 month' END) AS g
    LOOP
      child := format('%s_%s', parent, to_char(part, 'YYYYMMDD'));
      IF to_regclass('public.' || child) IS NULL THEN
        EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)', child, parent,
                       part::text || ' 00:00+00',
                       (part + CASE WHEN parent = 'rollups_5m' THEN interval '1 day' ELSE interval '1 month' END
                       )::date::text || ' 00:00+00');
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', child);
        changed := changed + 1;
      END IF;
    END LOOP;
    FOR child IN
      SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
       WHERE i.inhparent = ('public.' || parent)::regclass
         AND CASE WHEN parent = 'rollups_5m' THEN to_date(right(c.relname, 8), 'YYYYMMDD') < fine_before
                  ELSE to_date(right(c.relname, 8), 'YYYYMMDD') + interval '1 month' <= before END
    LOOP
      EXECUTE format('DROP TABLE public.%I', child);
      changed := changed + 1;
    END LOOP;
  END LOOP;
  UPDATE rollup_progress SET
    fine_from = greatest(since, fine_from, fine_before::timestamp AT TIME ZONE 'UTC'),
    kept_from = greatest(since, kept_from, before::timestamp AT TIME ZONE 'UTC');
  RETURN changed;
END $$;
SELECT keep_rollup_partitions(2, 3650, 3650);

-- Rights ------------------------------------------------------------------------------------------------------------
DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['health_changes', 'watch_changes', 'rollups_5m', 'rollups_hour', 'rollups_day'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY owner_all ON %I TO tocsin_owner USING (true) WITH CHECK (true)', t);
    EXECUTE format('CREATE POLICY worker_all ON %I TO tocsin_worker USING (true) WITH CHECK (true)', t);
    EXECUTE format('CREATE POLICY tenant ON %I TO tocsin_api USING (
                      (SELECT m.org_id FROM monitors m WHERE m.monitor_no = %I.monitor_no) = (SELECT current_org()))',
                   t, t);
    EXECUTE format('GRANT SELECT, DELETE ON %I TO tocsin_worker', t);
  END LOOP;
END $$;
GRANT SELECT ON health_changes, watch_changes, rollup_progress TO tocsin_api;
GRANT INSERT, UPDATE ON rollups_5m, rollups_hour, rollups_day TO tocsin_worker;
GRANT SELECT, UPDATE ON rollup_progress TO tocsin_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON rollup_marks TO tocsin_worker;
REVOKE EXECUTE ON FUNCTION note_health(), note_watch(), summarize_results(),
                           keep_rollup_partitions(integer, integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION summarize_results(), keep_rollup_partitions(integer, integer, integer) TO tocsin_worker;

-- Sums of some monitors of the transaction's organization over the rows that begin at these moments. One lookup a row,
-- whatever the planner thinks; a function for the reason of summarize_monitors: it sees to the organization itself.
CREATE FUNCTION sum_rollups(ids uuid[], days timestamptz[], hours timestamptz[], fines timestamptz[], with_latencies boolean)
RETURNS TABLE (id uuid, seen bigint, up_ms bigint, degraded_ms bigint, down_ms bigint, unknown_ms bigint,
               paused_ms bigint, maintenance_ms bigint, latencies bytea[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
SET max_parallel_workers_per_gather = 0 SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
  RETURN QUERY
    SELECT m.id, coalesce(sum(r.seen), 0)::bigint, coalesce(sum(r.up_ms), 0)::bigint,
           coalesce(sum(r.degraded_ms), 0)::bigint, coalesce(sum(r.down_ms), 0)::bigint,
           coalesce(sum(r.unknown_ms), 0)::bigint, coalesce(sum(r.paused_ms), 0)::bigint,
           coalesce(sum(r.maintenance_ms), 0)::bigint,
           CASE WHEN with_latencies THEN array_agg(r.latencies) FILTER (WHERE r.latencies IS NOT NULL) END
      FROM monitors m LEFT JOIN LATERAL (
        SELECT d.* FROM unnest(days) AS t(at) JOIN rollups_day d ON d.at = t.at AND d.monitor_no = m.monitor_no
        UNION ALL
        SELECT h.* FROM unnest(hours) AS t(at) JOIN rollups_hour h ON h.at = t.at AND h.monitor_no = m.monitor_no
        UNION ALL
        SELECT f.* FROM unnest(fines) AS t(at) JOIN rollups_5m f ON f.at = t.at AND f.monitor_no = m.monitor_no
      ) r ON true
     WHERE m.id = ANY (ids) AND m.org_id = current_org()
     GROUP BY m.id;
END $$;

-- Sums of all monitors of the transaction's organization that carry these labels, by the value of one label, or together
-- (label_name NULL). Few are looked up; for many the rows are read in the order they lie, those of others too.
CREATE FUNCTION total_rollups(with_labels jsonb, label_name text, days timestamptz[], hours timestamptz[], fines timestamptz[])
RETURNS TABLE (name text, monitors bigint, up_ms bigint, degraded_ms bigint, down_ms bigint, unknown_ms bigint,
               paused_ms bigint, maintenance_ms bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
SET max_parallel_workers_per_gather = 0 SET jit = off AS $$
DECLARE
  few constant integer := 10000;
  mine constant text := '
    WITH mine AS MATERIALIZED (
      SELECT m.monitor_no, m.id, CASE WHEN $2::text IS NOT NULL THEN m.labels ->> $2 END AS name FROM monitors m
       WHERE m.org_id = $6 AND m.deleted_at IS NULL AND ($1::jsonb IS NULL OR m.labels @> $1)
         AND ($2 IS NULL OR m.labels ? $2)
    )';
  found integer;
BEGIN
  EXECUTE mine || ' SELECT count(*) FROM mine' INTO found USING with_labels, label_name, days, hours, fines, current_org();
  RETURN QUERY EXECUTE mine || ', sums AS (
      SELECT mine.name, sum(r.up_ms) AS a, sum(r.degraded_ms) AS b, sum(r.down_ms) AS c, sum(r.unknown_ms) AS d,
             sum(r.paused_ms) AS e, sum(r.maintenance_ms) AS f
        FROM mine JOIN ' || CASE WHEN found <= few THEN
          'sum_rollups((SELECT array_agg(mine.id) FROM mine), $3, $4, $5, false) r USING (id)'
        ELSE '(
          SELECT * FROM rollups_day WHERE at = ANY ($3)
          UNION ALL SELECT * FROM rollups_hour WHERE at = ANY ($4)
          UNION ALL SELECT * FROM rollups_5m WHERE at = ANY ($5)
        ) r USING (monitor_no)' END || '
       GROUP BY 1
    )
    SELECT g.name, g.n, coalesce(s.a, 0)::bigint, coalesce(s.b, 0)::bigint, coalesce(s.c, 0)::bigint,
           coalesce(s.d, 0)::bigint, coalesce(s.e, 0)::bigint, coalesce(s.f, 0)::bigint
      FROM (SELECT mine.name, count(*) AS n FROM mine GROUP BY 1) g
      LEFT JOIN sums s ON s.name IS NOT DISTINCT FROM g.name
     ORDER BY g.name'
  USING with_labels, label_name, days, hours, fines, current_org();
END $$;

-- Rows of some monitors for a series: of one level, from t0 on, in steps.
CREATE FUNCTION series_of_rollups(ids uuid[], ats timestamptz[], level integer)
RETURNS TABLE (id uuid, at timestamptz, seen integer, well integer, latencies bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
SET max_parallel_workers_per_gather = 0 SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
  RETURN QUERY
    SELECT m.id, r.at, r.seen, r.well, r.latencies
      FROM monitors m CROSS JOIN LATERAL (
        SELECT d.* FROM unnest(ats) AS t(at) JOIN rollups_day d ON d.at = t.at AND d.monitor_no = m.monitor_no
         WHERE level = 2
        UNION ALL
        SELECT h.* FROM unnest(ats) AS t(at) JOIN rollups_hour h ON h.at = t.at AND h.monitor_no = m.monitor_no
         WHERE level = 1
        UNION ALL
        SELECT f.* FROM unnest(ats) AS t(at) JOIN rollups_5m f ON f.at = t.at AND f.monitor_no = m.monitor_no
         WHERE level = 0
      ) r
     WHERE m.id = ANY (ids) AND m.org_id = current_org();
END $$;
REVOKE EXECUTE ON FUNCTION sum_rollups(uuid[], timestamptz[], timestamptz[], timestamptz[], boolean),
                           total_rollups(jsonb, text, timestamptz[], timestamptz[], timestamptz[]),
                           series_of_rollups(uuid[], timestamptz[], integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sum_rollups(uuid[], timestamptz[], timestamptz[], timestamptz[], boolean),
                          total_rollups(jsonb, text, timestamptz[], timestamptz[], timestamptz[]),
                          series_of_rollups(uuid[], timestamptz[], integer) TO tocsin_api;

RESET ROLE;
