"""The commands for whoever operates the service: ``health``, ``doctor``, ``reload`` and ``removals``."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.command_line import Folder, OneProject, failures, other_daemon_package, out, read
from state.errors import Rejected

if TYPE_CHECKING:
    from daemon.client import Daemon
    from daemon.settings import Settings

app = typer.Typer()
removals = typer.Typer(no_args_is_help=True, help="Removals that wait for a second proof.")
app.add_typer(removals, name="removals")


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
    findings = asyncio.run(examine(lambda: read(images_dir), other_daemon_package()))
    if as_json:
        out.print_json(data=finding.as_json(findings))
    else:
        out.print(finding.as_table(findings))
    raise typer.Exit(not finding.well(findings))


@app.command()
def reload(images_dir: Folder = None) -> None:
    """Have the running daemon read the log level and the secrets anew; so does SIGHUP."""
    with failures():
        out.print(f"Process {asyncio.run(_reload(read(images_dir)))} was told; its log says what it took.")


@removals.command()
def confirm(project: OneProject, images_dir: Folder = None) -> None:
    """Carry out a project's held removals now."""
    with failures():
        out.print(asyncio.run(_settle(read(images_dir), project, "confirm")))


@removals.command()
def cancel(project: OneProject, images_dir: Folder = None) -> None:
    """Keep what a project's held removals would take."""
    with failures():
        out.print(asyncio.run(_settle(read(images_dir), project, "cancel")))


async def _reload(settings: Settings) -> int:
    """Tell the daemon, and return its process."""
    async with _daemon_that_runs(settings) as reached:
        assert reached.pid is not None
        try:
            os.kill(reached.pid, signal.SIGHUP)
        except PermissionError:
            raise Rejected(f"process {reached.pid} is another user's; ask as that user, or as root") from None
        return reached.pid


async def _settle(settings: Settings, project: str, verdict: str) -> str:
    """Confirm or cancel held removals, and return the answer; only a daemon that runs carries them out."""
    async with _daemon_that_runs(settings) as reached:
        answer = await reached.ask("POST", f"/removals/{verdict}", {"project_id": project})
        return str(answer["message"])


@asynccontextmanager
async def _daemon_that_runs(settings: Settings) -> AsyncIterator[Daemon]:
    """Reach the daemon that holds this state.

    An address file may be older than the last start of the machine, or the copy of another's: then another
    daemon may answer there, and its process be anybody's.
    """
    from daemon.client import running_daemon
    from daemon.directory import state_directory
    from daemon.doctor import holder

    held_by = await asyncio.to_thread(holder, settings, state_directory(settings))
    async with running_daemon(settings) as reached:
        if reached is None or held_by != str(reached.pid):
            raise Rejected("no daemon is running on this state")
        yield reached
