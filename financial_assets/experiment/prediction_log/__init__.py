"""The append-only prediction log in SQLite or PostgreSQL: schema, intents and results, decisions, lock, readers."""
