"""Access: who a credential speaks for, and how much that caller may send."""
