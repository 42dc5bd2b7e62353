"""The keeper of the PostgreSQL that tests share: ``fsync`` is off. It starts without site-packages.

Power does not fail meanwhile, and whatever processes have written outlives them. Copying a database
takes a third of the CPU time that it takes if each file is flushed.
"""

import sys

from service.postgres import cluster, keeper

if __name__ == "__main__":
    cluster.SETTINGS["fsync"] = "off"
    cluster.SETTINGS["max_connections"] = "1000"  # some 90 for each process that runs tests
    sys.exit(keeper.main())
