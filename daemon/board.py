"""The board: where each project's latest look stands, for people and metrics. In memory only.

Nothing here is ever consulted to decide what is fresh; that is read from the store each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from state.model import Progress, TaskStatus


@dataclass(slots=True)
class Standing:
    """One project.

    :param total: images the latest look is about
    :param current: those of them that are fresh, dealt with or set aside
    :param outdated: stored vectors known to be made from other bytes, not replaced yet
    :param stale_since: monotonic seconds since something is known to be stale; ``None``: nothing is
    :param looked_at: whether a look at the whole project ended well since the start
    :param began: monotonic seconds when the latest look began
    :param made: vectors the latest look has written
    """

    status: TaskStatus = TaskStatus.NO_TASK
    total: int = 0
    current: int = 0
    outdated: int = 0
    stale_since: float | None = None
    looked_at: bool = False
    began: float = 0.0
    made: int = 0

    @property
    def stale(self) -> int:
        """How many images are known to be stale."""
        return max(0, self.total - self.current) if self.stale_since is not None else 0


class Board:
    """The standing of every project looked at since the start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._standings: dict[int, Standing] = {}

    def __getitem__(self, project_id: int) -> Standing:
        return self._standings.setdefault(project_id, Standing())

    def __iter__(self) -> Iterator[int]:
        return iter(self._standings)

    def begin(self, project_id: int, total: int) -> Standing:
        """Start a look at `total` images."""
        standing = self[project_id]
        standing.status = TaskStatus.RUNNING
        standing.total, standing.current, standing.outdated = total, 0, 0
        standing.began, standing.made = self._clock(), 0
        return standing

    def stale(self, standing: Standing) -> None:
        """Note that something was found to be stale."""
        if standing.stale_since is None:
            standing.stale_since = self._clock()

    def end(self, project_id: int, status: TaskStatus, whole: bool, left: int = 0) -> None:
        """End a look; a completed one leaves nothing stale but the images that were `left`."""
        standing = self[project_id]
        standing.status = status
        if status is TaskStatus.COMPLETED:
            standing.current = max(0, standing.total - left)
            standing.looked_at = standing.looked_at or whole
            if not left:
                standing.outdated, standing.stale_since = 0, None

    def drop(self, project_id: int) -> None:
        """Forget a project that is gone."""
        self._standings.pop(project_id, None)

    def stale_seconds(self, project_id: int) -> float:
        """Return the age of the oldest known stale image; 0 when there is none."""
        since = self[project_id].stale_since
        return 0.0 if since is None else self._clock() - since

    def progress(self) -> Mapping[int, Progress]:
        """Return how far each project is."""
        return {
            project_id: Progress(
                project_id, one.total, min(one.current, one.total), one.status, self._remaining(one)
            )
            for project_id, one in self._standings.items()
            if one.status is not TaskStatus.NO_TASK
        }

    def _remaining(self, one: Standing) -> float | None:
        if one.status is not TaskStatus.RUNNING or not one.made:
            return None
        return (self._clock() - one.began) / one.made * max(0, one.total - one.current)
