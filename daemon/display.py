"""Where the source has no users of its own to be shown anything."""

from __future__ import annotations

from collections.abc import Collection


class Undisplayed:
    """A `Display` nobody looks at."""

    def began(self, project_id: int) -> None:
        """Show nothing."""

    def written(self, project_id: int, image_ids: Collection[int]) -> None:
        """Show nothing."""

    def ended(self, project_id: int, problem: str | None, worked: bool) -> None:
        """Show nothing."""

    async def settled(self) -> None:
        """Wait for nothing."""
