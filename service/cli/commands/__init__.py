"""The commands of ``wepeople-ingest``, a module for each noun.

What a command needs beyond its own declaration is imported when it runs, so that ``--help`` and
the shell's completion answer at once.
"""
