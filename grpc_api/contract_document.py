"""The gRPC contract as data, for the reference page: what the .proto says, and the statuses.

`make gen` writes it: the HTTP API, which has the page, reads no descriptors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from core.error_codes import ErrorCode
from grpc_api.errors import GRPC_STATUS, NOT_FOUND, STREAM_STATUS

_Path = tuple[int, ...]


def contract_document(descriptors: FileDescriptorSet, package: str) -> str:
    """Return the JSON of a package's file, whose descriptor has source info."""
    (file,) = (file for file in descriptors.file if file.package == package)
    comments = {
        tuple(location.path): "\n".join(
            line.removeprefix(" ") for line in location.leading_comments.splitlines()
        ).strip()
        for location in file.source_code_info.location
    }
    document = {
        "service": f"{package}.{file.service[0].name}",
        "methods": list(_methods(file, comments)),
        "messages": [
            _message(message, (FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER, index), comments)
            for index, message in enumerate(file.message_type)
        ],
        "statuses": _statuses(),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _methods(
    file: FileDescriptorProto, comments: Mapping[_Path, str]
) -> Iterator[Mapping[str, Any]]:
    service: _Path = (FileDescriptorProto.SERVICE_FIELD_NUMBER, 0)
    for index, method in enumerate(file.service[0].method):
        yield {
            "name": method.name,
            "comment": comments[(*service, 2, index)],  # 2: ServiceDescriptorProto.method
            "request": _short(method.input_type),
            "response": _short(method.output_type),
            "is_stream": method.client_streaming,
        }


def _message(
    message: DescriptorProto, path: _Path, comments: Mapping[_Path, str]
) -> Mapping[str, Any]:
    return {
        "name": message.name,
        "comment": comments[path],
        "fields": [
            {
                "name": field.name,
                "type": _type(field),
                "comment": comments[(*path, DescriptorProto.FIELD_FIELD_NUMBER, index)],
            }
            for index, field in enumerate(message.field)
        ],
    }


def _type(field: FieldDescriptorProto) -> str:
    name = _short(field.type_name) or FieldDescriptorProto.Type.Name(field.type)
    name = name.removeprefix("TYPE_").lower() if name.startswith("TYPE_") else name
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    return f"optional {name}" if field.proto3_optional else name


def _short(type_name: str) -> str:
    """A message of the contract by its name alone, one of another file by its full name."""
    is_own = not type_name.startswith(".google.")
    return type_name.rpartition(".")[2] if is_own else type_name.removeprefix(".")


def _statuses() -> Mapping[str, Sequence[str]]:
    """The statuses of each code and stream reason; the second of two is for a passing failure."""
    statuses = {code.value: [status.name] for code, status in GRPC_STATUS.items()}
    statuses[ErrorCode.INTERNAL_ERROR.value].append("UNAVAILABLE")
    statuses |= {reason.value: [status.name] for reason, status in STREAM_STATUS.items()}
    return {**statuses, NOT_FOUND: ["UNIMPLEMENTED"]}
