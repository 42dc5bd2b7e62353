"""The protocol-independent core: every rule of the ingest service and the SQL that keeps it."""
