"""What is valid, without I/O (contract sections 2, 5 and 6)."""
