"""The console (docs/contract.md, section 14): pages on which operators read and change what is."""
