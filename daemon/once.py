"""Bringing everything up to date once, with a progress bar."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from daemon.client import Daemon, running_daemon
from daemon.service import synchronising
from daemon.settings import Settings
from daemon.wiring import wired

LOOK_SECONDS = 0.2
"""Seconds between two looks at the progress."""

Progresses = Mapping[int, tuple[str, int, int]]
"""Name, images done, and images in all, of each project."""


async def bring_up_to_date(settings: Settings, console: Console) -> int:
    """Sync every project, or have the daemon that runs do so; return 1 if something stays stale.

    :raises Misconfigured, Occupied: as `wired`
    :raises Unavailable, Inconsistent: when the source cannot be listed
    :raises RuntimeError: when a root task ended
    """
    async with running_daemon(settings) as reached:
        if reached:
            statuses = await _ask_for_it(reached, console)
        else:
            statuses = await _do_it(settings, console)
    for one in statuses:
        if one["waiting_for"]:
            console.print(f"{one['name']} waits: {one['waiting_for']}", style="yellow")
        if one["quarantined"]:
            console.print(f"{one['name']}: {one['quarantined']} pictures in quarantine", style="yellow")
    fresh, stale = (sum(one[what] for one in statuses) for what in ("fresh", "stale"))
    console.print(f"{fresh} images fresh, {stale} stale")
    return int(any(one["stale"] or one["waiting_for"] for one in statuses))


async def _do_it(settings: Settings, console: Console) -> list[dict[str, Any]]:
    async with wired(settings) as parts, synchronising(parts) as broken:
        controller, surveys = parts.controller, parts.surveys

        async def look() -> Progresses:
            names = {number: one.name for number, one in surveys.projects.items()}
            return {
                number: (names.get(number, str(number)), one.current, one.total)
                for number, one in controller.progress().items()
            }

        async def done() -> None:
            # The root tasks survey as soon as news is listened for: one of our own would come on top.
            await surveys.surveyed()
            await controller.idle()

        await _watch(console, look, done(), broken)
        return [
            {
                "name": one.project.name,
                "fresh": one.fresh,
                "stale": one.stale,
                "quarantined": one.quarantined,
                "waiting_for": one.waiting_for,
            }
            for one in await controller.status()
        ]


async def _ask_for_it(reached: Daemon, console: Console) -> list[dict[str, Any]]:
    async def statuses() -> list[dict[str, Any]]:
        listed = (await reached.ask("GET", "/status"))["projects"]
        return [one for one in listed if one["enabled"] and not one["gone"]]

    async def look() -> Progresses:
        return {
            one["project_id"]: (one["name"], one["encoder"]["current"], one["encoder"]["total"])
            for one in await statuses()
        }

    async def done() -> None:
        for one in await statuses():
            await reached.ask("POST", "/embeddings", {"project_id": one["project_id"]})
        while True:
            listed = await statuses()
            if not any(one["task"] == "running" or _moving(one) for one in listed):
                return
            await asyncio.sleep(LOOK_SECONDS)

    await _watch(console, look, done())
    return await statuses()


def _moving(status: Mapping[str, Any]) -> bool:
    return bool(status["stale"]) and not status["waiting_for"]


async def _watch(
    console: Console,
    look: Callable[[], Awaitable[Progresses]],
    end: Coroutine[Any, Any, None],
    *broken: asyncio.Future[None],
) -> None:
    """Draw the progress until `end` is reached, or what is `broken` says why it never will be."""
    ending = asyncio.create_task(end)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    drawn: dict[int, TaskID] = {}
    try:
        with Progress(*columns, console=console) as bars:
            finished: set[asyncio.Future[None]] = set()
            while not finished:
                finished, _ = await asyncio.wait(
                    [ending, *broken], timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED"
                )
                for number, (name, current, total) in (await look()).items():
                    if number not in drawn:
                        drawn[number] = bars.add_task(name)
                    bars.update(drawn[number], completed=current, total=total)
        for one in finished:
            one.result()
    finally:
        ending.cancel()
