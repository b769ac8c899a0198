"""Opening the source that the settings name, and what comes with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.display import Undisplayed
from daemon.encoders.addresses import Find, Task
from daemon.encoders.opening import Discover
from daemon.folder import listing
from daemon.folder.scan import Folder
from daemon.folder.source import FolderSource
from daemon.settings import Settings
from state.errors import Misconfigured, Rejected
from state.journal import SqliteJournal
from state.ports import Display, Platform, Source

if TYPE_CHECKING:
    from daemon.platform.client import Client

RootTask = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class OpenSource:
    """A source, and who looks at it.

    :param platform: rights and collections, where there is a platform
    :param discover: finds CLIP there
    :param display: what its users are shown
    :param roots: what has to run for it, for ever, by name
    :param problem_within: why a part of a project cannot be looked at
    """

    source: Source
    platform: Platform | None = None
    discover: Discover | None = None
    display: Display = field(default_factory=Undisplayed)
    roots: Mapping[str, RootTask] = field(default_factory=dict)
    problem_within: Callable[[int], str | None] = lambda project_id: None


def identity(settings: Settings) -> bytes:
    """Return what names the source for ever: the server's address, or the folder's real path.

    :raises Misconfigured: when there is no source
    """
    if settings.on_platform:
        if settings.server_address is None:
            raise Misconfigured("SERVER_ADDRESS", "name the platform's address")
        return settings.server_address.rstrip("/").lower().encode()
    return os.fsencode(_images_root(settings))


def project_number(settings: Settings, ref: str) -> int:
    """Return the number of a project that is named by it or, where it is a folder, by its name; for a thread.

    :raises Rejected: when a name means nothing
    :raises Unavailable, Inconsistent: when the folder of pictures cannot be read, or is empty
    """
    number = int(ref) if ref.isascii() and ref.isdigit() else None
    if settings.on_platform:
        if number is None:
            raise Rejected(f"say the project's number: several on the platform may be called {ref}")
        return number
    root = _images_root(settings)
    if number is not None and not (root / ref).is_dir():  # a folder may well be called 2024
        return number
    for project in map(listing.project, Folder(root).projects()):
        if project.name == ref:
            return project.id
    raise Rejected(f"there is no project {ref}")


async def open_source(
    settings: Settings,
    journal: SqliteJournal,
    clock: Callable[[], float],
    now: Callable[[], float],
    stack: AsyncExitStack,
) -> OpenSource:
    """Open the source; `stack` closes it.

    :raises Misconfigured: when a setting does not work
    """
    if settings.on_platform:
        return await _open_platform(settings, journal, clock, now, stack)
    source = FolderSource(
        _images_root(settings), journal, settings.max_picture_bytes, settings.settle_seconds
    )
    stack.push_async_callback(source.close)
    await source.open()
    return OpenSource(source, problem_within=source.problem)


async def platform_client(settings: Settings) -> Client:
    """Reach the platform that the settings name; whoever gets the client closes it.

    :raises Misconfigured: when the extra is missing, or the address is refused
    :raises Unavailable: when the platform is away
    """
    from daemon.platform.client import Client

    assert settings.server_address is not None
    return await Client.open(
        settings.server_address,
        settings.api_token,
        settings.supervisely_api_server_address,
        settings.supervisely_api_access_token,
    )


async def _open_platform(
    settings: Settings,
    journal: SqliteJournal,
    clock: Callable[[], float],
    now: Callable[[], float],
    stack: AsyncExitStack,
) -> OpenSource:
    from daemon.platform.callers import Callers
    from daemon.platform.discovery import Discovery
    from daemon.platform.flags import Flags
    from daemon.platform.pictures import Pictures
    from daemon.platform.source import PlatformSource

    client = await platform_client(settings)
    flags = Flags(client, now)
    pictures = Pictures(
        client.server,
        settings.imgproxy_address,
        settings.link_hosts,
        settings.imgproxy_concurrency,
        settings.max_picture_bytes,
    )
    source = PlatformSource(client, pictures, journal, flags.surveyed, settings.news_seconds, clock)
    stack.push_async_callback(source.close)
    callers = Callers(client)
    stack.push_async_callback(callers.close)

    def discover(task: Task | None) -> Find:
        return Discovery(client, task, settings.supervisely_net_server_address).find

    return OpenSource(source, callers, discover, flags, {"flags": flags.run})


def _images_root(settings: Settings) -> Path:
    if settings.images_dir is None:
        raise Misconfigured("IMAGES_DIR", "name a folder of pictures")
    root = settings.images_dir.expanduser()
    if not root.is_dir():
        raise Misconfigured("IMAGES_DIR", f"{root} is not a directory")
    return root.resolve()
