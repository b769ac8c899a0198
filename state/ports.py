"""The ports: what the sync and the handlers may ask of the world, and what can go wrong.

Every method may raise :class:`~state.errors.Unavailable` when its service is away; only further
failures are listed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from state.model import (
    AtWork,
    Embedding,
    EncoderAddress,
    EncoderRecord,
    EncoderStatus,
    Hit,
    ImageRef,
    Matrix,
    Picture,
    Pixels,
    Plan,
    Progress,
    Project,
    ProjectStatus,
    Quarantined,
    Scope,
    Start,
    StoredImage,
    TaskStatus,
    TextEmbeddings,
    Vectors,
    Within,
)

Reserve = Callable[[int], Awaitable[None]]
"""Wait until so many bytes may be held: all of a picture, what was reserved for it before included."""


class Source(Protocol):
    """Where the pictures live: a folder, or a platform.

    :ivar identity: names it for ever: the server's address, or the folder's real path
    :ivar proves_absence: whether an image missing from one readable listing is proof that it is gone
    :ivar delivers_whole: whether what is fetched is the picture itself, so that damage is its own and
        not that of a download
    :ivar fallback_routes: routes whose vectors count as stale
    """

    identity: str
    proves_absence: bool
    delivers_whole: bool
    fallback_routes: frozenset[str]

    async def survey(self) -> Mapping[Project, Scope]:
        """List every project, and how much of each a routine look should cover: nothing, perhaps.

        :raises Inconsistent: when the list cannot be trusted (an emptied root)
        """

    async def project(self, ref: int | str) -> Project | None:
        """Find a project by number or, where the source knows names, by name."""

    async def projects_of(self, image_ids: Collection[int]) -> Mapping[int, frozenset[int]]:
        """Map each project to those of `image_ids` it holds; unknown images are left out."""

    async def count(self, project_id: int) -> int:
        """Return how many images the project is said to have; for progress only."""

    def images(self, project_id: int, scope: Scope) -> AsyncIterator[list[ImageRef]]:
        """List the images of `scope` in pages, in ascending order of id.

        :raises Inconsistent: at the latest after the last page, when the listing was not whole
        """

    async def fetch(self, image: ImageRef, reserve: Reserve) -> Picture:
        """Fetch a picture's bytes.

        :param reserve: awaited before bytes are read, with how many they will be as far as that is known,
            and again with more when there are more
        :raises Rejected: when it is too large, or no longer what was listed in kind
        :raises Inconsistent: when it went, or has other bytes, since it was listed
        """

    def changes(self) -> AsyncIterator[Mapping[int, Scope]]:
        """Yield projects that need a look, as news arrives; lost or doubled news does no harm.

        The first yield, perhaps of nothing, says that news is listened for; a survey after it misses
        nothing that happens later.
        """

    async def close(self) -> None:
        """Release what is held; nothing may be asked afterwards."""


class Encoder(Protocol):
    """What turns pictures and texts into unit vectors of one space.

    :ivar kind: the first part of its id, such as ``palette``
    :ivar id: the name its vectors are stored under; ``None`` until it was recognised
    :ivar dimension: of its vectors; ``None`` until it was asked once
    :ivar batch_size: pictures per call at which it works best
    :ivar picture_side: longest side in pixels of the pictures it wants
    """

    kind: str
    id: str | None
    dimension: int | None
    batch_size: int
    picture_side: int

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        """Encode pictures; shape ``(len(pictures), dimension)``, finite, unit length.

        :raises Rejected: when this batch cannot be encoded, or the answer is no vector
        """

    async def encode_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Encode texts.

        :raises Rejected: when a text means nothing to this encoder
        """

    async def close(self) -> None:
        """Release what is held."""


class TextEncoder(Protocol):
    """What reads texts for the vectors of any encoder that can still be asked."""

    async def encode_texts_as(self, encoder_id: str, texts: Sequence[str]) -> TextEmbeddings:
        """Encode texts by exactly that encoder.

        :raises Rejected: when a text means nothing to it
        """


