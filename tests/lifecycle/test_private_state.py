"""What is kept is for nobody else to read, or to put something else in its place."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from pathlib import Path

from folder_daemon import paint


async def test_nobody_else_may_read_or_change_what_is_kept_whatever_the_shell_allows(tmp_path: Path) -> None:
    paint(tmp_path / "pictures" / "pets", range(3))
    state = tmp_path / "deep" / "state"
    settings = {"IMAGES_DIR": str(tmp_path / "pictures"), "STATE_DIR": str(state), "ENCODER": "palette"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "daemon", "sync"),
        env={**os.environ, **settings},
        umask=0,
        stdout=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(60):
        assert await process.wait() == 0
    kept = [state.parent, *state.parent.rglob("*")]
    assert len(kept) > 10
    open_to_others = stat.S_IRWXG | stat.S_IRWXO
    assert [path for path in kept if path.stat().st_mode & open_to_others] == []
