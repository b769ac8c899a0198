"""The commands that move vectors: ``embedsync export``, ``embedsync import`` and ``embedsync adopt``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from daemon.command_line import AnyProject, Folder, carry_out, out

if TYPE_CHECKING:
    from daemon.adoption import Adopted
    from daemon.settings import Settings

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The directory of the export.")]

app = typer.Typer()


@app.command("export")
def export(directory: Directory, project: AnyProject = None, images_dir: Folder = None) -> None:
    """Write all vectors to files; interrupted, it goes on where it was."""
    from daemon.alone import store_alone
    from daemon.transfer.exporting import export_points

    async def work(settings: Settings) -> None:
        number = await _number(settings, project)
        async with store_alone(settings) as store:
            with _bar("export") as on_points:
                manifest = await export_points(store, directory, number, on_points)
        projects = len({shard.project for shard in manifest.shards})
        encoders = ", ".join(one.id for one in manifest.encoders)
        out.print(
            f"{manifest.points} vectors of {projects} projects by {encoders} in {directory},"
            f" digest {manifest.digest}",
            soft_wrap=True,
            highlight=False,
        )

    carry_out(images_dir, work, quiet=True)


@app.command("import")
def import_(directory: Directory, project: AnyProject = None, images_dir: Folder = None) -> None:
    """Read vectors from files; what is there already stays; interrupted, it goes on where it was."""
    from daemon.alone import store_alone
    from daemon.transfer.importing import import_points

    async def work(settings: Settings) -> None:
        number = await _number(settings, project)
        async with store_alone(settings) as store:
            with _bar("import") as on_points:
                imported = await import_points(store, directory, number, on_points)
        same = "to the last bit" if imported.exact else "up to the store's rounding"
        out.print(
            f"{imported.points} vectors verified {same}: {imported.written} written,"
            f" {imported.points - imported.written} there already",
            soft_wrap=True,
            highlight=False,
        )
        if imported.kept:
            out.print(f"{imported.kept} of those differ from the export, and stayed", style="yellow")

    carry_out(images_dir, work, quiet=True)


@app.command("adopt")
def adopt(
    project: AnyProject = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare, and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
    images_dir: Folder = None,
) -> None:
    """Take over the vectors that embeddings-generator left on the Qdrant server, encoding only a sample.

    Its collections are only read. The exit code is 1 if one was refused.
    """
    from daemon.adopting import adopt_all, open_incumbent
    from daemon.alone import daemon_stopped
    from daemon.wiring import wired

    async def work(settings: Settings) -> int:
        reports: list[Adopted] = []
        incumbent = await open_incumbent(settings)
        bar = _bar("adopt", Console(stderr=True) if as_json else out)
        try:
            with daemon_stopped():
                async with wired(settings) as place:
                    with bar as on_points:
                        await adopt_all(
                            place, settings, incumbent, project, dry_run, reports.append, on_points
                        )
        finally:
            await incumbent.close()
            if as_json:
                out.print_json(json.dumps([asdict(one) for one in reports]))
            elif reports:
                out.print(_table(reports, dry_run))
        if not reports and not as_json:
            out.print("No project that is followed has a collection there.")
        return int(any(one.refused for one in reports))

    carry_out(images_dir, work, quiet=True)


async def _number(settings: Settings, project: str | None) -> int | None:
    from daemon.sources import project_number

    return None if project is None else await asyncio.to_thread(project_number, settings, project)


@contextmanager
def _bar(name: str, console: Console = out) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _table(reports: list[Adopted], dry_run: bool) -> Table:
    table = Table(
        "project",
        "in its collection",
        "would be adopted" if dry_run else "adopted",
        "here already",
        "left to be encoded",
        "compared",
        "refused",
    )
    for one in reports:
        left = ", ".join(f"{count} {why}" for why, count in sorted(one.left.items()))
        compared = f"{one.compared}, at {one.lowest:.4f} or more" if one.lowest is not None else ""
        counts = (str(one.points), str(one.adopted), str(one.present))
        table.add_row(f"{one.name} ({one.project_id})", *counts, left, compared, one.refused or "")
    return table
