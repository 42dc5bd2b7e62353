"""Generate the messages of server and client from `proto/`, and the contract as the docs have it.

It is `make gen`, or with `--check` a part of `make check`.

protoc lays its modules out like the .proto files and imports them by that path, which would claim
a top-level package `wepeople`. The modules are moved into the packages that use them and their
imports of each other changed to match. Everything inside the descriptors stays as the contract has
it, so that reflection reports the real file and package names.

protoc leaves the comments out of its modules; those of the contract are in a module of their own,
for reflection. A module that protoc writes refuses a runtime that is older than itself. That is
right for the server, which brings its runtime. The client meets the runtime of whatever program it
is in: its modules make the same classes from the same descriptors by public functions of the
runtime alone.
"""

import argparse
import ast
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet, SourceCodeInfo

from grpc_api.contract_document import contract_document

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
CLIENT_PROTO = ROOT / "client" / "proto"
CONTRACT = "wepeople/ingest/v1"
CLIENT_OWN = "wepeople_ingest_client"
DESCRIPTORS = "descriptors.binpb"
SERVER_PACKAGE = "grpc_api.pb"
CLIENT_PACKAGE = "wepeople_ingest_client.pb"
DOCS_PACKAGE = "http_api.docs.generated"
FOLDERS = {
    SERVER_PACKAGE: ROOT / "grpc_api" / "pb",
    CLIENT_PACKAGE: ROOT / "client" / "wepeople_ingest_client" / "pb",
    DOCS_PACKAGE: ROOT / "http_api" / "docs" / "generated",
}

INIT = f'"""Generated from proto/{CONTRACT} by `make gen`. Do not edit."""\n'
CLIENT_INIT = '"""Generated from proto/ and client/proto/ by `make gen`. Do not edit."""\n'


def generate() -> dict[str, dict[str, str]]:
    """Return the generated modules, text by file name by package.

    If protoc fails, so does the process.
    """
    sources = _sources(PROTO, CONTRACT)
    if not sources:
        sys.exit(f"no .proto file in proto/{CONTRACT}")
    with tempfile.TemporaryDirectory() as folder:
        _run_protoc(folder, sources + _sources(CLIENT_PROTO, CLIENT_OWN))
        described = FileDescriptorSet.FromString(Path(folder, DESCRIPTORS).read_bytes())
        contract, own = _texts(Path(folder, CONTRACT)), _texts(Path(folder, CLIENT_OWN))
    messages = {name: text for name, text in (contract | own).items() if "_pb2_grpc." not in name}
    return {
        SERVER_PACKAGE: {"__init__.py": INIT, "comments.py": _comments(described)}
        | {name: _moved(text, SERVER_PACKAGE) for name, text in contract.items()},
        CLIENT_PACKAGE: {"__init__.py": CLIENT_INIT}
        | {name: _for_any_runtime(name, text) for name, text in messages.items()},
        DOCS_PACKAGE: {
            "grpc.json": contract_document(described, CONTRACT.replace("/", ".")),
        },
    }


def _sources(root: Path, folder: str) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.glob(f"{folder}/*.proto"))


def _run_protoc(folder: str, sources: list[str]) -> None:
    scripts = Path(sysconfig.get_path("scripts"))
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc"),
        *(f"--proto_path={PROTO}", f"--proto_path={CLIENT_PROTO}"),
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        "--include_source_info",
        f"--descriptor_set_out={Path(folder, DESCRIPTORS)}",
        f"--python_out={folder}",
        f"--mypy_out=quiet,readable_stubs:{folder}",
        f"--grpc_python_out={folder}",
        f"--mypy_grpc_out=quiet,only_async:{folder}",
        *sources,
    ]
    finished = subprocess.run(command, check=False)
    if finished.returncode:
        sys.exit(finished.returncode)


def _comments(described: FileDescriptorSet) -> str:
    """Return a module with the comments of each file of the contract, as SourceCodeInfo."""
    lines = [INIT, "COMMENTS: dict[str, bytes] = {"]
    for file in described.file:
        if file.name.startswith(CONTRACT):
            info = SourceCodeInfo(
                location=(one for one in file.source_code_info.location if one.leading_comments)
            )
            lines.append(f"    {file.name!r}: {info.SerializeToString(deterministic=True)!r},")
    return "\n".join([*lines, "}"]) + "\n"


def _moved(module: str, output_package: str) -> str:
    """Replace the packages protoc derives from the path, in imports and in `__module__`."""
    package = f"(?:{re.escape(CONTRACT.replace('/', '.'))}|{CLIENT_OWN})"
    module = re.sub(rf"(?m)^from {package} import ", f"from {output_package} import ", module)
    return re.sub(rf"\b{package}\.(\w+_pb2)\b", rf"{output_package}.\1", module)


def _for_any_runtime(name: str, text: str) -> str:
    """Return a stub moved, and in the place of a module one that any runtime can import."""
    if name.endswith(".pyi"):
        return _moved(text, CLIENT_PACKAGE)
    serialized = next(
        call.args[0]
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "AddSerializedFile"
    )
    content = ast.literal_eval(serialized)
    file = FileDescriptorProto.FromString(content)
    imports = sorted(Path(path).stem + "_pb2" for path in file.dependency)
    lines = [
        f'"""The messages of {file.name}. Generated by `make gen`. Do not edit."""',
        "",
        "from google.protobuf import descriptor_pool, message_factory",
        "# The descriptors of these come before the one that refers to them.",
        f"from google.protobuf import {', '.join(imports)}",
        "",
        f"DESCRIPTOR = descriptor_pool.Default().AddSerializedFile({content!r})",
        "",
        "_messages = DESCRIPTOR.message_types_by_name",
        *(
            f'{message.name} = message_factory.GetMessageClass(_messages["{message.name}"])'
            for message in file.message_type
        ),
    ]
    return "\n".join(lines) + "\n"


def _texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in folder.glob("*") if path.is_file()}


def main() -> None:
    """Write the generated packages, or with `--check` fail if they differ from the committed."""
    parser = argparse.ArgumentParser(prog="python -m grpc_api.generate")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if stale")
    check = parser.parse_args().check
    for package, new in generate().items():
        folder = FOLDERS[package]
        name = folder.relative_to(ROOT)
        differing = _differing(new, _texts(folder))
        if check and differing:
            sys.exit(f"{name} is stale, run `make gen`: {', '.join(differing)}")
        if check:
            print(f"{name} is up to date with proto/")
        else:
            _write(folder, new, differing)
            print(f"{name}: {', '.join(differing) or 'nothing changed'}")


def _differing(new: Mapping[str, str], old: Mapping[str, str]) -> list[str]:
    return sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))


def _write(folder: Path, new: Mapping[str, str], differing: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    for name in differing:
        if name in new:
            (folder / name).write_text(new[name], encoding="utf-8", newline="\n")
        else:
            (folder / name).unlink()


if __name__ == "__main__":
    main()
