-- Rollups of the time before there were any, and of results that are added to the past (tocsin seed): a list of what is to
-- be made, which the roller works off beside the present. The version before knows nothing of it and leaves it alone.
SET LOCAL ROLE tocsin_owner;

CREATE TABLE rollup_fills (
  level  smallint NOT NULL,                            -- common.domain.accounting_cover.Level
  at     timestamptz NOT NULL,
  PRIMARY KEY (level, at)
);

-- List all that is made of [first, last): as far as there are results, and not what is still to be made anyway. Hours and
-- days that were counted as made without their beginning are made by the roller when they are over.
CREATE FUNCTION refill_rollups(first timestamptz, last timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
  day timestamptz; begins timestamptz; ends timestamptz; p rollup_progress; added integer; total integer := 0;
  step interval;
BEGIN
  UPDATE rollup_progress SET hours_to = least(hours_to, date_bin('1 hour', fine_to, 'epoch'));
  UPDATE rollup_progress SET days_to = least(days_to, date_bin('1 day', hours_to, 'epoch')) RETURNING * INTO p;
  ends := least(last, p.fine_to);
  FOR day IN
    SELECT to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC' FROM pg_inherits i
      JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'public.results'::regclass ORDER BY 1
  LOOP
    IF EXISTS (SELECT 1 FROM results r WHERE r.scheduled_at >= day AND r.scheduled_at < least(ends, day + interval '1 day'))
    THEN
      begins := day;
      EXIT;
    END IF;
  END LOOP;
  IF begins IS NULL OR greatest(begins, first) >= ends THEN
    RETURN 0;
  END IF;
  begins := date_bin('1 day', greatest(begins, first), 'epoch');  -- the beginning of all figures moves by whole days
  FOR level IN 0..2 LOOP
    step := (ARRAY['5 minutes', '1 hour', '1 day']::interval[])[level + 1];
    INSERT INTO rollup_fills (level, at)
    SELECT level, g FROM generate_series(date_bin(step, begins, 'epoch'), ends - interval '1 microsecond', step) AS g
        ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    total := total + added;
  END LOOP;
  RETURN total;
END $$;

-- Make ready for the pieces of a day of the past: 'gone' where there are no results of it any more, 'made' where it got
-- partitions, 'bare' where its results have no index by time yet, 'ready' otherwise.
CREATE FUNCTION open_rollup_day(day date) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
  source text := format('results_%s', to_char(day, 'YYYYMMDD'));
  part date; child text; parent text; months boolean; made boolean;
BEGIN
  PERFORM pg_advisory_xact_lock(7305061972);
  IF to_regclass('public.' || source) IS NULL THEN
    RETURN 'gone';
  END IF;
  FOREACH parent IN ARRAY ARRAY['rollups_5m', 'rollups_hour', 'rollups_day'] LOOP
    months := parent <> 'rollups_5m';
    part := CASE WHEN months THEN date_trunc('month', day)::date ELSE day END;
    child := format('%s_%s', parent, to_char(part, 'YYYYMMDD'));
    IF to_regclass('public.' || child) IS NULL THEN
      EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)', child, parent,
                     part::text || ' 00:00+00',
                     (part + CASE WHEN months THEN interval '1 month' ELSE interval '1 day' END)::date::text || ' 00:00+00');
      EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', child);
      made := true;
    END IF;
  END LOOP;
  RETURN CASE WHEN made THEN 'made'
              WHEN EXISTS (SELECT 1 FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am a ON a.oid = c.relam
                            WHERE x.indrelid = ('public.' || source)::regclass AND a.amname = 'brin') THEN 'ready'
              ELSE 'bare' END;
END $$;

-- Give the newest day that is still to be made, and has none, its index by time; which one, NULL where there is none, or
-- somebody is at it. Reads a whole day of results, and keeps nobody waiting but who writes into that day, which is over:
-- no partition is made in this transaction, and the lock is none that partitions are made or dropped under.
--   Not on a day that goes within the hour: dropping it would wait for us, and everybody who reads results for that.
CREATE FUNCTION index_rollup_day(retention_days integer) RETURNS date
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
  found_day date; child text;
