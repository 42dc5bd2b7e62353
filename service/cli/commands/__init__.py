"""The commands of ``wepeople-ingest``, a module for each noun.

A command imports the modules that it needs when it runs, so that ``--help`` and the shell's
completion answer at once.
"""
