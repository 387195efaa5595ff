-- Monitors in bulk: what a list is filtered and sorted by, and what the last apply wrote.
SET LOCAL ROLE tocsin_owner;

-- The config_version that the last apply left; another one now: somebody changed it by hand since. NULL: never applied.
ALTER TABLE monitors ADD COLUMN applied_version integer;
-- Paused or deleted. A hint for the index of pending monitors, which these would fill: the version before does not set it.
ALTER TABLE monitor_states ADD COLUMN resting boolean NOT NULL DEFAULT false;

UPDATE monitor_states s SET resting = true FROM monitors m
 WHERE m.monitor_no = s.monitor_no AND (m.deleted_at IS NOT NULL OR NOT m.enabled);
-- -1: no result yet. 0 is a result, the unknown verdict.
UPDATE votes SET last_verdict = -1 WHERE last_slot = 'epoch' AND last_verdict = 0;

-- That an apply has noted its version changes nothing about the monitor: neither schedulers nor people are to see it.
CREATE OR REPLACE FUNCTION monitors_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.applied_version IS DISTINCT FROM OLD.applied_version AND NEW.config_version = OLD.config_version THEN
    RETURN NEW;
  END IF;
  NEW.changed_xid := pg_current_xact_id();
  NEW.updated_at := now();
  RETURN NEW;
END $$;

CREATE INDEX monitors_by_name ON monitors (org_id, lower(name) COLLATE "C", id) WHERE deleted_at IS NULL;
CREATE INDEX monitors_paused ON monitors (org_id, monitor_no) WHERE deleted_at IS NULL AND NOT enabled;
CREATE INDEX monitors_drifted ON monitors (org_id, id)
  WHERE applied_version IS NOT NULL AND applied_version <> config_version AND deleted_at IS NULL;
-- These change with a transition, not with a check: updates of the hot rows stay HOT.
CREATE INDEX monitor_states_by_health ON monitor_states (org_id, health, monitor_no) WHERE health <> 0;
CREATE INDEX monitor_states_pending ON monitor_states (org_id, monitor_no) WHERE health = 0 AND NOT resting;
CREATE INDEX votes_unknown ON votes (monitor_no) WHERE last_verdict = 0;

-- The words of a text: what stands between spaces and ASCII punctuation, in lower case, cut to what an index takes.
CREATE FUNCTION monitor_words(said text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog AS $$
  SELECT coalesce(array_agg(DISTINCT left(w, 100)), '{}')
    FROM unnest(string_to_array(translate(lower(said), E'\t\n\r!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', repeat(' ', 35)),
                                ' ')) AS w
   WHERE w <> ''
$$;

-- All that a monitor is found by: its words, and terms that no word can be, since they begin with punctuation: its
-- organization, so that a search reads only what is the organization's own; its type; the keys of its labels; its labels.
--   The price makes the planner look into the index instead of computing it row by row.
CREATE FUNCTION monitor_terms(org_id uuid, key text, name text, type text, target text, labels jsonb)
RETURNS tsvector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1000 SET search_path = pg_catalog, public AS $$
BEGIN
  RETURN array_to_tsvector(
    monitor_words(coalesce(key, '') || ' ' || name || ' ' || target)
    || ARRAY['=' || org_id, '~' || type]
    || ARRAY(SELECT '#' || md5(l.key) FROM jsonb_object_keys(labels) AS l(key))
    || ARRAY(SELECT '#' || md5(l.key || chr(31) || l.value) FROM jsonb_each_text(labels) AS l));
END $$;

-- An index on the expression, not on a stored column: adding that would rewrite the table.
CREATE INDEX monitors_found ON monitors USING gin (monitor_terms(org_id, key, name, type, target, labels))
  WITH (gin_pending_list_limit = 512) WHERE deleted_at IS NULL;

-- A page of the organization's monitors in one order; NULL does not filter. Only find_monitors calls it.
--   EXECUTE: planned for the filters that are there. Each way through is one that the planner cannot leave:
--   where few monitors have the states that are asked for, these are read; otherwise the list is walked in its order.
--   What only the inverted index finds is looked for at the beginning of the walk first: where many pass, they fill the
-- page. Where few do, all of them are found by the index and then sorted.
CREATE FUNCTION monitors_page(
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
    ' AND CASE WHEN NOT m.enabled THEN ''paused''
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

-- A page of the organization's monitors: 'created_at', '-created_at', 'name', '-name', or 'state': the worst first, within a
-- state the newest. `said`: each of its words begins a word of key, name or target. What comes after the row (after_state,
-- after_at, after_name, after_id), NULL from the beginning.
--   A function that may look at all rows: neither @@ nor @> is leakproof, so under the tenant policy they could not use
-- their index. It sees to the organization itself.
CREATE FUNCTION find_monitors(
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
  FOREACH one IN ARRAY ARRAY['down', 'degraded', 'unknown', 'pending', 'up', 'paused'] LOOP
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

REVOKE EXECUTE ON FUNCTION monitors_page(
  uuid, text[], jsonb, text[], text[], text[], text, timestamptz, text, uuid, integer) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION find_monitors(
  text, jsonb, text[], text[], text[], text, text, timestamptz, text, uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_monitors(
  text, jsonb, text[], text[], text[], text, text, timestamptz, text, uuid, integer) TO tocsin_api;

RESET ROLE;
