"""Who may send, and how much: keys, rights, rates, memory."""
