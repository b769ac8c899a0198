"""Finding CLIP as Service on the platform: by the task it runs as, or by the name of the app.

Either way leads to a path with the token of a session in it, which is another one after each start of
the app; so it is asked for anew whenever the service is lost, and shown to nobody.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from daemon import logs
from daemon.encoders.addresses import Address, Task, address_of
from daemon.encoders.soundness import SERVICE
from daemon.platform.client import Client
from state.errors import Denied, Misconfigured, Rejected, Unavailable, UnknownCaller

SLUG = "supervisely-ecosystem/deploy-clip-as-service"
"""The app's name on the platform."""

ANSWER_SECONDS = 20.0
"""Longest the platform may take to say where the app is."""

NET_SETTING = "SUPERVISELY_NET_SERVER_ADDRESS"

_ADVICE = "start the app there; CLIP_HOST names its task or its address, or is left empty to have it found"
_ENDED = frozenset({"error", "finished", "terminating", "stopped"})
_BASE_URL = ("settings", "message", "appInfo", "baseUrl")
_TOKEN = re.compile(r"[\w.~=+-]{1,1024}", re.ASCII)

_Answer = TypeVar("_Answer")


class Discovery:
    """Asks the platform where its CLIP is; `find` is a `Find`.

    :param task: the app's task; ``None``: whichever task runs CLIP as Service
    :param net_server: where apps are reached from here, with what stands before the token; ``None``:
        under the platform's own address
    :param hide: told every token, to keep it out of the log
    :raises Misconfigured: when the platform's address, or that of its apps, is none over HTTP
    """

    def __init__(
        self,
        client: Client,
        task: Task | None = None,
        net_server: str | None = None,
        hide: Callable[[str], None] = logs.hide,
    ) -> None:
        self._client = client
        self._task = task
        self._server = _over_http(client.server, "SERVER_ADDRESS")
        self._net = _over_http(net_server, NET_SETTING) if net_server else self._server.under("net")
        self._hide = hide

    async def find(self) -> tuple[Address, ...]:
        """Return where the app listens now.

        :raises Unavailable: when it does not run, or the platform does not say where
        """
        address = await (self._by_task(self._task.id) if self._task else self._by_name())
        for secret in address.secrets:
            self._hide(secret)
        return (address,)

    async def _by_task(self, task_id: int) -> Address:
        info = await _answered(
            self._client.post("tasks.info", {"id": task_id}, repeatable=False),
            f"the platform has no task {task_id}, or the daemon's token may not see it: {_ADVICE}",
        )
        status = info.get("status") if isinstance(info, Mapping) else None
        if status in _ENDED:
            raise Unavailable(SERVICE, f"the app of task {task_id} has ended ({status}): {_ADVICE}")
        for name in _BASE_URL:
            info = info.get(name) if isinstance(info, Mapping) else None
        if not isinstance(info, str) or not info.strip("/"):
            raise Unavailable(SERVICE, f"task {task_id} listens nowhere (yet), or is no app: {_ADVICE}")
        return _below(self._server, info)

    async def _by_name(self) -> Address:
        absent = f"CLIP as Service does not run on the platform: {_ADVICE}"
        answer = await _answered(
            self._client.post_text("instance.get-render-previews-session-token", {"slug": SLUG}), absent
        )
        token = answer.strip()
        if token in ("", "null"):
            raise Unavailable(SERVICE, absent)
        if not _TOKEN.fullmatch(token):
            raise Unavailable(SERVICE, "the platform names a session of CLIP as Service by what is no token")
        self._hide(token)
        return _below(self._net, token)


async def _answered(call: Awaitable[_Answer], absent: str) -> _Answer:
    """Return what the platform answers; whatever else it does means that CLIP is away.

    :param absent: what it means when the platform refuses
    """
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await call
    except TimeoutError:
        problem = f"the platform has not said within {ANSWER_SECONDS:g} s where it is"
        raise Unavailable(SERVICE, problem) from None
    except Unavailable as away:
        problem = f"the platform cannot say where it is: {away.problem}"
        raise Unavailable(SERVICE, problem, away.retry_after) from away
    except UnknownCaller as unknown:
        problem = "the platform does not know the daemon's token, and so does not say where it is"
        raise Unavailable(SERVICE, problem) from unknown
    except (Denied, Rejected):
        # From none of them: a refusal quotes the server, whose words may hold a token.
        raise Unavailable(SERVICE, absent) from None


def _over_http(server: str, setting: str) -> Address:
    address = address_of(server, setting, "http")
    if address.scheme not in ("http", "https"):
        raise Misconfigured(setting, "must begin with http:// or https://")
    return address


def _below(server: Address, path: str) -> Address:
    try:
        return server.under(path)
    except Rejected:
        raise Unavailable(SERVICE, "the platform says that it is under a path that none can have") from None
