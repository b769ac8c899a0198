from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hostile_daemon import TOKEN, Hostile, standing

sys.path.insert(0, str(Path(__file__).parents[1] / "http"))  # the small world of the handlers lives there


@pytest.fixture(params=[None, TOKEN], ids=["auth-off", "auth-on"])
def auth_token(request: pytest.FixtureRequest) -> str | None:
    token: str | None = request.param
    return token


@pytest.fixture
async def daemon(tmp_path: Path, auth_token: str | None) -> AsyncIterator[Hostile]:
    async with standing(tmp_path, auth_token) as one:
        yield one
