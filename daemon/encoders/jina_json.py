"""Jina's JSON: how documents are written down, and what may be wrong with an answer about them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from daemon.encoders.clip_documents import blobs
from state.errors import Rejected
from state.model import Pixels


def picture_request(pictures: Sequence[Pixels]) -> bytes:
    """Write a request for pictures; CPU work of about 0.4 ms each.

    :raises Rejected: when one is no RGB picture
    """
    return _request("blob", [base64.b64encode(blob).decode() for blob in blobs(pictures)])


def text_request(texts: Sequence[str]) -> bytes:
    """Write a request for texts."""
    return _request("text", texts)


def embeddings(body: bytes, count: int, said: Callable[[object], str]) -> list[object]:
    """Read an answer about `count` documents; return their embeddings, unchecked, in the order sent.

    :param said: what may be repeated of a server's words
    :raises Rejected: when the executor failed, or a document is missing, doubled or not ours
    :raises ValueError: when this is no answer of a Jina gateway
    """
    answer = parsed(body)
    if not isinstance(answer.get("header"), dict):
        raise ValueError("not an answer of a Jina gateway")
    status = _status(answer)
    if status.get("code", 0) != 0:
        raise Rejected(f"the executor failed: {said(status.get('description'))}")
    return _in_order(answer.get("data"), count)


def parsed(body: bytes) -> Mapping[str, Any]:
    """Read a JSON object.

    :raises ValueError: when it is none
    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = _with_nan(body)
    if not isinstance(answer, dict):
        raise ValueError("not a JSON object")
    return answer


def reason(body: bytes) -> object:
    """Return the reason that the body of an error gives, if any; a page of a proxy gives none."""
    if is_page(body):
        return None
    try:
        answer = parsed(body)
    except ValueError:
        return body[:1000].decode(errors="replace")
    return answer.get("detail") or _status(answer).get("description")


def is_page(body: bytes) -> bool:
    """Whether this is HTML: a proxy speaks, not the service."""
    return body.lstrip().startswith(b"<")


def _status(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what an answer says of itself; nothing when all is well."""
    header = answer.get("header")
    status = header.get("status") if isinstance(header, dict) else None
    return status if isinstance(status, dict) else {}


def _request(key: str, values: Sequence[str]) -> bytes:
    # Ids are unique within a request: doubled ones can come back without embeddings.
    documents = [{"id": str(index), key: value} for index, value in enumerate(values)]
    return orjson.dumps({"data": documents, "execEndpoint": "/", "parameters": {"drop_image_content": True}})


def _with_nan(body: bytes) -> Any:
    """Read what strict JSON forbids: a gateway that writes NaN has answered, if no vector."""
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        raise ValueError(f"no JSON, or not whole ({len(body)} bytes)") from None


def _in_order(documents: object, count: int) -> list[object]:
    if not isinstance(documents, list):
        raise Rejected("an answer without documents")
    found: dict[str, object] = {}
    for document in documents:
        name = document.get("id") if isinstance(document, dict) else None
        if not isinstance(name, str):
            raise Rejected("a document without an id was answered")
        if name in found:
            raise Rejected(f"document {name[:20]} was answered twice")
        found[name] = document.get("embedding")
    wanted = [str(index) for index in range(count)]
    if strangers := found.keys() - set(wanted):
        raise Rejected(f"{len(strangers)} documents were answered that nobody sent")
    if missing := [name for name in wanted if name not in found]:
        raise Rejected(f"no answer for document {', '.join(missing[:10])}")
    return [found[name] for name in wanted]
