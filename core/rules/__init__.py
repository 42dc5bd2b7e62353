"""The rules of events and snapshots, without I/O (docs/contract.md sections 2, 5 and 6)."""
