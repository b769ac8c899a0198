"""CLIP as Service on the platform, behind the token of a session that every start makes anew."""

from __future__ import annotations

from .world import World

SLUG = "supervisely-ecosystem/deploy-clip-as-service"


class ClipApp:
    """The app, running: found by its slug, and by its task, which has a token of its own.

    :param url: where the service that it stands for really listens
    """

    def __init__(self, world: World, url: str) -> None:
        self._world = world
        self._url = url
        self.task_id = world.register_app(url)
        world.register_service(SLUG, url)

    @property
    def tokens(self) -> list[str]:
        """The tokens that lead to it now, or did when it was last stopped."""
        return [self._world.service_token(name) for name in self._names]

    @property
    def _names(self) -> tuple[str, str]:
        return SLUG, f"task {self.task_id}"

    def stop(self) -> None:
        """Let it be found no more; its tokens lead nowhere."""
        with self._world.lock:
            for token in self.tokens:
                self._world.services.pop(token, None)
            self._world.apps.pop(self.task_id, None)
            self._world.ended_tasks.add(self.task_id)

    def restart(self, url: str | None = None) -> None:
        """Start it anew, perhaps elsewhere, with new tokens under the same slug and task."""
        with self._world.lock:
            self.stop()
            self._world.ended_tasks.discard(self.task_id)
            self._world.starts.update(self._names)
            self._url = url or self._url
            self._world.register_app(self._url, self.task_id)
            self._world.register_service(SLUG, self._url)
