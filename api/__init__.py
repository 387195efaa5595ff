"""Flask API: the way in for people and programs."""
