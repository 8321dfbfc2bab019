"""The messages of Envoy's external authorization, as far as they are read and written here.

Numbers and types are those of `envoy/service/auth/v3/external_auth.proto` and
`attribute_context.proto`, `envoy/config/core/v3/base.proto` and `address.proto`,
`envoy/type/v3/http_status.proto` (https://github.com/envoyproxy/envoy, Apache-2.0), of
`google/rpc/status.proto` (https://github.com/googleapis/googleapis, Apache-2.0) and of
`google/protobuf/struct.proto` and `wrappers.proto` (BSD-3-Clause).  Fields that are not named here
are skipped.  Two things are told in another way that is the same on the wire: text that a client
wrote is `bytes`, as it need not be UTF-8, and a map is a list of its entries.

They lie in a pool of their own: whatever else in the process knows these messages is not
disturbed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_PACKAGE = "authgate.ext_authz"
_SCALARS = {
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "string": FieldDescriptorProto.TYPE_STRING,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "bool": FieldDescriptorProto.TYPE_BOOL,
}
_MANY = "repeated "

_MESSAGES: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "CheckRequest": {1: ("AttributeContext", "attributes")},
    "AttributeContext": {1: ("Peer", "source"), 4: ("Request", "request")},
    "Peer": {1: ("Address", "address")},
    "Address": {1: ("SocketAddress", "socket_address")},
    "SocketAddress": {2: ("bytes", "address")},
    "Request": {2: ("HttpRequest", "http")},
    "HttpRequest": {
        2: ("bytes", "method"),
        3: ("repeated HeaderEntry", "headers"),
        4: ("bytes", "path"),
        5: ("bytes", "host"),
        6: ("bytes", "scheme"),
        12: ("bytes", "raw_body"),
        13: ("HeaderMap", "header_map"),
    },
    "HeaderEntry": {1: ("bytes", "key"), 2: ("bytes", "value")},
    "HeaderMap": {1: ("repeated HeaderValue", "headers")},
    "HeaderValue": {1: ("bytes", "key"), 2: ("bytes", "value"), 3: ("bytes", "raw_value")},
    "CheckResponse": {
        1: ("Status", "status"),
        2: ("DeniedHttpResponse", "denied_response"),
        3: ("OkHttpResponse", "ok_response"),
        4: ("Struct", "dynamic_metadata"),
    },
    "Status": {1: ("int32", "code"), 2: ("string", "message")},
    "OkHttpResponse": {
        2: ("repeated HeaderValueOption", "headers"),
        5: ("repeated bytes", "headers_to_remove"),
        6: ("repeated HeaderValueOption", "response_headers_to_add"),
    },
    "DeniedHttpResponse": {
        1: ("HttpStatus", "status"),
        2: ("repeated HeaderValueOption", "headers"),
        3: ("bytes", "body"),
    },
    "HttpStatus": {1: ("int32", "code")},
    "HeaderValueOption": {
        1: ("HeaderValue", "header"),
        2: ("BoolValue", "append"),
        3: ("int32", "append_action"),
    },
    "BoolValue": {1: ("bool", "value")},
    "Struct": {1: ("repeated StructEntry", "fields")},
    "StructEntry": {1: ("string", "key"), 2: ("Value", "value")},
    "Value": {3: ("string", "string_value")},
}


def _field(number: int, kind: str, name: str) -> FieldDescriptorProto:
    field = FieldDescriptorProto(name=name, number=number)
    many = kind.startswith(_MANY)
    field.label = (
        FieldDescriptorProto.LABEL_REPEATED if many else FieldDescriptorProto.LABEL_OPTIONAL
    )
    kind = kind.removeprefix(_MANY)
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"
    return field


def _pool() -> DescriptorPool:
    file = FileDescriptorProto(name="ext_authz.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        message.field.extend(_field(number, *field) for number, field in fields.items())
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _pool()


def _message(name: str) -> Any:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


CheckRequest = _message("CheckRequest")
CheckResponse = _message("CheckResponse")