class Store(Protocol):
    """Collections of points, one per encoder, and the catalogue that says which is which.

    A write has happened when its call returns. `collection` is an encoder's id.
    """

    async def encoders(self) -> Sequence[EncoderRecord]:
        """List the encoders in the catalogue."""

    async def add_encoder(self, record: EncoderRecord) -> None:
        """Put an encoder into the catalogue and make its collection; again is harmless."""

    async def forget_encoder(self, encoder_id: str) -> None:
        """Take an encoder out of the catalogue, and its collection with it; again is harmless.

        :raises Inconsistent: while it answers for a project
        """

    async def confirm(self, encoder_id: str, epoch: int) -> None:
        """Note that good canaries vouch for all that was written for the encoder up to `epoch`."""

    async def withdraw(self, collection: str) -> int:
        """Remove the points that no good canary vouches for; return how many."""

    async def pinned(self) -> str | None:
        """Return the encoder that a person wants to answer, whatever encoder is at work."""

    async def pin(self, encoder_id: str | None) -> None:
        """Keep that wish; ``None`` withdraws it."""

    async def pointers(self) -> Mapping[int, str]:
        """Map each project to the encoder that answers for it."""

    async def set_pointer(self, project_id: int, encoder_id: str | None) -> None:
        """Move a project's pointer; ``None`` takes it away."""

    async def next_epoch(self) -> int:
        """Return a number greater than any it ever returned."""

    async def upsert(self, collection: str, points: Sequence[Embedding]) -> None:
        """Write vectors and their proofs, whole.

        :raises Rejected: when a vector is not finite, not of unit length or of another dimension
        """

    async def retag(self, collection: str, images: Sequence[StoredImage]) -> None:
        """Replace the payloads of those stored points that were made from the same content.

        One made anew meanwhile keeps its proof: a vector never stands under bytes it was not made from.
        """

    async def remove(self, collection: str, project_id: int, ids: Collection[int]) -> int:
        """Remove those of `ids` that still belong to the project; return how many did."""

    async def remove_project(self, collection: str, project_id: int) -> None:
        """Remove every point of the project."""

    async def count(self, collection: str, within: Within) -> int:
        """Count points exactly."""

    async def projects(self, collection: str) -> Mapping[int, int]:
        """Map each project that has points to how many."""

    def scroll(self, collection: str, project_id: int) -> AsyncIterator[list[StoredImage]]:
        """List a project's proofs in pages, in ascending order of id."""

    async def images(self, collection: str, ids: Collection[int]) -> list[StoredImage]:
        """Return the proofs of those `ids` that are stored, whatever their project, by id."""

    async def embeddings(self, collection: str, ids: Collection[int]) -> list[Embedding]:
        """Return those of `ids` that are stored, with their vectors, by id."""

    async def with_contents(self, collection: str, contents: Collection[str]) -> Mapping[str, Embedding]:
        """Find one stored embedding, of any project, for each of these contents."""

    async def query(
        self, collection: str, vectors: Vectors, within: Within, limit: int, exact: bool = False
    ) -> list[list[Hit]]:
        """Return the nearest points of each row of `vectors`, best first, in one engine call."""

    def vectors(
        self, collection: str, within: Within
    ) -> AsyncIterator[tuple[NDArray[np.int64], NDArray[np.int64], Vectors]]:
        """Stream ids, dataset ids and vectors in blocks, in ascending order of id."""

    async def healthy(self) -> None:
        """Return if the store answers."""

    async def close(self) -> None:
        """Make everything durable and let go; nothing may be asked afterwards."""


class Matrices(Protocol):
    """A project's vectors as one matrix, for work that needs all of them."""

    async def matrix(self, collection: str, within: Within) -> Matrix:
        """Return the vectors of `within`, in ascending order of id; do not write into them."""


