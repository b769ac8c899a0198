"""Good requests, and the ways they go wrong: fields, bytes, framing, headers."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hostile_daemon import PROJECT, TOKEN, Hostile
from hypothesis import strategies as st

THE_PROJECT, THE_IMAGES = "<project>", "<images>"
"""Stand for a project and its images that are there: what is asked about nothing does not get far."""

OF_IMAGES = {"project_id": THE_PROJECT, "image_ids": THE_IMAGES}
GOOD: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("/search", {**OF_IMAGES, "prompt": "red, blue", "limit": 3, "threshold": 0.1, "dataset_id": 1}),
    ("/search", {**OF_IMAGES, "by_image_ids": THE_IMAGES, "exact": True, "unique_content": True}),
    ("/search", {**OF_IMAGES, "prompt": ["red"], "negative_prompt": "green", "scoring": "calibrated"}),
    ("/search", {"projectId": PROJECT, "imageIds": THE_IMAGES, "restrictedImageIds": THE_IMAGES}),
    ("/search", {"project_id": PROJECT, "negative_image_ids": THE_IMAGES, "prompt": "red"}),
    ("/diverse", {**OF_IMAGES, "sample_size": 2, "method": "coverage", "seed": 1, "dataset_id": 1}),
    ("/diverse", {"project_id": PROJECT, "limit": 2, "method": "dbscan", "selected_image_ids": THE_IMAGES}),
    ("/diverse", {"projectId": PROJECT, "uniqueItems": 2, "method": "kmeans", "numberOfClusters": 2}),
    ("/projections", OF_IMAGES),
    ("/clusters", {**OF_IMAGES, "clustering_method": "kmeans", "num_clusters": 2}),
    ("/embeddings", {**OF_IMAGES, "force": False, "dry_run": True}),
    ("/embeddings", {"image_ids": THE_IMAGES, "team_id": 1, "return_vectors": True}),
    ("/cancel_embeddings", {"project_id": THE_PROJECT}),
    ("/task_status", {"project_id": PROJECT}),
    ("/processing_progress", {"project_id": THE_PROJECT}),
    ("/embeddings_up_to_date", {"project_id": THE_PROJECT}),
    ("/projections_up_to_date", {"project_id": THE_PROJECT}),
    ("/check_background_task_status", {"task_id": THE_PROJECT}),
    ("/stop-embeddings-update/1", {}),
    ("/events", {"project_ids": [THE_PROJECT], "image_ids": THE_IMAGES}),
    ("/quarantine/retry", OF_IMAGES),
    ("/removals/confirm", OF_IMAGES),
    ("/removals/cancel", OF_IMAGES),
    ("/encoders/use", {"encoder_id": "no such encoder"}),
    ("/is_running", {}),
)
FIELDS = sorted({name for _, body in GOOD for name in body})

NUMBERS = st.integers(-3, 10) | st.sampled_from(
    [2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e308, 5e-324]
)
TEXTS = st.text(max_size=40) | st.sampled_from(
    ["", " ", ",,,", "\0", "\ud800", "x" * 600, "1" * 9, "١٢٣", "NaN", "http://[::1]/", "../../etc", PROJECT]
)  # fmt: skip
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(TEXTS, inside, max_size=3),
    max_leaves=6,
)

Spoil = Callable[[bytes], bytes]


def _deep(opening: bytes, closing: bytes) -> Spoil:
    return lambda body: b'{"project_id":' + opening * 50_000 + b"1" + closing * 50_000 + b"}"


SPOILED: tuple[Spoil, ...] = (
    lambda body: body.decode().encode("utf-16"),
    lambda body: b"\xef\xbb\xbf" + body,
    lambda body: body * 2,
    lambda body: b"[" + body + b"]",
    lambda body: body.replace(b'"', b"'"),
    lambda body: body.replace(b"1", b"1e999"),
    lambda body: body.replace(b"0", b"NaN"),
    lambda body: body[:-1] + b',"project_id":-1}',
    lambda body: b'{"image_ids":[' + b"1," * 120_000 + b'1],"project_id":1}',
    lambda body: b'{"prompt":"' + b"x" * 300_000 + b'","project_id":1}',
    _deep(b"[", b"]"),
    _deep(b'{"a":', b"}"),
)


@st.composite
def spoiled(draw: st.DrawFn) -> Spoil:
    """Draw what happens to the bytes of a body; to most of them nothing."""
    kind = draw(st.integers(0, 9))
    if kind < 5:
        return bytes
    if kind < 7:
        return draw(st.sampled_from(SPOILED))
    place, put = draw(st.floats(0, 1)), draw(st.binary(max_size=4))
    if kind == 7:
        return lambda body: body[: int(place * len(body))]
    skip = 0 if kind == 8 else len(put)

    def overwritten(body: bytes) -> bytes:
        at = int(place * len(body))
        return body[:at] + put + body[at + skip :]

    return overwritten


@dataclass(frozen=True)
class Framing:
    """How a body is sent: what the headers say of it, and what is made of it.

    :ivar hang_up: whether more is promised than comes
    """

    headers: Callable[[bytes], bytes]
    sent: Spoil = bytes
    hang_up: bool = False


def _length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n" % len(body)


def _coded(coding: bytes, sent: Spoil) -> Framing:
    return Framing(lambda body: b"Content-Encoding: %s\r\n" % coding + _length(body), sent)


PLAIN = Framing(_length)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
FRAMINGS = (
    *(PLAIN,) * 8,
    _coded(b"gzip", gzip.compress),
    _coded(b"deflate", zlib.compress),
    _coded(b"gzip", bytes),
    _coded(b"br", bytes),
    _coded(b"gzip, gzip", gzip.compress),
    _coded(b"deflate", lambda body: zlib.compress(body + b" " * 9 * 2**20)),
    Framing(lambda body: CHUNKED, lambda body: b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)),
    Framing(lambda body: CHUNKED, lambda body: b"fffffffffffffffff\r\n" + body, hang_up=True),
    Framing(lambda body: CHUNKED, lambda body: b"zz\r\n" + body, hang_up=True),
    Framing(lambda body: CHUNKED + _length(body), hang_up=True),
    Framing(lambda body: b"Content-Length: %d\r\n" % (len(body) + 9), hang_up=True),
    Framing(lambda body: b"Content-Length: %d\r\n" % (len(body) // 2)),
    Framing(lambda body: b"Content-Length: -1\r\n"),
    Framing(lambda body: _length(body) + b"Content-Length: 1\r\n"),
    Framing(lambda body: b"", hang_up=True),
)

MALFORMED = (
    b"Host: [",
    b"Host: two",
    b"Transfer-Encoding: identity",
    b"Content-Type: text/plain\r\nContent-Type: text/html",
    b"Upgrade: websocket\r\nConnection: Upgrade",
    b"Cookie: \0",
    b"no colon",
    b": no name",
    b"X-Long: " + b"x" * 9_000,
)
HEADERS = (
    *(b"Content-Type: application/json",) * 3,
    b"Content-Type: application/x-www-form-urlencoded",
    b"Content-Type: multipart/form-data; boundary=",
    b"Content-Type: application/json; charset=utf-7",
    b"X-Request-Id: " + b"x" * 8_000,
    b"X-Request-Id: \xff\xfe",
    b"x-api-key: \xf0\x9f\x98\x80",
    b"Authorization: Basic e30=",
    b"Expect: 100-continue",
    b"Expect: a miracle",
    b"Accept-Encoding: nonsense",
    b"Range: bytes=5-1",
    b"X-Forwarded-For: ,,,",
    b"Origin: null",
    b"Cookie: " + b"=" * 3_000,
    *MALFORMED,
)


@dataclass(frozen=True)
class Attack:
    """A request as it is to be sent."""

    method: str
    path: str
    body: Any
    spoil: Spoil
    framing: Framing
    headers: tuple[bytes, ...]

    @property
    def well_framed(self) -> bool:
        """Whether the server can tell what is what; otherwise it may close the connection and say nothing."""
        known = self.method == "POST" and self.framing is PLAIN
        return known and not set(MALFORMED).intersection(self.headers)

    def raw(self, daemon: Hostile) -> bytes:
        """Return its bytes."""
        plain = self.spoil(json.dumps(_meant(self.body, daemon)).encode())
        sent = self.framing.sent(plain)
        lines = b"".join(line + b"\r\n" for line in self.headers)
        path = self.path.encode("utf-8", "surrogatepass")
        return b"%s %s HTTP/1.1\r\n%s%s\r\n%s" % (
            self.method.encode(),
            path,
            lines,
            self.framing.headers(sent),
            sent,
        )


def _meant(body: Any, daemon: Hostile) -> Any:
    if isinstance(body, dict):
        return {name: _meant(value, daemon) for name, value in body.items()}
    if isinstance(body, list):
        return [_meant(value, daemon) for value in body]
    if body == THE_IMAGES:
        return daemon.ids[:3]
    return daemon.project_id if body == THE_PROJECT else body


def _name(header: bytes) -> bytes:
    return header.partition(b":")[0]


@st.composite
def attacks(draw: st.DrawFn) -> Attack:
    """Draw a good request and what is wrong with it."""
    path, good = draw(st.sampled_from(GOOD))
    changes = draw(st.dictionaries(st.sampled_from(FIELDS) | TEXTS, JUNK, max_size=2))
    body: Any = {**good, **changes}
    wrapping = draw(st.integers(0, 5))
    if wrapping == 0:
        body = {"state": body, "context": {"apiToken": TOKEN}, "server_address": draw(TEXTS)}
    elif wrapping == 1:
        body = {"state": draw(JUNK), "context": draw(JUNK), "api_token": draw(JUNK), **body}
    elif wrapping == 2:
        body = draw(JUNK)
    token = (b"Authorization: Bearer " + TOKEN.encode(),) if draw(st.integers(0, 9)) else ()
    extra = tuple(draw(st.lists(st.sampled_from(HEADERS), max_size=2, unique_by=_name)))
    method = draw(st.sampled_from(("POST",) * 14 + ("GET", "PUT", "HEAD", "OPTIONS", "TRACE", "BREW")))
    return Attack(
        method,
        path + draw(st.sampled_from(("",) * 12 + ("?project_id=%ff", "/", "//", "/%00", "?" + "a=b&" * 500))),
        body,
        draw(spoiled()),
        draw(st.sampled_from(FRAMINGS)),
        (b"Host: 127.0.0.1", *token, *extra),
    )
