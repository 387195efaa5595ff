-- Incidents by hand: priority, assignment, acknowledgements that expire, search.
SET LOCAL ROLE tocsin_owner;

ALTER TABLE incidents ADD COLUMN assignee_id uuid;
ALTER TABLE incidents ADD COLUMN postmortem text NOT NULL DEFAULT '';  -- Markdown
-- Until when it is acknowledged; NULL: until it is resolved. Of an acknowledged incident only.
ALTER TABLE incidents ADD COLUMN ack_expires_at timestamptz;
-- Whoever leaves the organization is assigned to nothing there any more.
ALTER TABLE incidents ADD CONSTRAINT incidents_assignee FOREIGN KEY (org_id, assignee_id)
  REFERENCES memberships (org_id, user_id) ON DELETE SET NULL (assignee_id) NOT VALID;
ALTER TABLE incidents VALIDATE CONSTRAINT incidents_assignee;

CREATE INDEX incidents_by_assignee ON incidents (org_id, assignee_id, opened_at DESC, id DESC)
  WHERE assignee_id IS NOT NULL;
CREATE INDEX incidents_ack_expiry ON incidents (ack_expires_at)
  WHERE status = 'acknowledged' AND ack_expires_at IS NOT NULL;
-- What most pages are chosen by stands in the index itself.
CREATE INDEX incidents_found ON incidents (org_id, opened_at DESC, id DESC)
  INCLUDE (status, severity, priority, assignee_id, monitor_id);
DROP INDEX incidents_listed;
CREATE INDEX incidents_unresolved ON incidents (org_id, opened_at DESC, id DESC) WHERE status <> 'resolved';
-- By its hash: a source may be longer than an index takes.
CREATE INDEX incidents_by_source ON incidents (org_id, hashtext(source), opened_at DESC, id DESC);

-- The words of an incident, and three terms that no text can hold: its organization, so that a search reads only what is
-- the organization's own, severity and priority. Punctuation goes, so that the parser takes db-3.example.com for words
-- like any others and finds each of them.
--   The price makes the planner look into the index instead of computing it row by row.
CREATE FUNCTION incident_terms(org_id uuid, severity text, priority text, title text, description text)
RETURNS tsvector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1000 SET search_path = pg_catalog AS $$
BEGIN
  RETURN to_tsvector('simple', translate(left(title || ' ' || description, 20000),
                                         $p$!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~$p$, repeat(' ', 32)))
         || array_to_tsvector(ARRAY['=' || org_id, '=' || severity, '=' || priority]);
END $$;

-- An index on the expression, not on a stored column: adding that would rewrite a table which may be large by now. Rows
-- are matched by the index alone, so the expression is computed when an incident is written and not when it is found.
CREATE INDEX incidents_searched ON incidents USING gin (incident_terms(org_id, severity, priority, title, description))
  WITH (gin_pending_list_limit = 512);
CREATE INDEX incidents_labelled ON incidents USING gin (labels jsonb_path_ops) WITH (gin_pending_list_limit = 512);

-- A page of the organization's incidents, newest first. NULL does not filter; `words` are all there, and one more that
-- begins with `prefix`.
--   A function that may look at all rows: neither @@ nor @> is leakproof, so under the tenant policy they could not use
-- their indexes. It sees to the organization itself.
--   EXECUTE: planned for the filters that are there and the values that they have.
--   What only the inverted indexes find is looked for among the newest incidents first: where many pass, they fill the
-- page. Where few do, all of them are found by the index and then sorted; the planner would not know which it is.
CREATE FUNCTION find_incidents(
  words text, prefix text, with_labels jsonb, statuses text[], severities text[], priorities text[], of_source text,
  of_monitor uuid, of_assignee uuid, unassigned boolean, opened_from timestamptz, opened_to timestamptz,
  before_at timestamptz, before_id uuid, page integer)
