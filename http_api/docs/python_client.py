"""The Python client as a wheel, under ``/developers/python``, for pip to install from.

The wheel is made of the client that is installed beside the service, so that it is always the one
that this service was tested with, however both were installed. It has the same bytes each time.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Mapping
from html import escape
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

DISTRIBUTION: Final = "wepeople-ingest-client"
PACKAGE: Final = "wepeople_ingest_client"
INDEX_PATH: Final = "/developers/python"

# As in "Binary distribution format" of the Python Packaging User Guide.
_WHEEL: Final = (
    b"Wheel-Version: 1.0\nGenerator: wepeople-ingest\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
)
_PACKAGED: Final = (".py", ".pyi", ".typed")  # nothing else that lies in a developer's folder
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # of a zip file


class PythonClient(NamedTuple):
    """The client that is installed: its code, and what pip has to know of it."""

    version: str
    metadata: str
    package: Path

    @property
    def wheel_path(self) -> str:
        """The path at which the wheel is served; pip reads name and version from it."""
        return f"{INDEX_PATH}/{PACKAGE}-{self.version}-py3-none-any.whl"

    def wheel(self) -> bytes:
        """Return the wheel."""
        information = f"{PACKAGE}-{self.version}.dist-info"
        files = {
            path.relative_to(self.package.parent).as_posix(): path.read_bytes()
            for path in sorted(self.package.rglob("*"))
            if path.suffix in _PACKAGED and path.is_file()
        }
        files[f"{information}/METADATA"] = self.metadata.encode()
        files[f"{information}/WHEEL"] = _WHEEL
        record = f"{information}/RECORD"
        files[record] = _record(files, record)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
        return content.getvalue()

    def page(self) -> bytes:
        """Return the page that links to the wheel, for ``pip install --find-links``."""
        path = self.wheel_path
        digest = hashlib.sha256(self.wheel()).hexdigest()
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head><title>Python client</title></head>\n<body>\n'
            f'<a href="{escape(path)}#sha256={digest}">{escape(path.rpartition("/")[2])}</a>\n'
            "</body>\n</html>\n"
        ).encode()


def installed_client() -> PythonClient | None:
    """Return the client that is installed in this environment; None if there is none."""
    spec = importlib.util.find_spec(PACKAGE)
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO")
    if spec is None or spec.origin is None or text is None:
        return None
    return PythonClient(distribution.version, text, Path(spec.origin).parent)


def _record(files: Mapping[str, bytes], record: str) -> bytes:
    lines = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    return "".join([*lines, f"{record},,\n"]).encode()
