-- Incidents past their retention are forgotten. Nothing that the version before reads or writes changes its meaning.
SET LOCAL ROLE tocsin_owner;

GRANT DELETE ON incidents, incident_events, notifications, delivery_attempts, reminders TO tocsin_worker;
GRANT SELECT ON alerts TO tocsin_worker;

RESET ROLE;