RETURNS TABLE (id uuid) LANGUAGE plpgsql STABLE ROWS 50
SECURITY DEFINER SET search_path = pg_catalog, public SET max_parallel_workers_per_gather = 0 AS $$
DECLARE
  newest constant integer := 3000;
  in_order constant text := ' ORDER BY i.opened_at DESC, i.id DESC ';
  org uuid := current_org();
  terms tsquery := ('''=' || org || '''')::tsquery;
  inverted boolean := words IS NOT NULL OR with_labels IS NOT NULL OR severities IS NOT NULL OR priorities IS NOT NULL;
  within text := 'FROM incidents i WHERE i.org_id = $1 AND (i.opened_at, i.id) < ($2, $3)'
    || CASE WHEN opened_to IS NULL THEN '' ELSE ' AND i.opened_at < $4' END;
  filters text := CASE WHEN statuses IS NULL THEN '' ELSE ' AND i.status = ANY ($5)' END
    || CASE WHEN severities IS NULL THEN '' ELSE ' AND i.severity = ANY ($6)' END
    || CASE WHEN priorities IS NULL THEN '' ELSE ' AND i.priority = ANY ($7)' END
    || CASE WHEN with_labels IS NULL THEN '' WHEN words IS NULL THEN ' AND i.labels @> $8'
            ELSE ' AND (i.labels @> $8) IS TRUE' END  -- not by its index, which would have the words computed again
    || CASE WHEN of_source IS NULL THEN '' ELSE ' AND hashtext(i.source) = hashtext($9) AND i.source = $9' END
    || CASE WHEN of_monitor IS NULL THEN '' ELSE ' AND i.monitor_id = $10' END
    || CASE WHEN of_assignee IS NULL THEN '' ELSE ' AND i.assignee_id = $11' END
    || CASE WHEN unassigned IS TRUE THEN ' AND i.assignee_id IS NULL' ELSE '' END
    || CASE WHEN opened_from IS NULL THEN '' ELSE ' AND i.opened_at >= $12' END;
  by_terms constant text := ' AND incident_terms(i.org_id, i.severity, i.priority, i.title, i.description) @@ $13';
  oldest timestamptz;
  found uuid[];
BEGIN
  IF words IS NOT NULL THEN
    terms := terms && plainto_tsquery('simple', words) && to_tsquery('simple', '''' || prefix || ''':*');
    IF numnode(terms) = 1 THEN
      RETURN;  -- not a word among them
    END IF;
  END IF;
  IF inverted THEN
    EXECUTE 'SELECT i.opened_at ' || within || in_order || 'OFFSET $5 LIMIT 1' INTO oldest
      USING org, before_at, before_id, opened_to, newest;
  END IF;
  EXECUTE 'SELECT array_agg(p.id) FROM (SELECT i.id ' || within || filters
          || CASE WHEN words IS NULL THEN '' ELSE by_terms END
          || CASE WHEN oldest IS NULL THEN '' ELSE ' AND i.opened_at >= $14' END || in_order || 'LIMIT $15) p'
    INTO found
    USING org, before_at, before_id, opened_to, statuses, severities, priorities, with_labels, of_source, of_monitor,
          of_assignee, opened_from, terms, oldest, page;
  IF oldest IS NOT NULL AND coalesce(cardinality(found), 0) < page THEN
    IF severities IS NOT NULL AND (with_labels IS NULL OR words IS NOT NULL) THEN
      terms := terms && (SELECT string_agg('''=' || s || '''', ' | ') FROM unnest(severities) s)::tsquery;
    END IF;
    IF priorities IS NOT NULL AND (with_labels IS NULL OR words IS NOT NULL) THEN
      terms := terms && (SELECT string_agg('''=' || s || '''', ' | ') FROM unnest(priorities) s)::tsquery;
    END IF;
    EXECUTE 'WITH hits AS MATERIALIZED (SELECT i.id, i.opened_at ' || within || filters
            || CASE WHEN numnode(terms) = 1 THEN '' ELSE by_terms END
            || ') SELECT array_agg(p.id) FROM (SELECT i.id FROM hits i' || in_order || 'LIMIT $14) p'
      INTO found
      USING org, before_at, before_id, opened_to, statuses, severities, priorities, with_labels, of_source, of_monitor,
            of_assignee, opened_from, terms, page;
  END IF;
  RETURN QUERY SELECT unnest(found);
END $$;
REVOKE EXECUTE ON FUNCTION find_incidents(
  text, text, jsonb, text[], text[], text[], text, uuid, uuid, boolean, timestamptz, timestamptz, timestamptz, uuid,
  integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_incidents(
  text, text, jsonb, text[], text[], text[], text, uuid, uuid, boolean, timestamptz, timestamptz, timestamptz, uuid,
  integer) TO tocsin_api;

RESET ROLE;
