"""The command line: everything `embedsync --help` lists."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import structlog
import typer
from rich.console import Console
from rich.table import Column, Table

from daemon.model_commands import model_commands
from daemon.service_commands import add_service_commands
from daemon.transfer_commands import transfer_commands
from state.errors import EmbedsyncError, Misconfigured, Occupied

if TYPE_CHECKING:
    from daemon.settings import Settings

FAILED, OCCUPIED, MISCONFIGURED = 1, 75, 78
"""Exit codes; the last two as in ``sysexits.h``."""

Folder = Annotated[
    Path | None, typer.Option("--images-dir", "-d", help="The folder of pictures (IMAGES_DIR).")
]
ProjectName = Annotated[
    str, typer.Option("--project", "-p", help="A project: a folder in it, or its number.")
]
AnyProject = Annotated[str | None, typer.Option("--project", "-p", help="Only this project.")]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keep an embedding of every image fresh, and answer searches and diverse selections from them. "
    "Every setting is an environment variable: see docs/settings.md.",
)
quarantine = typer.Typer(no_args_is_help=True, help="Pictures that cannot be encoded.")
app.add_typer(quarantine, name="quarantine")
encoder = typer.Typer(no_args_is_help=True, help="What makes the vectors, and what answers.")
app.add_typer(encoder, name="encoder")
out = Console()


@app.command()
def run(images_dir: Folder = None) -> None:
    """Run the daemon: keep the vectors fresh and answer requests, until told to stop."""
    from daemon.service import serve
    from daemon.settings import read_supervisor

    _carry_out(images_dir, lambda settings: serve(settings, read_supervisor()))


@app.command()
def sync(images_dir: Folder = None) -> None:
    """Bring every project up to date once; the exit code is 1 if something stays stale."""
    from daemon.once import bring_up_to_date

    _carry_out(images_dir, lambda settings: bring_up_to_date(settings, out), quiet=True)


@app.command()
def plan(images_dir: Folder = None, project: AnyProject = None) -> None:
    """Say what a sync would do and why, changing nothing."""

    async def show(daemon: Any) -> None:
        listed = (await daemon.ask("GET", "/status"))["projects"]
        wanted = [one for one in listed if project in (None, one["name"], str(one["project_id"]))]
        if not wanted:
            raise Misconfigured("--project", f"there is no project {project}")
        for one in wanted:
            answer = await daemon.ask(
                "POST", "/embeddings", {"project_id": one["project_id"], "dry_run": True}
            )
            for planned in answer["plans"]:
                _show_plan(one["name"], planned)

    _asking(images_dir, show)


@app.command()
def search(
    prompt: Annotated[str, typer.Argument(help='Words, such as "dark red"; commas part several prompts.')],
    project: ProjectName,
    limit: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 10,
    images_dir: Folder = None,
) -> None:
    """Find pictures by words."""

    async def show(daemon: Any) -> None:
        wish = {"project_id": project, "prompt": prompt, "limit": limit}
        answer = await daemon.ask("POST", "/search", wish)
        for item in answer.get("items", ()):
            out.print(f"{item['score']:.3f}  {item['path']}", highlight=False)
        if ignored := answer.get("ignored_words"):
            out.print(f"Ignored: {', '.join(ignored)}", style="yellow")
        if message := answer.get("message"):
            out.print(message)

    _asking(images_dir, show)


@app.command()
def diverse(
    project: ProjectName,
    size: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 10,
    method: Annotated[
        str, typer.Option(help="representative, coverage, centroids or random.")
    ] = "representative",
    images_dir: Folder = None,
) -> None:
    """Pick pictures that stand for all of a project."""

    async def show(daemon: Any) -> None:
        wish = {"project_id": project, "sample_size": size, "method": method}
        answer = await daemon.ask("POST", "/diverse", wish)
        for item in answer.get("items", ()):
            out.print(item["path"], highlight=False)
        if "coverage" in answer:
            out.print(f"Farthest picture from its nearest pick: {answer['coverage']:.3f}", style="dim")
        if message := answer.get("message"):
            out.print(message)

    _asking(images_dir, show)


@app.command()
def status(images_dir: Folder = None) -> None:
    """Show where every project stands."""

    async def show(daemon: Any) -> None:
        table = Table(
            "project",
            Column("id", no_wrap=True),
            "fresh",
            "stale",
            "bad",
            "held",
            Column("task", no_wrap=True),
            "waits for",
        )
        for one in (await daemon.ask("GET", "/status"))["projects"]:
            counts = [str(one[name]) for name in ("fresh", "stale", "quarantined", "held_removals")]
            name = f"{one['name']} (gone)" if one["gone"] else one["name"]
            table.add_row(name, str(one["project_id"]), *counts, one["task"], one["waiting_for"] or "")
        out.print(table)
        out.print(f"daemon at {daemon.url}" if daemon.running else "no daemon is running", style="dim")

    _asking(images_dir, show)


@quarantine.command("list")
def list_quarantine(images_dir: Folder = None, project: AnyProject = None) -> None:
    """List pictures that were set aside, and why."""

    async def show(daemon: Any) -> None:
        wanted = f"?project_id={project}" if project else ""
        answer = await daemon.ask("GET", f"/quarantine{wanted}")
        table = Table("picture", "id", "reason")
        for item in answer["items"]:
            table.add_row(item["path"] or item["name"], str(item["image_id"]), item["reason"])
        out.print(table)
        out.print(f"{answer['total']} in all", style="dim")

    _asking(images_dir, show)


@quarantine.command()
def retry(images_dir: Folder = None, project: AnyProject = None) -> None:
    """Try pictures again that were set aside."""

    async def show(daemon: Any) -> None:
        answer = await daemon.ask("POST", "/quarantine/retry", {"project_id": project})
        out.print(answer["message"])

    _asking(images_dir, show)


@encoder.command("list")
def list_encoders(images_dir: Folder = None) -> None:
    """List the encoders there are vectors of, and where encoders are asked."""

    async def show(daemon: Any) -> None:
        answer = await daemon.ask("GET", "/encoders")
        table = Table("encoder", "at work", "pinned", "answers for", "images")
        for one in answer["encoders"]:
            marks = ["yes" if one[what] else "" for what in ("at_work", "pinned")]
            table.add_row(one["id"], *marks, f"{one['projects']} projects", str(one["images"]))
        out.print(table)
        for place in answer["addresses"]:
            out.print(f"{place['name']}: {place['problem'] or place['encoder_id']}", highlight=False)

    _asking(images_dir, show)


@encoder.command("use")
def use_encoder(
    encoder_id: Annotated[str, typer.Argument(help="Its id; `auto`: whichever is at work.")],
    images_dir: Folder = None,
) -> None:
    """Go back to an encoder: it answers for all it has vectors of, and keeps them."""

    async def show(daemon: Any) -> None:
        wanted = None if encoder_id == "auto" else encoder_id
        answer = await daemon.ask("POST", "/encoders/use", {"encoder_id": wanted})
        out.print(answer["message"])

    _asking(images_dir, show)


@app.command()
def samples(directory: Annotated[Path, typer.Argument(help="Where to put them.")]) -> None:
    """Fill a folder with real photographs to try things out on."""
    from daemon.folder.samples import fill

    with _failures():
        out.print(f"{fill(directory)} pictures in {directory}")


@app.command()
def settings() -> None:
    """List every setting: its name in the environment, its value now, and why one would change it."""
    from daemon.settings import read_settings, shown_settings

    with _failures():
        table = Table("setting", "value", "unit", "why")
        for row in shown_settings(read_settings()):
            table.add_row(*row)
        out.print(table)


@app.command()
def version() -> None:
    """Print the version."""
    from daemon import __version__

    out.print(__version__, highlight=False)


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] != ["doctor"] and (clash := _other_daemon_package()):
        typer.secho(clash, err=True, fg="red")
        sys.exit(MISCONFIGURED)
    app()


def _show_plan(name: str, planned: Mapping[str, Any]) -> None:
    counts = ", ".join(f"{count} {action}" for action, count in planned["counts"].items() if count)
    extra = [f"{planned[what]} {what}" for what in ("quarantined", "held") if planned[what]]
    out.print(f"[bold]{name}[/bold]: {', '.join([counts or 'nothing', *extra])}", highlight=False)
    for action, images in planned["changes"].items():
        for image in images[:10]:
            out.print(f"  {action} {image['image_id']}: {image['reason']}", highlight=False)


def _asking(images_dir: Path | None, show: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    from daemon.client import daemon

    async def ask(settings: Any) -> None:
        async with daemon(settings) as reached:
            await show(reached)

    _carry_out(images_dir, ask, quiet=True)


def _carry_out(
    images_dir: Path | None, work: Callable[[Any], Coroutine[Any, Any, int | None]], quiet: bool = False
) -> None:
    from daemon import logs
    from daemon.settings import ignored, secrets

    with _failures():
        settings = _read(images_dir)
        level = "error" if quiet else settings.log_level
        logs.set_up(level, settings.log_format, secrets(settings))
        os.umask(0o077)  # the names of somebody's pictures, and their vectors, are for nobody else to read
        for name in ignored():
            structlog.get_logger().info("setting.ignored", name=name)
        raise typer.Exit(asyncio.run(work(settings)) or 0)


def _read(images_dir: Path | None) -> Settings:
    from daemon.settings import read_settings

    given = {"IMAGES_DIR": str(images_dir)} if images_dir else {}
    return read_settings({**os.environ, **given})


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what can go wrong into a line of words and an exit code."""
    try:
        yield
    except Misconfigured as problem:
        _fail(f"Misconfigured: {problem}", MISCONFIGURED)
    except Occupied as problem:
        _fail(f"Occupied: {problem}", OCCUPIED)
    except EmbedsyncError as problem:
        _fail(str(problem), FAILED)


def _fail(message: str, code: int) -> NoReturn:
    typer.secho(message, err=True, fg="red")
    raise typer.Exit(code)


def _other_daemon_package() -> str | None:
    """Name the one distribution whose package ``daemon`` would overwrite this one."""
    try:
        importlib.metadata.distribution("python-daemon")
    except importlib.metadata.PackageNotFoundError:
        return None
    return (
        "python-daemon is installed here, and its package `daemon` takes the place of embedsync's; "
        "uninstall it, or give embedsync an environment of its own"
    )


app.add_typer(model_commands(out, _failures), name="model")


def _wired(settings: Settings) -> Any:
    from daemon.wiring import wired

    return wired(settings)


app.add_typer(transfer_commands(out, _carry_out, _wired))
add_service_commands(app, out, _failures, _read, _other_daemon_package)

if __name__ == "__main__":
    main()
