"""The tests."""

import os

# Some tests start a process as another user, which forks, and gRPC's handlers of a fork can crash
# such a child while another thread calls into gRPC. Nobody here forks to go on with gRPC. It is
# read when gRPC is imported, so it stands before every such import.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
