"""The command line: everything `embedsync --help` lists."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from daemon import model_commands, service_commands, transfer_commands
from daemon.command_line import (
    MISCONFIGURED,
    AnyProject,
    Folder,
    OneProject,
    carry_out,
    failures,
    other_daemon_package,
    out,
    read,
    supervisor,
)
from state.errors import Misconfigured

if TYPE_CHECKING:
    from daemon.client import Daemon
    from daemon.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keep an embedding of every image fresh, and answer searches and diverse selections from them. "
    "Every setting is an environment variable: `settings` lists them.",
)
quarantine = typer.Typer(no_args_is_help=True, help="Pictures that cannot be encoded.")
app.add_typer(quarantine, name="quarantine")
encoder = typer.Typer(no_args_is_help=True, help="What makes the vectors, and what answers.")
app.add_typer(encoder, name="encoder")
app.add_typer(model_commands.app, name="model")
app.add_typer(transfer_commands.app)
app.add_typer(service_commands.app)


@app.command()
def run(images_dir: Folder = None) -> None:
    """Run the daemon: keep the vectors fresh and answer requests, until told to stop."""
    from daemon.service import serve

    carry_out(images_dir, lambda settings: serve(settings, supervisor()))


@app.command()
def sync(images_dir: Folder = None) -> None:
    """Bring every project up to date once; the exit code is 1 if something stays stale."""
    from daemon.once import bring_up_to_date

    carry_out(images_dir, lambda settings: bring_up_to_date(settings, out), quiet=True)


@app.command()
def plan(images_dir: Folder = None, project: AnyProject = None) -> None:
    """Say what a sync would do and why, changing nothing."""

    async def show(daemon: Daemon) -> None:
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
    project: OneProject,
    limit: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 10,
    images_dir: Folder = None,
) -> None:
    """Find pictures by words."""

    async def show(daemon: Daemon) -> None:
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
    project: OneProject,
    size: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 10,
    method: Annotated[
        str, typer.Option(help="representative, coverage, random, centroids, kmeans or dbscan.")
    ] = "representative",
    images_dir: Folder = None,
) -> None:
    """Pick pictures that stand for all of a project."""

    async def show(daemon: Daemon) -> None:
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

    async def show(daemon: Daemon) -> None:
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

    async def show(daemon: Daemon) -> None:
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

    async def show(daemon: Daemon) -> None:
        answer = await daemon.ask("POST", "/quarantine/retry", {"project_id": project})
        out.print(answer["message"])

    _asking(images_dir, show)


@encoder.command("list")
def list_encoders(images_dir: Folder = None) -> None:
    """List the encoders there are vectors of, and where encoders are asked."""

    async def show(daemon: Daemon) -> None:
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

    async def show(daemon: Daemon) -> None:
        wanted = None if encoder_id == "auto" else encoder_id
        answer = await daemon.ask("POST", "/encoders/use", {"encoder_id": wanted})
        out.print(answer["message"])

    _asking(images_dir, show)


@app.command()
def samples(directory: Annotated[Path, typer.Argument(help="Where to put them.")]) -> None:
    """Fill a folder with real photographs to try things out on."""
    from daemon.folder.samples import fill

    with failures():
        out.print(f"{fill(directory)} pictures in {directory}")


@app.command()
def settings() -> None:
    """List every setting: its name in the environment, its value now, and why one would change it."""
    from daemon.settings import shown_settings

    with failures():
        table = Table("setting", "value", "unit", "why")
        for row in shown_settings(read()):
            table.add_row(*row)
        out.print(table)


@app.command()
def version() -> None:
    """Print the version."""
    from daemon import __version__

    out.print(__version__, highlight=False)


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] != ["doctor"] and (clash := other_daemon_package()):
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


def _asking(images_dir: Path | None, show: Callable[[Daemon], Coroutine[Any, Any, None]]) -> None:
    from daemon.client import daemon

    async def ask(settings: Settings) -> None:
        async with daemon(settings) as reached:
            await show(reached)

    carry_out(images_dir, ask, quiet=True)


if __name__ == "__main__":
    main()
