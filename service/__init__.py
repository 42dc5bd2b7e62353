"""The running service: settings, composition root, command line and embedded PostgreSQL."""

# Nothing is imported here: the keeper of the embedded PostgreSQL starts without site-packages.
