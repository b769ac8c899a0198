"""What is seen of the daemon while something is wrong, and which promises that breaks."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO

from fault_rows import ANOTHER_MODEL, Row
from fault_world import QUESTIONS, Answer, FaultWorld

FAULT_SECONDS, LONGEST_SECONDS = 1.2, 6.0
LOOKS = re.compile(r"project\.(?:synced|waits)")
ENOUGH_LOOKS = 4
"""A fault lasts so long; longer where the daemon, on a slow machine, has ended fewer looks by then."""

LOOK_SECONDS, ASK_SECONDS = 0.1, 0.3
"""Between two looks, and between an answer and the same question again."""

PROMPT_SECONDS = 5.0
"""Longest that an answer may take which needs nothing of the service that is away: less than four tries of a
client that is impatient with it, and more than noisy machines take."""

REQUESTS_PER_SECOND, REQUESTS_PER_ANSWER = 40, 4
"""Most that a service that is away is asked, by the daemon of itself and for a question of ours."""

MORE_TASKS, MOST_LINES = 80, 80

GO_ON = {
    "source": {"/livez", "/status", "/search by text", "/search by image", "/diverse", "/clusters"},
    "clip": {"/livez", "/status", "/search by image", "/diverse", "/clusters"},
    "qdrant": {"/livez"},
}
"""What is answered to an operator as ever, and as soon, while a service is away."""

DOUBT = "The evidence does not add up"
"""What is said of a listing that contradicts itself."""

REFUSING = (401, 403)
"""What a platform says that lets nobody in: to whoever it does not know, or of what it does not show."""


@dataclass
class Seen:
    """What was seen while a fault was on.

    :ivar lost: images that live in the source and were not in the store at some look
    :ivar untrue: images whose vector was not that of the content it is said to be of
    :ivar tasks: most there were beyond those at the start
    :ivar requests: that came to the service
    :ivar lines: written, but for those of requests
    """

    lost: set[int] = field(default_factory=set)
    untrue: set[int] = field(default_factory=set)
    answers: list[Answer] = field(default_factory=list)
    tasks: int = 0
    requests: int = 0
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)


async def under_fault(running: FaultWorld, row: Row, written: StringIO) -> Seen:
    """Switch the fault of a row on, change the source, ask and look meanwhile, and switch it off."""
    seen = Seen()
    before, tasks, started = written.tell(), len(asyncio.all_tasks()), time.monotonic()
    await running.strike(row.service, row.fault)
    stored = running.truth.points().keys()
    replaced = running.change()
    living = running.truth.wanted().keys() & stored
    if f"{row.service}: {row.name}" == ANOTHER_MODEL:
        living -= {replaced}  # what the old model made of its former bytes is no longer true

    def lasts() -> bool:
        met = len(LOOKS.findall(written.getvalue()[before:])) >= ENOUGH_LOOKS
        return time.monotonic() - started < (FAULT_SECONDS if met else LONGEST_SECONDS)

    async def keep_asking(asked: str) -> None:
        while lasts():
            seen.answers.append(await running.ask(asked))
            await asyncio.sleep(ASK_SECONDS)

    async with asyncio.TaskGroup() as asking:
        left = [asking.create_task(keep_asking(asked)) for asked in QUESTIONS]
        while not all(one.done() for one in left):
            seen.lost |= living - running.truth.points().keys()
            seen.untrue |= running.truth.untrue()
            seen.tasks = max(seen.tasks, len(asyncio.all_tasks()) - tasks)
            await asyncio.sleep(LOOK_SECONDS)
    seen.requests, seen.seconds = running.proxies[row.service].requests, time.monotonic() - started
    events = map(json.loads, written.getvalue()[before:].splitlines())
    seen.lines = [str(event) for event in events if event["event"] != "request.answered"]
    await running.relent(row.service)
    return seen


def broken(seen: Seen, row: Row) -> Iterator[str]:
    """Say which promises were broken while the fault was on."""
    if seen.lost:
        yield f"careful: {seen.lost} live in the source and were taken out of the store"
    if seen.untrue:
        yield f"true: the vectors of {seen.untrue} are of something else"
    slowest_last = sorted(seen.answers, key=lambda one: one.seconds)
    for answer in {(one.asked, one.status): one for one in slowest_last}.values():
        yield from _amiss(answer, row)
    if seen.requests > REQUESTS_PER_SECOND * seen.seconds + REQUESTS_PER_ANSWER * len(seen.answers):
        yield f"bounded: {seen.requests} requests in {seen.seconds:.1f} s"
    if seen.tasks > MORE_TASKS:
        yield f"bounded: {seen.tasks} more tasks"
    if len(seen.lines) > MOST_LINES:
        yield f"bounded: {len(seen.lines)} lines are written, such as {seen.lines[-3:]}"


def _amiss(answer: Answer, row: Row) -> Iterator[str]:
    """Say what is wrong with an answer."""
    refused = row.service == "source" and row.fault.status in REFUSING
    hidden = row.service == "source" and row.fault.status == 403 and answer.status == 404
    if answer.asked in GO_ON[row.service] and not (
        (answer.status == 200 or hidden) and answer.seconds < PROMPT_SECONDS
    ):
        yield f"isolated: {answer}"
    if answer.status not in (200, 429, 503) and not (refused and answer.status in (401, 404)):
        yield f"closed: {answer}"
    if answer.status == 503 and answer.asked != "/health":
        if not answer.retry_after or float(answer.retry_after) < 1:
            yield f"closed: no Retry-After in {answer}"
        if row.service not in answer.message and DOUBT not in answer.message:
            yield f"honest: {row.service} is not named in {answer}"
