"""Growth: ingest, queries and the end of retention with very many events stored."""
