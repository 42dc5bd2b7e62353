"""The road to durability: queue, transaction, and a module for each noun that is stored."""
