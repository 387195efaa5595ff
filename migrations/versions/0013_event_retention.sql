-- Incidents past their retention are forgotten. Nothing that the version before reads or writes changes its meaning.
SET LOCAL ROLE tocsin_owner;

CREATE INDEX incidents_by_end ON incidents (resolved_at, id) WHERE resolved_at IS NOT NULL;
-- What refers to an incident, for whoever deletes it and for the foreign key's own look.
CREATE INDEX incidents_reopened ON incidents (reopened_from) WHERE reopened_from IS NOT NULL;
CREATE INDEX alerts_by_incident ON alerts (incident_id);
CREATE INDEX reminders_by_incident ON reminders (incident_id);
CREATE INDEX blind_incidents_by_incident ON blind_incidents (incident_id);

GRANT DELETE ON incidents, incident_events, notifications, delivery_attempts, reminders TO tocsin_worker;
GRANT SELECT ON alerts TO tocsin_worker;

RESET ROLE;
