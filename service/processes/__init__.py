"""Several server processes behind the same two ports."""
