"""The compose files are whole, contained, and reach the daemon under both of its names."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from dockerfile import ROOT, parsed

from daemon.service import BATCH_GRACE, REQUEST_GRACE
from daemon.settings import read_settings, shown_settings

NAMES = {"embeddings-generator", "embeddings-auto-updater"}

NOT_SECRETS = re.compile(r"\$\{[A-Z_]+(:[?-][^}]*)?\}")


class Loader(yaml.SafeLoader):
    """Reads what Compose reads: `!override` replaces a list instead of adding to it."""


Loader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node, deep=True))


def read(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((ROOT / name).read_text(), Loader)
    return loaded


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge as Compose does, as far as these files need it."""
    result = dict(base)
    for key, value in over.items():
        deep = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], value) if deep else value
    return result


@pytest.fixture(params=["compose.yaml", "compose.platform.yaml"])
def compose(request: pytest.FixtureRequest) -> dict[str, Any]:
    base = read("compose.yaml")
    return base if request.param == "compose.yaml" else merged(base, read(request.param))


def at_work(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in compose["services"].items() if "profiles" not in one}


def test_every_image_is_pinned_and_every_service_contained(compose: dict[str, Any]) -> None:
    for name, one in compose["services"].items():
        assert re.fullmatch(r"[\w./-]+:(v?\d[\w.-]*|local)", one["image"]), name
        assert one["read_only"] is True, name
        assert one["cap_drop"] == ["ALL"], name
        assert "cap_add" not in one, name
        assert "no-new-privileges:true" in one["security_opt"], name
        assert one["stop_grace_period"] == "60s", name
        assert {"test", "interval", "timeout", "start_period", "retries"} <= one["healthcheck"].keys(), name
        assert one["healthcheck"]["test"][0] == "CMD", name
        assert "privileged" not in one, name


def test_nothing_is_published_beyond_loopback(compose: dict[str, Any]) -> None:
    published = [port for one in compose["services"].values() for port in one.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_what_a_service_mounts_needs_or_joins_is_declared(compose: dict[str, Any]) -> None:
    services = at_work(compose)
    for one in services.values():
        assert set(one.get("secrets", ())) <= compose["secrets"].keys()
        assert set(one.get("depends_on", ())) <= services.keys()
        assert set(one.get("networks", ())) <= {"default", *compose.get("networks", {})}
        named = [volume.split(":")[0] for volume in one.get("volumes", ()) if volume[0].isalpha()]
        assert set(named) <= compose["volumes"].keys()


def test_the_daemon_has_more_time_to_stop_than_its_drain_takes(compose: dict[str, Any]) -> None:
    grace = float(compose["services"]["embedsync"]["stop_grace_period"].removesuffix("s"))
    assert grace > REQUEST_GRACE + BATCH_GRACE


def test_the_daemon_is_given_settings_that_exist_and_no_secret_in_the_open(compose: dict[str, Any]) -> None:
    given = compose["services"]["embedsync"]["environment"]
    known = {name for name, *_ in shown_settings(read_settings({}))}
    assert {name.removesuffix("_FILE") for name in given} <= known
    secret = {name for name in given if re.search("TOKEN|KEY", name)}
    assert all(name.endswith("_FILE") and given[name].startswith("/run/secrets/") for name in secret)


def test_what_the_daemon_is_given_lets_it_start(compose: dict[str, Any]) -> None:
    given = {
        name.removesuffix("_FILE"): "token" if name.endswith("_FILE") else NOT_SECRETS.sub("", value)
        for name, value in compose["services"]["embedsync"]["environment"].items()
    }
    if "SERVER_ADDRESS" in given:
        given["SERVER_ADDRESS"] = "https://app.example.com"
    settings = read_settings(given)
    assert settings.on_platform == ("SERVER_ADDRESS" in given)
    assert settings.host == "0.0.0.0"
    assert settings.qdrant_host == "http://qdrant:6333"
    (inside,) = [port.rpartition(":")[2] for port in compose["services"]["embedsync"]["ports"]]
    assert str(settings.port) == inside


def test_the_health_check_is_the_image_s_own(compose: dict[str, Any]) -> None:
    (check,) = parsed((ROOT / "Dockerfile").read_text())[-1].all("HEALTHCHECK")
    assert tuple(compose["services"]["embedsync"]["healthcheck"]["test"]) == ("CMD", *check.words)


def test_on_the_platform_the_daemon_is_reached_under_both_names_at_port_80() -> None:
    services = at_work(merged(read("compose.yaml"), read("compose.platform.yaml")))
    labelled = {one["labels"]["proxy.app"]: one for one in services.values() if "labels" in one}
    assert labelled.keys() == NAMES
    assert all("platform" in one["networks"] for one in labelled.values())
    assert labelled["embeddings-generator"]["environment"]["PORT"] == "80"
    listens, connects = labelled["embeddings-auto-updater"]["command"]
    assert listens.startswith("tcp-listen:80,")
    assert connects == "tcp-connect:embedsync:80"