class Journal(Protocol):
    """What is worth remembering but may be lost: losing it costs one full sweep, nothing else."""

    async def watermark(self, name: str) -> str | None:
        """Return where a feed was."""

    async def set_watermark(self, name: str, value: str) -> None:
        """Remember where a feed is."""

    async def quarantine(self, encoder_id: str, images: Sequence[Quarantined], again: bool = True) -> None:
        """Set pictures aside; unless `again`, those that are there keep their time."""

    async def suspect(self, image_id: int, content: str, now: float) -> tuple[float, int]:
        """Count one more time that these bytes came damaged; return since when, and how often so far."""

    async def quarantined_contents(
        self, encoder_id: str, contents: Collection[str], since: float
    ) -> Mapping[str, str]:
        """Map those of `contents` set aside after `since` to the reason."""

    async def date_quarantine(self, encoder_id: str, updated_at: Mapping[int, str]) -> None:
        """Remember at which `updated_at` of theirs images without a hash were set aside."""

    async def quarantined_images(
        self, encoder_id: str, updated_at: Mapping[int, str], since: float
    ) -> Mapping[int, str]:
        """Map those of these images set aside after `since`, at this `updated_at`, to the reason."""

    async def quarantined(
        self, encoder_id: str, project_id: int | None = None, after: int = 0, limit: int = 1000
    ) -> list[Quarantined]:
        """List what is set aside, by image id."""

    async def quarantine_counts(self, encoder_id: str) -> Mapping[int, int]:
        """Count what is set aside, by project."""

    async def release(self, project_id: int | None, image_ids: Collection[int] | None) -> int:
        """Take pictures out of quarantine: some, a project's, or all; return how many."""

    async def hold(self, project_id: int, image_ids: Collection[int], now: float) -> None:
        """Hold exactly these removals of a project; ids held before keep their time and verdict."""

    async def held(self, project_id: int, before: float) -> Collection[int]:
        """Return the removals held since before that time that nobody cancelled."""

    async def kept(self, project_id: int) -> Collection[int]:
        """Return the removals of a project that somebody cancelled."""

    async def held_counts(self, cancelled: bool = False) -> Mapping[int, int]:
        """Count the held removals by project that nobody cancelled, or those that somebody did."""

    async def settle_held(
        self, project_id: int, image_ids: Collection[int] | None, cancel: bool
    ) -> Collection[int]:
        """Confirm or cancel held removals: a confirmed one is forgotten and returned for carrying out.

        :param image_ids: these, cancelled before or not; ``None``: all that nobody cancelled
        """

    async def missing(self, project_id: int, now: float) -> tuple[float, int]:
        """Count one more survey that lacked the project; return since when, and how many so far."""

    async def missing_projects(self) -> Mapping[int, float]:
        """Map projects gone from the source to since when."""

    async def found(self, project_ids: Collection[int]) -> None:
        """Forget that these projects were missing."""

    async def force(self, project_id: int, image_ids: Collection[int] | None, epoch: int) -> None:
        """Want images (``None``: all of the project) whose proof is older than `epoch` made again."""

    async def forced(self, project_id: int) -> Forced:
        """Return what of the project is to be made again."""

    async def forget_forced(self, project_id: int, epoch: int) -> None:
        """Forget wishes up to `epoch`; they are fulfilled."""

    async def close(self) -> None:
        """Let go."""


class Forced(Protocol):
    """Which images are wanted again although their hash is unchanged."""

    def stale(self, stored: StoredImage) -> bool:
        """Whether this proof is older than the wish."""


class Display(Protocol):
    """What the source's own users are shown of our work; decides nothing, and holds nobody up."""

    def began(self, project_id: int) -> None:
        """Embeddings of the project are being made."""

    def written(self, project_id: int, image_ids: Collection[int]) -> None:
        """These images have their embedding."""

    def ended(self, project_id: int, problem: str | None, worked: bool) -> None:
        """A look at the project has ended, well or with a problem; `worked`: something was made."""

    async def settled(self) -> None:
        """Wait until all of it is shown."""


