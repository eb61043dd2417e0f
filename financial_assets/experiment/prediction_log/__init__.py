"""The append-only prediction log: SQLite or PostgreSQL, its schema, lock, rows and readers."""
