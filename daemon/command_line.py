"""What all commands share: options, exit codes, the environment, and how failures are said."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import structlog
import typer
from rich.console import Console

from state.errors import EmbedsyncError, Misconfigured, Occupied

if TYPE_CHECKING:
    from daemon.notify import Supervisor
    from daemon.settings import Settings

FAILED, OCCUPIED, MISCONFIGURED = 1, 75, 78
"""Exit codes; the last two as in ``sysexits.h``."""

Folder = Annotated[
    Path | None, typer.Option("--images-dir", "-d", help="The folder of pictures (IMAGES_DIR).")
]
OneProject = Annotated[str, typer.Option("--project", "-p", help="A project: its name, or its number.")]
AnyProject = Annotated[
    str | None, typer.Option("--project", "-p", help="Only this project: its name, or its number.")
]

out = Console()


def carry_out(
    images_dir: Path | None, work: Callable[[Settings], Coroutine[Any, Any, int | None]], quiet: bool = False
) -> None:
    """Read the settings, do the work, and end with the exit code it returns.

    :param quiet: whether only errors are logged
    :raises typer.Exit: always
    """
    from daemon import logs
    from daemon.settings import ignored, secrets

    with failures():
        settings = read(images_dir)
        level = "error" if quiet else settings.log_level
        logs.set_up(level, settings.log_format, secrets(settings))
        os.umask(0o077)  # the names of somebody's pictures, and their vectors, are for nobody else to read
        for name in ignored():
            structlog.get_logger().info("setting.ignored", name=name)
        raise typer.Exit(asyncio.run(work(settings)) or 0)


def read(images_dir: Path | None = None) -> Settings:
    """Read the settings, with another folder of pictures if one is given.

    :raises Misconfigured: when one has a value that cannot be meant
    """
    from daemon.settings import read_settings

    given = {"IMAGES_DIR": str(images_dir)} if images_dir else {}
    return read_settings({**os.environ, **given})


def supervisor() -> Supervisor:
    """Return who watches over this process."""
    from daemon.notify import supervisor_in

    return supervisor_in(os.environ)


@contextmanager
def failures() -> Iterator[None]:
    """Turn what can go wrong into a line of words and an exit code.

    :raises typer.Exit: then
    """
    try:
        yield
    except Misconfigured as problem:
        _fail(f"Misconfigured: {problem}", MISCONFIGURED)
    except Occupied as problem:
        _fail(f"Occupied: {problem}", OCCUPIED)
    except EmbedsyncError as problem:
        _fail(str(problem), FAILED)


def other_daemon_package() -> str | None:
    """Name the one distribution whose package ``daemon`` would overwrite this one."""
    try:
        importlib.metadata.distribution("python-daemon")
    except importlib.metadata.PackageNotFoundError:
        return None
    return (
        "python-daemon is installed here, and its package `daemon` takes the place of embedsync's; "
        "uninstall it, or give embedsync an environment of its own"
    )


def _fail(message: str, code: int) -> NoReturn:
    typer.secho(message, err=True, fg="red")
    raise typer.Exit(code)
