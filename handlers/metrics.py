"""The metrics, each once, under the names that dashboards rely on.

The daemon moves the counters (``metrics.images_encoded.inc(32)``); what can be derived from where the
projects stand is set when ``/metrics`` is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from state.model import ProjectStatus

MAX_PROJECT_SERIES = 1_000

REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SYNC_BUCKETS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600)


class Metrics:
    """All metrics, in a registry of their own.

    :ivar images_encoded: pictures the encoder was paid for
    :ivar images_reused: images given the vector of the same bytes
    :ivar images_retagged: images whose name or place was rewritten
    :ivar images_removed: points removed because their image is gone
    :ivar images_indexed: images whose vector is right
    :ivar encoder_batches: batches by ``outcome``
    :ivar encoder_busy_ratio: share of the time the encoder had work, 0 to 1
    :ivar queue_depth: projects waiting for a look
    :ivar sync_seconds: how long one pass over a project took
    :ivar request_seconds: how long an answer took, by ``route`` and ``status``
    :ivar circuit_open: 1 while calls to a ``service`` are held back
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._lock = threading.Lock()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"embedsync_{name}", meaning, labels, registry=registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(f"embedsync_{name}", meaning, labels, registry=registry)

        def histogram(name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"embedsync_{name}", meaning, labels, registry=registry, buckets=buckets)

        self.images_encoded = counter("images_encoded", "Pictures encoded")
        self.images_reused = counter("images_reused", "Images given the vector of the same bytes")
        self.images_retagged = counter("images_retagged", "Images whose name or place was rewritten")
        self.images_removed = counter("images_removed", "Points removed because their image is gone")
        self.images_quarantined = gauge("images_quarantined", "Pictures set aside as unreadable")
        self.images_stale = gauge("images_stale", "Images whose vector is missing or old", "project_id")
        self.oldest_stale_seconds = gauge(
            "oldest_stale_seconds", "Age of the oldest stale image", "project_id"
        )
        self.images_indexed = gauge("images_indexed", "Images whose vector is right")
        self.encoder_batches = counter("encoder_batches", "Batches sent to the encoder", "outcome")
        self.encoder_busy_ratio = gauge("encoder_busy_ratio", "Share of the time the encoder had work")
        self.queue_depth = gauge("queue_depth", "Projects waiting for a look")
        self.sync_seconds = histogram("sync_seconds", "Time of one pass over a project", SYNC_BUCKETS)
        self.request_seconds = histogram(
            "request_seconds", "Time until the answer", REQUEST_BUCKETS, "route", "status"
        )
        self.circuit_open = gauge("circuit_open", "1 while calls to the service are held back", "service")
        self.removals_held = gauge("removals_held", "Removals waiting for a second proof")

    def exposition(self, statuses: Sequence[ProjectStatus] | None) -> bytes:
        """Return everything in Prometheus' text format.

        :param statuses: where all projects stand; ``None`` keeps what was shown last
        """
        with self._lock:
            if statuses is not None:
                self._observe(statuses)
            return generate_latest(self.registry)

    def _observe(self, statuses: Sequence[ProjectStatus]) -> None:
        """Show where the projects stand; beyond the cap the least stale ones share ``other``.

        Stale images add up under ``other``; of their ages the largest counts.
        """
        ordered = sorted(statuses, key=lambda status: (-status.stale, status.project.id))
        own = len(ordered) if len(ordered) <= MAX_PROJECT_SERIES else MAX_PROJECT_SERIES - 1
        self.images_stale.clear()
        self.oldest_stale_seconds.clear()
        for status in ordered[:own]:
            self.images_stale.labels(status.project.id).set(status.stale)
            self.oldest_stale_seconds.labels(status.project.id).set(status.oldest_stale_seconds)
        if others := ordered[own:]:
            self.images_stale.labels("other").set(sum(status.stale for status in others))
            self.oldest_stale_seconds.labels("other").set(
                max(status.oldest_stale_seconds for status in others)
            )
        self.images_indexed.set(sum(status.fresh for status in statuses))
        self.images_quarantined.set(sum(status.quarantined for status in statuses))
        self.removals_held.set(sum(status.held_removals for status in statuses))
