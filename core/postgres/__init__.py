"""PostgreSQL: connections, sessions, errors, COPY, schema."""