class Syncs(Protocol):
    """What the handlers may ask of the daemon."""

    async def start(self, project_id: int, image_ids: Collection[int] | None, force: bool) -> Start:
        """Ask for a sync now, of the whole project or of some of its images."""

    async def wait(self, project_id: int) -> TaskStatus:
        """Wait until the project's running or queued sync has ended."""

    async def cancel(self, project_id: int) -> bool:
        """Stop the project's sync between batches; return whether there was one."""

    async def plan(self, project_id: int, image_ids: Collection[int] | None, force: bool) -> Plan:
        """Say what a sync would do, changing nothing.

        :raises Inconsistent: when the listing was not whole
        """

    def progress(self) -> Mapping[int, Progress]:
        """Return the progress of every project that had a sync since the start."""

    async def up_to_date(self, project_id: int) -> bool | None:
        """Whether every image is fresh; ``None`` when the project was never looked at."""

    async def status(self, project_id: int | None = None) -> list[ProjectStatus]:
        """Return where projects stand."""

    def mark(self, project_id: int, scope: Scope) -> None:
        """Ask for a look, at leisure."""

    async def quarantined(self, project_id: int | None, limit: int) -> list[Quarantined]:
        """List pictures set aside."""

    async def retry(self, project_id: int | None, image_ids: Collection[int] | None) -> int:
        """Try pictures again that were set aside; return how many."""

    async def confirm_removals(self, project_id: int, image_ids: Collection[int] | None) -> int:
        """Carry out held removals now; return how many."""

    async def cancel_removals(self, project_id: int, image_ids: Collection[int] | None) -> int:
        """Keep what a held removal would take; return how many."""

    def searched(self, project_id: int, encoder_id: str) -> Progress | None:
        """Hear that somebody searches a project by the vectors of that encoder.

        Where another is at work, the project comes first among those that wait for it, and how far it is
        is returned; ``None`` where that is the encoder at work.
        """

    def at_work(self) -> AtWork:
        """Return the encoder that vectors are made by."""

    async def encoders(self) -> list[EncoderStatus]:
        """Return every encoder there are vectors of."""

    def encoder_addresses(self) -> list[EncoderAddress]:
        """Return where encoders are asked."""

    async def use_encoder(self, encoder_id: str | None) -> int:
        """Have an encoder answer for all it has vectors of; ``None``: whoever is at work. Return how many.

        :raises Rejected: when there is no such encoder
        """

    async def health(self) -> Mapping[str, str]:
        """Return ``healthy`` or ``unhealthy: …`` for every check of ``/health``."""


class Platform(Protocol):
    """Rights and answers on the platform the pictures come from, each asked with the caller's token."""

    async def recognise(self, token: str) -> None:
        """Return if the token is somebody's.

        :raises UnknownCaller: when not
        """

    async def authorise(self, token: str, project_id: int) -> None:
        """Return if the owner of `token` may read the project.

        :raises UnknownCaller: when the token is unknown
        :raises Invisible: when the caller may not see the project, or it does not exist
        :raises NotInPlan: when the plan does not allow it
        """

    async def projects_of(self, token: str, image_ids: Collection[int]) -> Mapping[int, frozenset[int]]:
        """Map each project to those of `image_ids` it holds, as far as the owner of `token` may see them.

        :raises UnknownCaller: when the token is unknown
        """

    async def publish(self, kind: str, project_id: int, token: str, items: Sequence[Hit]) -> int | None:
        """Leave the answer as a collection of the platform; return its id, ``None`` where there are none.

        :param kind: ``search``, whose items carry their scores, or ``diverse``
        :raises Invisible: when the caller may not see the project any more
        """
