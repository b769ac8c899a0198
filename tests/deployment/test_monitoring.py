"""Alerts and dashboard speak of metrics and labels that exist, and every alert is explained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from dockerfile import ROOT
from prometheus_client import Metric

from handlers.metrics import Metrics

ADDED_BY_PROMETHEUS = {"instance", "job", "le"}

SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "docs/alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in alerts())
    for panel in json.loads((ROOT / "docs/dashboard.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def exposed() -> dict[str, set[str]]:
    """Map each series that ``/metrics`` shows to its labels."""
    metrics = Metrics()
    families: list[Metric] = list(metrics.registry.collect())
    labels = {
        one._name: set(one._labelnames) for one in vars(metrics).values() if hasattr(one, "_labelnames")
    }
    return {
        f"{family.name}{suffix}": labels[family.name]
        for family in families
        for suffix in SUFFIXES[family.type]
    }


def wrong_in(expression: str) -> list[str]:
    """Name the series and labels of an expression that nothing shows."""
    series = exposed()
    named = re.findall(r"\bembedsync_\w+", expression)
    labels = {label for name in named for label in series.get(name, set())} | ADDED_BY_PROMETHEUS
    matched = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expression)
    grouped = [
        word.strip() for words in re.findall(r"\bby \(([^)]*)\)", expression) for word in words.split(",")
    ]
    return [name for name in named if name not in series] + [
        label for label in (*matched, *grouped) if label not in labels
    ]


def test_every_series_and_label_named_exists() -> None:
    assert [wrong for one in expressions() for wrong in wrong_in(one)] == []


@pytest.mark.parametrize(
    "expression",
    [
        "embedsync_images_fresh > 0",
        "rate(embedsync_images_encoded[5m])",
        'embedsync_circuit_open{name="clip"}',
        "sum by (route) (embedsync_removals_held)",
    ],
)
def test_a_series_or_label_that_does_not_exist_is_noticed(expression: str) -> None:
    assert wrong_in(expression)


def test_every_metric_that_dashboards_may_rely_on_is_on_the_dashboard() -> None:
    shown = (ROOT / "docs/dashboard.json").read_text()
    families = {family.name for family in Metrics().registry.collect()}
    assert [name for name in families if name not in shown] == []


def test_every_alert_says_what_it_is_and_where_to_read_what_to_do() -> None:
    document = (ROOT / "docs/operations.md").read_text()
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert re.search(rf"^### {rule['alert']}$", document, re.M), rule["alert"]


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((ROOT / "docs/dashboard.json").read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
