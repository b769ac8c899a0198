"""The Dockerfile keeps the rules a linter would hold it to, and those of this house."""

from __future__ import annotations

import re

import pytest
from dockerfile import ROOT, Stage, parsed

from daemon.settings import read_settings
from state.errors import Misconfigured

SECRET = re.compile(r"TOKEN|KEY|PASSWORD|SECRET", re.I)

BUILD_TOOLS = re.compile(r"\b(gcc|g\+\+|build-essential|make|cmake|cargo|git|curl|wget|python3?-dev)\b")

NEEDED = {"requirements/all.lock", "state", "handlers", "daemon"}


@pytest.fixture
def stages() -> list[Stage]:
    return parsed((ROOT / "Dockerfile").read_text())


@pytest.fixture
def image(stages: list[Stage]) -> Stage:
    """The stage that is run."""
    return stages[-1]


def test_every_base_is_pinned_by_a_tag_that_names_a_version(stages: list[Stage]) -> None:
    assert [one.image for one in stages if not re.fullmatch(r"[\w./-]+:\d[\w.-]*", one.image)] == []
    assert len({one.image for one in stages}) == 1, "what was built for one Python runs on that one"


def test_nothing_is_added_from_elsewhere(stages: list[Stage]) -> None:
    assert [one for stage in stages for one in stage.all("ADD")] == []
    assert [one for stage in stages for one in stage.all("RUN") if BUILD_TOOLS.search(one.text)] == []


def test_only_what_is_needed_is_copied(stages: list[Stage]) -> None:
    copied = {one.words[0] for stage in stages for one in stage.all("COPY") if "from" not in one.flags}
    assert copied == NEEDED
    assert all((ROOT / one).exists() for one in copied)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert set(allowed) == NEEDED
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_dependencies_are_those_of_the_lock_with_their_hashes(stages: list[Stage]) -> None:
    installs = [one.words for stage in stages for one in stage.all("RUN") if "install" in one.words]
    (pip,) = [words for words in installs if "pip" in words]
    assert {"--require-hashes", "--no-deps", "--no-cache-dir", "requirements/all.lock"} <= set(pip)


def test_what_runs_is_an_unprivileged_number_to_the_end(image: Stage) -> None:
    assert [one.text for one in image.all("USER")] == ["65532:65532"]
    after = image.instructions[image.instructions.index(image.last("USER")) :]
    assert [one.name for one in after if one.name in ("RUN", "COPY")] == []


def test_signals_reach_the_process_and_no_shell_is_needed(image: Stage) -> None:
    for name in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        assert image.last(name).exec_form, name
    assert image.last("STOPSIGNAL").text == "SIGTERM"
    assert image.last("ENTRYPOINT").words[0] == "/opt/embedsync/bin/python"


def test_the_health_check_is_the_program_itself(image: Stage) -> None:
    check = image.last("HEALTHCHECK")
    assert check.words == (*image.last("ENTRYPOINT").words, "health")
    assert {"interval", "timeout", "start-period", "retries"} == check.flags.keys()


def test_no_secret_is_baked_in(stages: list[Stage]) -> None:
    given = [one.text for stage in stages for name in ("ENV", "ARG") for one in stage.all(name)]
    assert [one for one in given if SECRET.search(one)] == []


def test_the_settings_baked_in_are_settings_and_the_host_asks_for_a_token(image: Stage) -> None:
    given = {**image.environment, "IMAGES_DIR": "/pictures"}
    with pytest.raises(Misconfigured, match="HOST"):
        read_settings(given)
    settings = read_settings({**given, "AUTH_TOKEN": "token"})
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)
    assert str(settings.state_dir) == "/var/lib/embedsync" == image.last("VOLUME").text


def test_the_image_says_what_it_is(image: Stage) -> None:
    labels = {word.partition("=")[0] for one in image.all("LABEL") for word in one.words}
    wanted = {"title", "description", "licenses", "revision", "base.name"}
    assert labels == {f"org.opencontainers.image.{one}" for one in wanted}
    assert f'base.name="docker.io/library/{image.image}"' in image.last("LABEL").text


def test_package_lists_are_not_left_in_the_image(image: Stage) -> None:
    (apt,) = [one.text for one in image.all("RUN") if "apt-get" in one.text]
    assert "--no-install-recommends" in apt
    assert "rm -rf /var/lib/apt/lists/*" in apt


def test_the_shared_libraries_that_the_platform_s_sdk_loads_are_there(image: Stage) -> None:
    (apt,) = [one.text for one in image.all("RUN") if "apt-get" in one.text]
    assert {"libgl1", "libglib2.0-0", "libmagic1"} <= set(apt.split())
