"""Settings: read once, refused by name."""

from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path

import pytest

from daemon.settings import Settings, ignored, read_settings, secrets, shown_settings
from state.errors import Misconfigured

SECRET = "correct-horse-battery"


def test_an_empty_environment_gives_the_defaults() -> None:
    assert read_settings({}) == Settings()


@pytest.mark.parametrize("value", ["", " ", "\n"])
@pytest.mark.parametrize("name", [one.name.upper() for one in fields(Settings)])
def test_empty_means_unset(name: str, value: str) -> None:
    assert read_settings({name: value, f"{name}_FILE": ""}) == Settings()


def test_values_are_read_as_their_types() -> None:
    settings = read_settings(
        {
            "IMAGES_DIR": " /pictures ",
            "PORT": "0",
            "UPDATE_INTERVAL": "2.5",
            "LOG_LEVEL": "DEBUG",
            "TRUSTED_NETWORKS": "10.0.0.7/8, fd00::/8",
            "SETTLE_SECONDS": "0",
        }
    )
    assert settings.images_dir == Path("/pictures")
    assert (settings.port, settings.update_interval, settings.settle_seconds) == (0, 2.5, 0.0)
    assert settings.log_level == "debug"
    assert settings.trusted_networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


NUMBERS = [one for one in fields(Settings) if one.type in ("int", "float")]


@pytest.mark.parametrize(
    "text", ["x", "1,5", "nan", "inf", "-inf", "-1", "0x10", "1" + "0" * 400, "٣" * 5000]
)
@pytest.mark.parametrize("name", [one.name.upper() for one in NUMBERS])
def test_what_is_no_number_in_range_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        read_settings({name: text})
    assert caught.value.setting == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "65536"),
        ("PORT", "80.5"),
        ("SYNC_CONCURRENCY", "0"),
        ("SYNC_CONCURRENCY", "65"),
        ("UPDATE_INTERVAL", "0"),
        ("UPDATE_FRAME", "1e300"),
        ("REQUEST_SECONDS", "0"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("ENCODER", "clop"),
        ("QDRANT_VECTORS_ON_DISK", "perhaps"),
        ("QDRANT_GRPC_PORT", "0"),
        ("QDRANT_QUANTIZATION", "ternary"),
        ("SOURCE", "platform"),
        ("SEARCH_IMAGE_IDS", "both"),
        ("TRUSTED_NETWORKS", "10.0.0.0/40"),
        ("TRUSTED_NETWORKS", "10.0.0.0/8,"),
        ("TRUSTED_NETWORKS", "everybody"),
        ("QDRANT_PREFIX", "../elsewhere"),
        ("QDRANT_PREFIX", "--"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        read_settings({name: text})
    assert caught.value.setting == name
    assert name in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "::ffff:127.0.0.1", "*"])
def test_beyond_loopback_nobody_listens_without_a_token(host: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        read_settings({"HOST": host})
    assert caught.value.setting == "HOST"
    assert read_settings({"HOST": host, "AUTH_TOKEN": SECRET}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert read_settings({"HOST": host}).host == host


def test_a_value_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    assert read_settings({"AUTH_TOKEN_FILE": str(file)}).auth_token == SECRET
    assert read_settings({"AUTH_TOKEN_FILE": str(file), "AUTH_TOKEN": "nearer"}).auth_token == "nearer"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Misconfigured) as caught:
        read_settings({"AUTH_TOKEN_FILE": str(file)})
    assert caught.value.setting == "AUTH_TOKEN_FILE"


@pytest.mark.parametrize(("text", "value"), [("true", True), ("Yes", True), ("1", True), ("no", False)])
def test_yes_and_no_are_read_as_people_write_them(text: str, value: bool) -> None:
    assert read_settings({"QDRANT_VECTORS_ON_DISK": text}).qdrant_vectors_on_disk is value


def test_where_clip_is_may_be_a_secret_and_is_checked_at_once() -> None:
    settings = read_settings({"CLIP_HOST": "https://app.example.com/net/0123456789abcdef0123"})
    assert "0123456789" not in f"{settings} {shown_settings(settings)}"
    assert secrets(settings) == ["0123456789abcdef0123"]
    with pytest.raises(Misconfigured, match="CLIP_HOST"):
        read_settings({"CLIP_HOST": "ftp://clip"})


def test_a_secret_is_never_shown() -> None:
    settings = read_settings({"AUTH_TOKEN": SECRET})
    assert SECRET not in repr(settings)
    assert SECRET not in str(shown_settings(settings))
    assert "set" in {value for name, value, _, _ in shown_settings(settings) if name == "AUTH_TOKEN"}


def test_every_setting_says_why_one_would_change_it() -> None:
    for one in fields(Settings):
        assert one.metadata["why"].endswith("."), one.name


def test_every_default_is_in_range() -> None:
    defaults = Settings()
    shown = {one.name.upper(): str(getattr(defaults, one.name)) for one in NUMBERS}
    assert read_settings(shown) == defaults


def test_every_token_is_a_secret_to_be_redacted() -> None:
    given = {"AUTH_TOKEN": "one", "API_TOKEN": "two", "SUPERVISELY_API_ACCESS_TOKEN": "three"}
    assert sorted(secrets(read_settings(given))) == ["one", "three", "two"]


def test_what_earlier_deployments_set_and_means_nothing_here_is_named() -> None:
    assert ignored({"GENERATOR_HOST": "http://generator", "PORT": "1"}) == ["GENERATOR_HOST"]
    assert ignored({"GENERATOR_HOST": ""}) == []
