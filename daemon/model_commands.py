"""The commands about the local CLIP: ``embedsync model fetch`` and ``embedsync model path``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from daemon.command_line import failures, out, read

app = typer.Typer(no_args_is_help=True, help="The local CLIP model (ENCODER=onnx).")


@app.command()
def fetch(
    directory: Annotated[Path | None, typer.Option(help="Where to put it, to copy it elsewhere.")] = None,
    source: Annotated[
        str, typer.Option("--from", help="A mirror of the Hugging Face hub.")
    ] = "https://huggingface.co",
) -> None:
    """Fetch the model once, some 600 MB; interrupted, it goes on where it was."""
    from daemon.encoders.fetch import fetch as fetch_model
    from daemon.encoders.models import check_extra, model_directory

    with failures():
        if directory is None:
            check_extra()
            directory = model_directory(read().state_dir)
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=out) as bar:
            task = bar.add_task("model", total=None)
            asyncio.run(
                fetch_model(
                    directory, source, lambda done, total: bar.update(task, completed=done, total=total)
                )
            )
        out.print(f"The model is in {directory}", soft_wrap=True, highlight=False)


@app.command()
def path() -> None:
    """Print where the model is looked for; the exit code is 1 where it is not there, or not whole."""
    from daemon.encoders.models import local_model, model_directory

    with failures():
        state_dir = read().state_dir
        out.print(str(model_directory(state_dir)), soft_wrap=True, highlight=False)
        raise typer.Exit(local_model(state_dir) is None)
