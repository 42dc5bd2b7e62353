"""The home of a cluster: its sockets and its logs."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from service.postgres.embedded import EmbeddedPostgresError
from service.postgres.home import MAX_LOG_BYTES, keep_log_small, socket_folder
from tests.service.postgres.lease_holder import acquire, end, execute


def test_a_long_path_gets_its_sockets_in_a_private_folder_elsewhere(new_dir: Path) -> None:
    long = new_dir / ("a_long_name_" * 8) / "it's, a \\ path"
    folder = socket_folder(long.resolve() / "postgres")
    assert folder.parent == Path("/tmp")  # noqa: S108
    with acquire(long) as lease, acquire(long):
        assert execute(lease, "SELECT 1") == [(1,)]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.stat().st_uid == (long / "postgres").stat().st_uid
    end(long)
    assert not folder.exists()
    # The next time it might be open to everyone, or somebody else's.
    folder.mkdir()
    shutil.chown(folder, (long / "postgres").stat().st_uid)
    folder.chmod(0o777)
    with pytest.raises(EmbeddedPostgresError, match="nobody else may enter"):
        acquire(long)
    folder.rmdir()


def test_a_log_that_has_grown_is_set_aside(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("ab") as appending:
        appending.write(b"x" * (MAX_LOG_BYTES + 1))
        appending.flush()
        keep_log_small(os.fspath(log))
        appending.write(b"more")
    assert log.read_bytes() == b"more"
    assert (tmp_path / "a.log.1").stat().st_size == MAX_LOG_BYTES + 1
