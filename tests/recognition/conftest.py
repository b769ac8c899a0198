from __future__ import annotations

import pytest

from daemon import recognition


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait tenths of a second, not seconds, for one that hangs."""
    monkeypatch.setattr(recognition, "HURRY_SECONDS", 0.05)
    monkeypatch.setattr(recognition, "LAST_SECONDS", 0.1)
