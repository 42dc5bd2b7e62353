"""Generate `grpc_api.pb` from `proto/`: `make gen`, or `make check` with `--check`.

protoc lays its modules out like the .proto files and imports them by that path, which would claim
a top-level package `wepeople`. The modules are moved into `grpc_api.pb` and their imports of each
other changed to match. Everything inside the descriptors stays as the contract has it, so that
reflection reports the real file and package names.
"""

import argparse
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
CONTRACT = "wepeople/ingest/v1"
OUTPUT = ROOT / "grpc_api" / "pb"
OUTPUT_PACKAGE = "grpc_api.pb"

INIT = f'"""Generated from proto/{CONTRACT} by `make gen`. Do not edit."""\n'


def generate() -> dict[str, str]:
    """Return the generated modules, text by file name. If protoc fails, so does the process."""
    sources = sorted(
        path.relative_to(PROTO).as_posix() for path in PROTO.glob(f"{CONTRACT}/*.proto")
    )
    if not sources:
        sys.exit(f"no .proto file in proto/{CONTRACT}")
    scripts = Path(sysconfig.get_path("scripts"))
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}"),
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--python_out={folder}",
            f"--mypy_out=quiet,readable_stubs:{folder}",
            f"--grpc_python_out={folder}",
            f"--mypy_grpc_out=quiet,only_async:{folder}",
            *sources,
        ]
        finished = subprocess.run(command, check=False)
        if finished.returncode:
            sys.exit(finished.returncode)
        modules = _texts(Path(folder, CONTRACT))
    return {"__init__.py": INIT} | {name: _moved(text) for name, text in modules.items()}


def _moved(module: str) -> str:
    """Replace the package protoc derives from the path, in imports and in `__module__`."""
    package = re.escape(CONTRACT.replace("/", "."))
    module = re.sub(rf"(?m)^from {package} import ", f"from {OUTPUT_PACKAGE} import ", module)
    return re.sub(rf"\b{package}\.(\w+_pb2)\b", rf"{OUTPUT_PACKAGE}.\1", module)


def _texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in folder.glob("*") if path.is_file()}


def main() -> None:
    """Write the generated package, or with `--check` fail if it differs from the committed one."""
    parser = argparse.ArgumentParser(prog="python -m grpc_api.generate")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if stale")
    check = parser.parse_args().check
    new, old = generate(), _texts(OUTPUT)
    differing = sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))
    if check:
        if differing:
            sys.exit(f"grpc_api/pb is stale, run `make gen`: {', '.join(differing)}")
        print("grpc_api/pb is up to date with proto/")
        return
    OUTPUT.mkdir(exist_ok=True)
    for name in differing:
        if name in new:
            (OUTPUT / name).write_text(new[name], encoding="utf-8", newline="\n")
        else:
            (OUTPUT / name).unlink()
    print(f"grpc_api/pb: {', '.join(differing) or 'nothing changed'}")


if __name__ == "__main__":
    main()
