"""Commands that talk to an API: each module is one resource or one verb."""
