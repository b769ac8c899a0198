"""What a person may set of the limits, and what holds where nobody has."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from daemon.settings import Settings
from daemon.wiring import _limits

SETTINGS = {
    "max_body_bytes": "body_bytes",
    "max_search_limit": "search_limit",
    "max_sample_size": "sample_size",
    "max_projection_points": "projection_points",
    "max_returned_vectors": "returned_vectors",
    "max_prompts": "prompts",
    "max_prompt_characters": "prompt_characters",
    "max_ids": "ids",
    "request_seconds": "request_seconds",
    "concurrent_requests": "concurrent_requests",
    "requests_per_second": "requests_per_second",
    "connections": "connections",
}


@pytest.mark.parametrize(("setting", "limit"), SETTINGS.items())
def test_a_limit_is_what_its_setting_says(setting: str, limit: str) -> None:
    usual, changed = Settings(), replace(Settings(), **{setting: 77})
    assert getattr(_limits(changed), limit) == 77
    same = {one.name for one in fields(_limits(usual))} - {limit}
    assert all(getattr(_limits(changed), one) == getattr(_limits(usual), one) for one in same)


def test_the_limits_are_those_that_are_promised() -> None:
    limits = _limits(Settings())
    assert limits.body_bytes == 8 * 2**20
    assert (limits.search_limit, limits.sample_size, limits.projection_points) == (10_000, 50_000, 50_000)
    assert (limits.returned_vectors, limits.ids, limits.request_seconds) == (1_000, 100_000, 60)
    assert (limits.prompts, limits.prompt_characters) == (16, 512)
