"""Every setting, once: its type, default and unit, and why one would change it.

The only reader of the environment. Each ``X`` may come as ``X_FILE`` too, naming a file that holds the
value; an empty value means unset.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from daemon.encoders.addresses import Address, Task, parse
from handlers.auth import LOOPBACK
from state.errors import Misconfigured

Networks = tuple[IPv4Network | IPv6Network, ...]

UNUSED = ("GENERATOR_HOST",)
"""Names that deployments of earlier services set, and that mean nothing here."""


def setting(
    default: object,
    why: str,
    *,
    unit: str = "",
    least: float | None = None,
    most: float | None = None,
    secret: bool = False,
) -> Any:
    """Declare a setting; its name in the environment is the field's in capitals."""
    meta = {"why": why, "unit": unit, "least": least, "most": most}
    return field(default=default, metadata=meta, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the process was told."""

    images_dir: Path | None = setting(None, "The folder of pictures to keep embedded.")
    state_dir: Path = setting(
        Path("~/.local/state/embedsync"),
        "Where vectors and the journal live; each folder of pictures gets a directory of its own in it.",
    )
    source: Literal["auto", "folder", "supervisely"] = setting(
        "auto", "Where the pictures come from; `auto`: the platform where its address and a token are set."
    )
    server_address: str | None = setting(None, "The Supervisely platform's address, as people know it.")
    supervisely_api_server_address: str | None = setting(
        None, "The platform's API within its own network; includes `/public/api`."
    )
    api_token: str | None = setting(
        None, "The daemon's own token on the platform; an administrator's.", secret=True
    )
    supervisely_api_access_token: str | None = setting(
        None,
        "In place of `API_TOKEN`, with an internal address: what the platform gives one for.",
        secret=True,
    )
    imgproxy_address: str | None = setting(
        None, "An imgproxy that makes previews; without it the platform's own are used."
    )
    imgproxy_concurrency: int = setting(2, "Pictures fetched from the platform at once.", least=1, most=256)
    link_hosts: tuple[str, ...] = setting((), "Hosts that linked pictures may be fetched from.")
    news_seconds: float = setting(
        30.0, "How often the platform is asked for news.", unit="seconds", least=0.1, most=86_400
    )
    supervisely_net_server_address: str | None = setting(
        None, "Where the platform's apps are reached from here; without it under `SERVER_ADDRESS`."
    )
    encoder: Literal["auto", "palette", "clip", "onnx"] = setting(
        "auto",
        "What makes the vectors: CLIP as a service, a local CLIP, or `palette`, which needs no weights.",
    )
    clip_host: str | None = setting(
        None,
        "Where CLIP as Service is: URLs, or an app's task id; on the platform it is found.",
        secret=True,
    )
    clip_auth_token: str | None = setting(
        None, "What CLIP as Service wants in `Authorization`, word for word.", secret=True
    )
    clip_seconds: float = setting(60.0, "Longest a batch may take CLIP.", unit="seconds", least=1.0)
    keep_old_hours: float = setting(
        72.0,
        "How long another encoder's vectors are kept after the last project left it.",
        unit="hours",
        least=0,
    )

    host: str = setting("127.0.0.1", "Address to listen on; beyond loopback only with `AUTH_TOKEN`.")
    port: int = setting(8000, "Port to listen on; 0 takes any free one.", least=0, most=65535)
    auth_token: str | None = setting(None, "Bearer token that opens everything.", secret=True)
    trusted_networks: Networks = setting(
        LOOPBACK, "Networks that may use, without a token, the calls old clients make without one."
    )
    supervisely_server_path_prefix: str = setting("", "A path under which all routes are served as well.")
    search_image_ids: Literal["query", "scope"] = setting(
        "query", "What `image_ids` beside a prompt means in `/search`: images to search by, or to search in."
    )

    update_interval: float = setting(
        10.0,
        "How often projects are listed, and folders looked through.",
        unit="minutes",
        least=0.01,
        most=525_600,
    )
    update_frame: float = setting(
        12.0,
        "How often everything is compared whole, whatever the news said.",
        unit="hours",
        least=0.001,
        most=8_760,
    )
    sync_concurrency: int = setting(4, "Projects looked at at once.", least=1, most=64)
    fetch_concurrency: int = setting(16, "Pictures fetched or decoded at once.", least=1, most=256)
    encode_concurrency: int = setting(
        8, "Most batches at CLIP at once; fewer where more gains nothing.", least=1, most=64
    )
    encode_batch: int = setting(
        64, "Most pictures in a batch; fewer where more gains nothing.", least=1, most=1024
    )
    fetch_bytes: int = setting(
        256 * 2**20, "Most bytes of pictures on their way to the encoder.", unit="bytes", least=2**20
    )
    cpu_threads: int = setting(2, "Threads that decode, and as many that encode.", least=1, most=64)
    settle_seconds: float = setting(
        0.25, "How long a new file must rest before it counts as complete.", unit="seconds", least=0.0
    )

    max_picture_bytes: int = setting(
        100 * 2**20, "Largest file that is read as a picture.", unit="bytes", least=1
    )
    max_picture_pixels: int = setting(
        100_000_000, "Largest picture that is decoded, by its header.", unit="pixels", least=1
    )
    max_body_bytes: int = setting(8 * 2**20, "Largest request body.", unit="bytes", least=1024)
    max_search_limit: int = setting(10_000, "Largest `limit` of a search.", least=1)
    max_sample_size: int = setting(50_000, "Largest `sample_size` of a selection.", least=1)
    max_projection_points: int = setting(50_000, "Most points of a map; beyond it, a sample.", least=1)
    max_returned_vectors: int = setting(1_000, "Most images of a request with `return_vectors`.", least=1)
    max_prompts: int = setting(16, "Most prompts of a search.", least=1)
    max_prompt_characters: int = setting(512, "Longest prompt.", unit="characters", least=1)
    max_ids: int = setting(100_000, "Most ids in a request.", least=1)
    request_seconds: float = setting(60.0, "Longest a request may take.", unit="seconds", least=0.1)
    concurrent_requests: int = setting(32, "Requests answered at once; further ones get 429.", least=1)
    requests_per_second: float = setting(
        500.0,
        "Requests of one caller, after ten seconds' worth at once; further ones get 429. 0: no limit.",
        least=0,
    )
    connections: int = setting(
        1_000,
        "Connections open at once, half of them from one address; never more than half the descriptors.",
        least=2,
    )

    qdrant_host: str | None = setting(
        None,
        "A Qdrant server in place of the embedded store; its port is 6333 unless it says so.",
    )
    qdrant_api_key: str | None = setting(
        None, "The server's API key; with one that may only read, searches are served.", secret=True
    )
    qdrant_grpc_port: int | None = setting(
        None, "The server's port for gRPC; without it all goes by REST.", least=1, most=65535
    )
    qdrant_call_seconds: float = setting(30.0, "Longest a call may take.", unit="seconds", least=0.1)
    qdrant_shards: int | None = setting(None, "Shards of a new collection.", least=1)
    qdrant_replicas: int | None = setting(None, "Copies of each shard of a new collection.", least=1)
    qdrant_write_consistency: int | None = setting(
        None, "Copies that must have a write before it counts, in a new collection.", least=1
    )
    qdrant_hnsw_m: int | None = setting(None, "Neighbours of a point in a new search graph.", least=0)
    qdrant_hnsw_ef_construct: int | None = setting(
        None, "Candidates looked at while a new search graph is built.", least=4
    )
    qdrant_vectors_on_disk: bool = setting(
        False, "Whether a new collection reads its vectors from disk instead of keeping them in memory."
    )
    qdrant_payload_on_disk: bool = setting(True, "Whether a new collection keeps its proofs on disk.")
    qdrant_quantization: Literal["none", "scalar", "binary"] = setting(
        "none", "A smaller copy to search in. `scalar`: recall 0.992 with rescoring; `binary`: 0.50."
    )
    qdrant_prefix: str = setting("embedsync", "First part of the names of collections and state directories.")
    matrix_cache_bytes: int = setting(
        4 * 2**30, "Disk for the matrices that selections work on.", unit="bytes", least=2**20
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "Least severe event to log.")
    log_format: Literal["auto", "console", "json"] = setting(
        "auto", "How events are written; `auto` is `console` on a terminal, else `json`."
    )
    failpoints: str = setting("", "For tests only: places that fail on purpose, `name=action:n,…`.")

    def __post_init__(self) -> None:
        if self.on_platform:
            self._check_platform()
        elif not self.auth_token and not _is_loopback(self.host):
            raise Misconfigured("HOST", f"{self.host} is beyond loopback, which needs AUTH_TOKEN to be set")
        self.clip_places()
        if not self.qdrant_prefix.replace("_", "").replace("-", "").isalnum():
            raise Misconfigured("QDRANT_PREFIX", "only letters, digits, - and _ are allowed")

    def clip_places(self) -> tuple[Address, ...] | Task | None:
        """Return where CLIP is said to be.

        :raises Misconfigured: when that cannot be read
        """
        return parse(self.clip_host) if self.clip_host else None

    @property
    def on_platform(self) -> bool:
        """Whether the pictures come from the platform."""
        token = self.api_token or self.supervisely_api_access_token
        return self.source == "supervisely" or bool(self.source == "auto" and self.server_address and token)

    def _check_platform(self) -> None:
        if self.server_address is None:
            raise Misconfigured("SERVER_ADDRESS", "name the platform's address")
        if not (self.api_token or self.supervisely_api_access_token):
            raise Misconfigured("API_TOKEN", "the platform needs a token")


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    :raises Misconfigured: when one has a value that cannot be meant
    """
    kinds = get_type_hints(Settings)
    given: dict[str, Any] = {}
    for one in fields(Settings):
        text = _value(environment, one.name.upper())
        if text:
            given[one.name] = _parse(one.name.upper(), text, kinds[one.name], one.metadata)
    return Settings(**given)


def renewed(settings: Settings, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings with the log level and the secrets read anew; all else takes a new start.

    :raises Misconfigured: as `read_settings`
    """
    now = read_settings(environment)
    names = ["log_level", *(one.name for one in fields(Settings) if not one.repr)]
    return replace(settings, **{name: getattr(now, name) for name in names})


def secrets(settings: Settings) -> list[str]:
    """Return the values that must never be written anywhere; of where CLIP is, what may be a token."""
    values = [getattr(settings, one.name) for one in fields(settings) if not one.repr]
    places = settings.clip_places()
    tokens = [secret for place in places for secret in place.secrets] if isinstance(places, tuple) else []
    return [value for value in (*values, *tokens) if value and value != settings.clip_host]


def ignored(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names that are set and mean nothing here."""
    return [name for name in UNUSED if _value(environment, name)]


def shown_settings(settings: Settings) -> list[tuple[str, str, str, str]]:
    """Return name, value, unit and purpose of every setting; secrets are hidden."""
    return [
        (
            one.name.upper(),
            _shown(getattr(settings, one.name)) if one.repr else "set" * bool(getattr(settings, one.name)),
            one.metadata["unit"],
            one.metadata["why"],
        )
        for one in fields(settings)
    ]


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _value(environment: Mapping[str, str], name: str) -> str:
    value, file = environment.get(name, ""), environment.get(f"{name}_FILE", "")
    if value or not file:
        return value.strip()
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{name}_FILE", f"{file} cannot be read: {error}") from error


def _parse(name: str, text: str, kind: Any, meta: Mapping[str, Any]) -> object:
    choices = get_args(kind)
    if choices and isinstance(choices[0], str):
        if text.lower() not in choices:
            raise Misconfigured(name, f"{text!r} is none of {', '.join(choices)}")
        return text.lower()
    try:
        if kind is bool:
            return _yes_or_no(text)
        if number := {int, float}.intersection((kind, *choices)):
            return _in_range(name, number.pop()(text), meta)
        if Path in (kind, *choices):
            return Path(text)
        if kind == tuple[str, ...]:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if kind == Networks:
            return tuple(ip_network(part.strip(), strict=False) for part in text.split(","))
    except (ValueError, OverflowError) as error:
        raise Misconfigured(name, f"{text!r} cannot be read: {error}") from error
    return text


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise ValueError("say `true` or `false`")
    return text.lower() in ("true", "yes", "1")


def _in_range(name: str, number: float, meta: Mapping[str, Any]) -> float:
    least, most = meta["least"], meta["most"]
    if not isfinite(number) or not (least is None or number >= least) or not (most is None or number <= most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise Misconfigured(name, f"{number} must be {bounds} {meta['unit']}".rstrip())
    return number


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
