"""Capacity: what an event takes, the nodes that so many a month need, and how cells spread load."""
