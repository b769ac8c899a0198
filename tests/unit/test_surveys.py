"""What surveys tell."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.surveys import Surveys


@pytest.fixture
def surveys() -> Surveys:
    nobody: Any = None
    within = {7: "p/d: Permission denied"}
    return Surveys(nobody, nobody, nobody, nobody, nobody, nobody, nobody, lambda: 0.0, within.get)


def test_what_is_wrong_with_the_source_is_wrong_with_every_project(surveys: Surveys) -> None:
    surveys.problem = "the source is away"
    assert [surveys.problem_of(one) for one in (7, 8)] == ["the source is away"] * 2


def test_what_is_wrong_within_a_project_is_told_of_that_one_alone(surveys: Surveys) -> None:
    surveys.problem = None
    assert [surveys.problem_of(one) for one in (7, 8)] == ["p/d: Permission denied", None]
