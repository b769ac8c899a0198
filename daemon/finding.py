"""What an examination found: good, worth knowing, or amiss, and what to do about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from state.errors import EmbedsyncError


class Verdict(StrEnum):
    """How bad it is."""

    GOOD = "good"
    NOTE = "note"
    AMISS = "amiss"


COLOURS = {Verdict.GOOD: "green", Verdict.NOTE: "yellow", Verdict.AMISS: "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    :param says: what was found
    :param advice: what to do; empty where nothing is to be done
    """

    check: str
    verdict: Verdict
    says: str
    advice: str = ""


def good(check: str, says: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Verdict.GOOD, says)


def note(check: str, says: str, advice: str = "") -> Finding:
    """Return a finding worth knowing, which keeps nothing from working."""
    return Finding(check, Verdict.NOTE, says, advice)


def amiss(check: str, problem: object, advice: str) -> Finding:
    """Return a finding that keeps something from working."""
    return Finding(check, Verdict.AMISS, str(problem), advice)


async def collected(check: str, advice: str, findings: AsyncIterator[Finding]) -> list[Finding]:
    """Return the findings of a check; a failure of ours that ends it is the last of them."""
    found: list[Finding] = []
    try:
        async for one in findings:
            found.append(one)
    except EmbedsyncError as problem:
        found.append(amiss(check, problem, advice))
    return found


def well(findings: Sequence[Finding]) -> bool:
    """Whether nothing is amiss."""
    return all(one.verdict is not Verdict.AMISS for one in findings)


def as_table(findings: Sequence[Finding]) -> Table:
    """Return the findings for people."""
    columns = (Column(heading, overflow="fold") for heading in ("found", "what to do"))
    table = Table(Column("check", no_wrap=True), "", *columns)
    for one in findings:
        verdict = f"[{COLOURS[one.verdict]}]{one.verdict}[/]"
        table.add_row(one.check, verdict, escape(one.says), escape(one.advice))
    return table


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings for programs."""
    return {"well": well(findings), "findings": [asdict(one) for one in findings]}
