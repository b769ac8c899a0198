"""Asking a daemon over HTTP what it has in its index, and what that cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

ASK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class Costs:
    """What was done to keep the index right, by the counters of ``/metrics``."""

    encoded: int = 0
    reused: int = 0
    retagged: int = 0
    removed: int = 0

    def since(self, earlier: Costs) -> Costs:
        return Costs(*(now - then for now, then in zip(astuple(self), astuple(earlier), strict=True)))


class DaemonAsked:
    """The daemon at `url`."""

    url = ""

    def get(self, path: str, token: str | None = None) -> Answer:
        return self._ask("GET", path, None, token)

    def post(self, path: str, body: Mapping[str, object] | None = None, token: str | None = None) -> Answer:
        return self._ask("POST", path, body or {}, token)

    def metrics(self) -> dict[str, float]:
        """Return every series, without the prefix they share."""
        lines = (line for line in self.get("/metrics").text.splitlines() if not line.startswith("#"))
        pairs = (line.rsplit(" ", 1) for line in lines)
        return {name.removeprefix("embedsync_"): float(value) for name, value in pairs}

    def costs(self) -> Costs:
        metrics = self.metrics()
        kinds = ("encoded", "reused", "retagged", "removed")
        return Costs(*(int(metrics[f"images_{kind}_total"]) for kind in kinds))

    def projects(self) -> dict[str, dict[str, Any]]:
        """Return where the projects stand that are there, by name."""
        return {one["name"]: one for one in self.get("/status").json["projects"] if not one["gone"]}

    def indexed(self) -> dict[str, int]:
        """Return how many images of each project are fresh; projects without any are left out."""
        return {name: one["fresh"] for name, one in self.projects().items() if one["fresh"]}

    def wanting(self, project: str) -> dict[str, int]:
        """Return what a sync would do, by action; looking at every file afresh."""
        answer = self.post("/embeddings", {"project_id": project, "dry_run": True})
        (plan,) = answer.json["plans"]
        return {action: count for action, count in plan["counts"].items() if count and action != "keep"}

    def found(self, project: str, **query: object) -> list[str]:
        """Search, and return the paths of what was found."""
        answer = self.post("/search", {"project_id": project, **query})
        return [item["path"] for item in answer.json.get("items", ())] if answer.status == 200 else []

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None, token: str | None) -> Answer:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=ASK_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return Answer(response.status, response.read().decode())
        except (ConnectionError, HTTPException) as error:
            raise AssertionError(f"no answer: {error!r}") from error
        finally:
            connection.close()
