"""schemathesis asks everything that ``/openapi.json`` allows, and much that it does not.

It checks that no answer is a 5xx or fails to come, and that each has a status, a content type and a form
that the description promises.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hostile_daemon import PATIENCE, PROJECT, TOKEN, Hostile

from handlers.routes import ROUTES

PER_ROUTE, PER_ROUTE_AND_NIGHT = 2, 100
PHASES, EVERY_PHASE = {None: "fuzzing", TOKEN: "coverage"}, "coverage,fuzzing"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def narrowed(fields: dict[str, Any], daemon: Hostile) -> None:
    """Have the fields of a request name what is there: what is asked about nothing does not get far."""
    for name in fields:
        if name in ("project_id", "task_id"):
            fields[name] = {"enum": [daemon.project_id, PROJECT]}
        elif name == "project_ids":
            fields[name] = {"type": "array", "items": {"enum": [daemon.project_id]}, "maxItems": 2}
        elif name.endswith("_ids"):
            fields[name] = {"type": "array", "items": {"enum": daemon.ids}, "maxItems": 4}


async def asked(
    daemon: Hostile, directory: Path, token: str | None, phases: str, most: int
) -> tuple[int, str]:
    """Return the exit code of schemathesis, and what it says."""
    async with aiohttp.ClientSession() as session, session.get(f"{daemon.url}/openapi.json") as response:
        description = await response.json()
    for model in {route.takes.__name__ for route in ROUTES}:
        narrowed(description["components"]["schemas"].get(model, {}).get("properties", {}), daemon)
    # It mistakes prefixItems, which JSON Schema has had since 2020, for the items of older drafts.
    (directory / "openapi.json").write_text(json.dumps(description).replace("prefixItems", "x-prefixItems"))
    command = [
        *("-m", "schemathesis.cli", "run", "openapi.json", "--url", daemon.url, "--seed", "1"),
        *("--phases", phases, "--checks", ",".join(CHECKS), "--max-examples", str(most)),
        *("--request-timeout", str(PATIENCE), "--suppress-health-check", "all", "--warnings", "off"),
        *(("--header", f"Authorization: Bearer {token}") if token else ()),
    ]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_every_answer_is_one_that_the_description_promises(
    daemon: Hostile, auth_token: str | None, tmp_path: Path
) -> None:
    code, said = await asked(daemon, tmp_path, auth_token, PHASES[auth_token], PER_ROUTE)
    assert code == 0, said
    assert not daemon.failed


@pytest.mark.nightly
async def test_every_answer_of_very_many_is_one_that_the_description_promises(
    daemon: Hostile, auth_token: str | None, tmp_path: Path
) -> None:
    code, said = await asked(daemon, tmp_path, auth_token, EVERY_PHASE, PER_ROUTE_AND_NIGHT)
    assert code == 0, said
    assert not daemon.failed
