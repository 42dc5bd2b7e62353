"""Administration: everything that operators read and change."""
