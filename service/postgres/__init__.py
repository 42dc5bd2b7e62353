"""The embedded PostgreSQL, and the database that the settings name."""
