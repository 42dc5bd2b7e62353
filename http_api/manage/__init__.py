"""The management API (docs/contract.md, section 14): operators' tools read and change what is."""
