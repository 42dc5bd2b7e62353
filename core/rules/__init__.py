"""Rules: which requests are valid, without I/O (contract sections 2, 5, 6 and 7)."""
