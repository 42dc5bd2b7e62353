"""Access: keys and rights of callers, their request rates, their share of the process."""