BEGIN
  IF NOT pg_try_advisory_xact_lock(7305061975) THEN
    RETURN NULL;
  END IF;
  SELECT d.day, d.relname INTO found_day, child FROM (
    SELECT c.oid, c.relname, to_date(right(c.relname, 8), 'YYYYMMDD') AS day
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'public.results'::regclass) d
   WHERE d.day >= ((now() + interval '1 hour') AT TIME ZONE 'UTC')::date - retention_days
     AND EXISTS (SELECT 1 FROM generate_series(0, 2) AS l JOIN rollup_fills f ON f.level = l
                  WHERE f.at >= d.day::timestamp AT TIME ZONE 'UTC' AND f.at < (d.day + 1)::timestamp AT TIME ZONE 'UTC')
     AND NOT EXISTS (SELECT 1 FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am a ON a.oid = c.relam
                      WHERE x.indrelid = d.oid AND a.amname = 'brin')
   ORDER BY d.day DESC LIMIT 1;
  IF child IS NOT NULL THEN
    EXECUTE format('CREATE INDEX %I ON public.%I USING brin (scheduled_at) WITH (pages_per_range = 32)',
                   child || '_by_time', child);
  END IF;
  RETURN found_day;
END $$;

-- As in 0007; five minutes out of which an hour of the past is being made stay.
CREATE OR REPLACE FUNCTION keep_rollup_partitions(days_ahead integer, fine_days integer, days integer) RETURNS integer
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
         AND CASE WHEN parent = 'rollups_5m' THEN
                    to_date(right(c.relname, 8), 'YYYYMMDD') < fine_before
                    AND NOT EXISTS (SELECT 1 FROM rollup_fills f WHERE f.level < 2 AND
                                     (f.at AT TIME ZONE 'UTC')::date = to_date(right(c.relname, 8), 'YYYYMMDD'))
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

-- The past of what was there before 0007 ----------------------------------------------------------------------------
-- A monitor's health before its first stored change is in its incidents. One that a person resolved left it open.
CREATE TEMP TABLE first_known ON COMMIT DROP AS
SELECT DISTINCT ON (c.monitor_no) c.monitor_no, c.at, c.no, c.health, m.org_id, m.id, m.created_at
  FROM health_changes c JOIN monitors m USING (monitor_no)
 WHERE m.deleted_at IS NULL ORDER BY c.monitor_no, c.at, c.no;
DELETE FROM first_known WHERE created_at >= at - interval '1 second';
INSERT INTO health_changes (monitor_no, health, at)
SELECT monitor_no, 1, date_trunc('milliseconds', created_at) FROM first_known
UNION ALL
SELECT f.monitor_no,
       CASE WHEN e.type = 'opened' THEN
                 CASE WHEN coalesce(e.snapshot -> 'incident' ->> 'title', i.title) LIKE '% is degraded' THEN 2 ELSE 3 END
            WHEN e.type = 'escalated' THEN 3
            WHEN e.type = 'eased' THEN 2
            ELSE CASE WHEN e.actor = 'tocsin' THEN 1 ELSE 0 END END,
       greatest(date_trunc('milliseconds', e.at), date_trunc('milliseconds', f.created_at))
  FROM first_known f JOIN incidents i ON i.org_id = f.org_id AND i.monitor_id = f.id AND i.source = 'monitor'
  JOIN incident_events e ON e.org_id = i.org_id AND e.incident_id = i.id
 WHERE e.type IN ('opened', 'escalated', 'eased', 'resolved') AND e.at < f.at
 ORDER BY 1, 3;
-- What says no more than the one before would only look like a change.
DELETE FROM health_changes c USING first_known f
 WHERE c.monitor_no = f.monitor_no AND c.at = f.at AND c.no = f.no
   AND c.health = (SELECT b.health FROM health_changes b WHERE b.monitor_no = f.monitor_no AND b.at < f.at
                    ORDER BY b.at DESC, b.no DESC LIMIT 1);
-- How it was watched is known since 0007: taken for all of its life, so that a pause of before is unknown time.
UPDATE watch_changes w SET at = date_trunc('milliseconds', m.created_at)
  FROM monitors m, (SELECT DISTINCT ON (monitor_no) monitor_no, at, no FROM watch_changes
                     ORDER BY monitor_no, at, no) f
 WHERE w.monitor_no = f.monitor_no AND w.at = f.at AND w.no = f.no AND m.monitor_no = w.monitor_no
   AND NOT w.gone AND m.created_at < w.at - interval '1 second';
SELECT refill_rollups('-infinity', (SELECT since FROM rollup_progress));

-- Rights ------------------------------------------------------------------------------------------------------------
GRANT SELECT, DELETE ON rollup_fills TO tocsin_worker;
REVOKE EXECUTE ON FUNCTION refill_rollups(timestamptz, timestamptz), open_rollup_day(date), index_rollup_day(integer)
  FROM PUBLIC;
GRANT EXECUTE ON FUNCTION open_rollup_day(date), index_rollup_day(integer) TO tocsin_worker;

RESET ROLE;
