"""The cheapest way to each change: what the store has of the same bytes is copied, what is known to be
unreadable is left alone, and only the rest is encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from state.changes import reusable, reuse
from state.model import Action, Change, Embedding, Reason
from state.ports import Forced, Journal, Store

QUARANTINE_SECONDS = 24 * 3600.0
"""How long a picture that cannot be encoded is left alone while its bytes stay the same."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """Changes, cheapest way first: encodings are reuses where the store has the same bytes.

    :param unreadable: changes whose picture is in quarantine, with the reason
    :param found: what is reused, by content
    """

    changes: list[Change]
    unreadable: list[tuple[Change, str]] = field(default_factory=list)
    found: Mapping[str, Embedding] = field(default_factory=dict)

    def of(self, action: Action) -> list[Change]:
        """Return the changes of one kind."""
        return [change for change in self.changes if change.action is action]


class Sorting:
    """Sorts changes by what they cost.

    :param now: seconds since the epoch, compared only with what this machine wrote down itself
    """

    def __init__(self, store: Store, journal: Journal, now: Callable[[], float]) -> None:
        self._store, self._journal, self._now = store, journal, now

    async def sort(self, collection: str, changes: list[Change], forced: Forced) -> Sorted:
        """Sort changes of one collection."""
        encodings = [change for change in changes if change.action is Action.ENCODE]
        if not encodings:
            return Sorted(changes)
        bad = await self._known_unreadable(collection, encodings)
        unreadable = [(change, bad[change.image_id]) for change in encodings if change.image_id in bad]
        others = [change for change in changes if change.image_id not in bad]
        sought = {to_encode(change) for change in others if reusable(change)}
        found = await self._store.with_contents(collection, sought) if sought else {}
        # A vector that is to be made again is no vector to copy.
        outdated = {content for content, one in found.items() if forced.stale(one.image)}
        others = [
            replace(one, reason=Reason.FORCED) if reusable(one) and to_encode(one) in outdated else one
            for one in others
        ]
        return Sorted(reuse(others, found), unreadable, found)

    async def _known_unreadable(self, collection: str, encodings: Sequence[Change]) -> Mapping[int, str]:
        """Map images whose picture is in quarantine, by its hash or else its `updated_at`, to the reason."""
        since = self._now() - QUARANTINE_SECONDS
        contents, unhashed = {to_encode(change) for change in encodings} - {""}, unhashed_of(encodings)
        journal = self._journal
        by_hash = await journal.quarantined_contents(collection, contents, since) if contents else {}
        by_time = await journal.quarantined_images(collection, unhashed, since) if unhashed else {}
        hashed = {one.image_id: by_hash[to_encode(one)] for one in encodings if to_encode(one) in by_hash}
        return {**by_time, **hashed}


def to_encode(change: Change) -> str:
    """Return the content that would be encoded; empty where nothing would, or only fetching tells."""
    return (change.wanted.content or "") if change.action is Action.ENCODE else ""


def unhashed_of(changes: Iterable[Change]) -> dict[int, str]:
    """Map images without a hash, of which only fetching tells, to their `updated_at`."""
    return {one.image_id: one.wanted.updated_at for one in changes if one.image and not one.image.content}
