"""The commands for whoever operates the service: ``embedsync health``, ``doctor`` and ``reload``."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from daemon.settings import Settings

Folder = Annotated[
    Path | None, typer.Option("--images-dir", "-d", help="The folder of pictures (IMAGES_DIR).")
]


def add_service_commands(
    app: typer.Typer,
    out: Console,
    failures: Callable[[], AbstractContextManager[None]],
    read: Callable[[Path | None], Settings],
    clash: Callable[[], str | None],
) -> None:
    """Add the commands.

    :param failures: a context that turns what can go wrong into words and an exit code
    :param read: reads the settings, with another folder of pictures if one is given
    :param clash: says which other distribution takes this package's place
    """

    @app.command()
    def health() -> None:
        """Ask the daemon at HOST and PORT whether it lives; the exit code is 1 if it does not answer."""
        from daemon.probe import check_lives

        with failures():
            settings = read(None)
            check_lives(settings.host, settings.port)

    @app.command()
    def doctor(
        images_dir: Folder = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Look at all the daemon needs, and say what to do; the exit code is 1 if something is amiss."""
        from daemon import finding, logs
        from daemon.doctor import examine

        logs.set_up("error", "auto", ())
        findings = asyncio.run(examine(lambda: read(images_dir), clash()))
        if as_json:
            out.print_json(data=finding.as_json(findings))
        else:
            out.print(finding.as_table(findings))
        raise typer.Exit(not finding.well(findings))

    @app.command()
    def reload(images_dir: Folder = None) -> None:
        """Have the running daemon read the log level and the secrets anew; so does SIGHUP."""
        with failures():
            asyncio.run(_reload(read(images_dir)))


async def _reload(settings: Settings) -> None:
    from daemon.client import running_daemon
    from state.errors import Rejected

    async with running_daemon(settings) as reached:
        if reached is None or reached.pid is None:
            raise Rejected("no daemon is running on this state")
        try:
            os.kill(reached.pid, signal.SIGHUP)
        except PermissionError:
            raise Rejected(f"process {reached.pid} is another user's; ask as that user, or as root") from None
