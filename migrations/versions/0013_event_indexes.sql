-- Incidents past their retention, and what refers to an incident: for whoever deletes it, and for the foreign key's own
-- look. Built while the version before writes.
CREATE INDEX CONCURRENTLY IF NOT EXISTS incidents_by_end ON incidents (resolved_at, id) WHERE resolved_at IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS incidents_reopened ON incidents (reopened_from) WHERE reopened_from IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS alerts_by_incident ON alerts (incident_id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS reminders_by_incident ON reminders (incident_id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS blind_incidents_by_incident ON blind_incidents (incident_id);
