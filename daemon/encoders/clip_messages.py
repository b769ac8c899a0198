"""The messages a Jina gateway is sent and answers over gRPC and websocket alike.

They are protobuf, and only the fields CLIP needs are described here; a parser skips the others. Jina's
own classes for them would bring all of Jina into the process: two seconds of import, and reports of its
use to its maker.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Failure": {"name": (1, "string"), "args": (2, "string*")},
    "Status": {"code": (1, "int32"), "description": (2, "string"), "exception": (3, "Failure")},
    "Header": {"status": (2, "Status"), "exec_endpoint": (3, "string")},
    "Value": {"bool_value": (4, "bool")},
    "Parameter": {"key": (1, "string"), "value": (2, "Value")},
    "Parameters": {"fields": (1, "Parameter*")},
    "Dense": {"buffer": (1, "bytes"), "shape": (2, "uint32*"), "dtype": (3, "string")},
    "Array": {"dense": (1, "Dense")},
    "Document": {
        "id": (1, "string"),
        "blob": (2, "bytes"),
        "text": (4, "string"),
        "embedding": (16, "Array"),
    },
    "Documents": {"docs": (1, "Document*")},
    "Data": {"docs": (1, "Documents")},
    "Message": {"header": (1, "Header"), "parameters": (2, "Parameters"), "data": (4, "Data")},
}
"""Number and type of each field, as ``jina.proto`` and ``docarray.proto`` have them; ``*``: a list."""

_FLOATS = re.compile("[<>]f[248]")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answers.

    :param failure: why it could not; ``None`` when it could
    :param embeddings: id and embedding of each document; ``None`` where the service made none
    """

    failure: str | None
    embeddings: list[tuple[str, object]]


def request(key: str, values: Sequence[str] | Sequence[bytes]) -> bytes:
    """Return the message that asks for the embeddings of documents; their ids are their places.

    :param key: what the documents are: ``text``, or ``blob``
    """
    message = message_classes()["Message"](
        header={"exec_endpoint": "/"},
        parameters={"fields": [{"key": "drop_image_content", "value": {"bool_value": True}}]},
        data={"docs": {"docs": [{"id": str(place), key: value} for place, value in enumerate(values)]}},
    )
    return bytes(message.SerializeToString())


def read_answer(data: bytes) -> Answer:
    """Read the answer to a `request`.

    :raises ValueError: when it is none
    """
    message = _parsed("Message", data)
    documents = [(one.id, _array(one.embedding.dense)) for one in message.data.docs.docs]
    return Answer(_failure(message.header.status), documents)


def read_failure(data: bytes) -> str | None:
    """Return why the service is not ready, from its answer to a dry run; ``None`` when it is.

    :raises ValueError: when it is no such answer
    """
    return _failure(_parsed("Status", data))


def _parsed(name: str, data: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return message_classes()[name].FromString(data)
    except DecodeError as error:
        raise ValueError("no message of a Jina gateway") from error


def _failure(status: Any) -> str | None:
    if not status.code:
        return None
    failure = status.exception
    return f"{failure.name}: {', '.join(failure.args)}" if failure.name else status.description or "failed"


def _array(dense: Any) -> object:
    """Return the numbers of a dense array; what is none of floats is no embedding."""
    if not dense.buffer or not _FLOATS.fullmatch(dense.dtype):
        return None
    try:
        return np.frombuffer(dense.buffer, dense.dtype).reshape(dense.shape)
    except ValueError:
        return None


@cache
def message_classes() -> dict[str, Any]:
    """Return the classes of the messages; made at the first call, for a tenth of a second.

    They live in a pool of their own, since Jina's may be loaded beside them.
    """
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    file = FileDescriptorProto(name="clip.proto", package="clip", syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            one = described.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
            if kind.endswith("*"):
                one.label = FieldDescriptorProto.LABEL_REPEATED
            if (of := kind.removesuffix("*")) in _MESSAGES:
                one.type, one.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".clip.{of}"
            else:
                one.type = FieldDescriptorProto.Type.Value(f"TYPE_{of.upper()}")
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"clip.{name}")) for name in _MESSAGES}
