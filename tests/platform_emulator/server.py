"""The platform's routes: its methods, its pictures, and the doors through which a test works the world."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
from aiohttp import ClientSession, web

from . import entities, forwarding, images, people, projects
from .counters import Counters
from .faults import Fault, Faults, instead, spoilt
from .forwarding import dumped
from .listing import Body
from .model import Refused, User
from .pictures import Content, Painted, resized
from .tables import BUCKET
from .wants import identifier
from .world import World

API = "/public/api/v3/"
_BODY_BYTES = 64 * 2**20

_OPEN: dict[str, Callable[[World, None, Body], Any]] = {
    "instance.version": people.version,
    "instance.admin-info": people.admin_info,
}
_METHODS: dict[str, Callable[[World, User, Body], Any]] = {
    "instance.get-render-previews-session-token": people.session_token,
    "users.me": people.me,
    "teams.info": people.team_info,
    "teams.list": people.teams,
    "teams.activity": people.activity,
    "workspaces.info": people.workspace_info,
    "workspaces.list": people.workspaces,
    "tasks.info": people.task_info,
    "projects.list": projects.list_,
    "projects.list.all": projects.list_all,
    "projects.info": projects.info,
    "projects.editInfo": projects.edit,
    "projects.embeddings-in-progress.update": projects.set_embeddings_in_progress,
    "datasets.list": projects.datasets,
    "datasets.info": projects.dataset_info,
    "images.list": images.list_,
    "images.info": images.info,
    "images.embeddings-updated-at.update": images.set_embeddings_updated_at,
    "entities-collections.add": entities.add,
    "entities-collections.remove": entities.remove,
    "entities-collections.list": entities.list_,
    "entities-collections.info": entities.info,
    "entities-collections.items.bulk.add": entities.add_items,
    "entities-collections.items.bulk.remove": entities.remove_items,
}
_FORWARDED: dict[str, Callable[[World, ClientSession, User, Body], Awaitable[web.Response]]] = {
    "tasks.request.direct": forwarding.to_task,
    "embeddings.send-ai-search": forwarding.to_ai_search,
    "embeddings.calculate-project-embeddings": forwarding.to_embeddings,
}
_SESSION = web.AppKey("session", ClientSession)
_STORED = re.compile(rf"{BUCKET}/images/original/(?P<key>[\w-]+)\.\w+")
_REMOTE = re.compile(r"remote/(?P<id>\d+)\.\w+")


class Platform:
    """The routes over a world, with its counters and faults."""

    def __init__(self, world: World, faults: Faults, counters: Counters) -> None:
        self.world = world
        self.faults = faults
        self.counters = counters

    def application(self) -> web.Application:
        app = web.Application(client_max_size=_BODY_BYTES, middlewares=[self._counted, self._faulty])
        app.cleanup_ctx.append(self._session)
        preview = r"/{options:q/.*?}/plain/{path:.*}"
        app.add_routes(
            [
                web.post(API + "{method}", self._call),
                web.get(f"/{{path:{BUCKET}/.*}}", self._original, name="storage"),
                web.get("/{path:remote/.*}", self._original, name="remote"),
                web.get("/previews" + preview, self._preview, name="previews"),
                web.get("/imgproxy" + preview, self._preview, name="imgproxy"),
                web.route("*", "/net/{token}/{tail:.*}", self._net, name="net"),
                web.get("/emulator/counters", self._show_counters, name="emulator-counters"),
                web.post("/emulator/faults", self._add_fault, name="emulator-faults"),
                web.delete("/emulator/faults", self._clear_faults, name="emulator-no-faults"),
                web.post("/emulator/{operation}", self._operate, name="emulator"),
            ]
        )
        return app

    async def _session(self, app: web.Application) -> AsyncIterator[None]:
        async with ClientSession() as session:
            app[_SESSION] = session
            yield

    @web.middleware
    async def _counted(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        name, token = _name(request), request.headers.get("x-api-key")
        user = self.world.users.get(token or "")
        self.counters.calls[name] += 1
        self.counters.callers[name, user.login if user else "a stranger" if token else "nobody"] += 1
        try:
            return await handler(request)
        except Refused as refusal:
            answer = {"error": refusal.error, "details": refusal.details}
            return web.json_response(answer, status=refusal.status)

    @web.middleware
    async def _faulty(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        struck = self.faults.striking(_name(request))
        for fault in struck:
            if (answer := await instead(fault, request)) is not None:
                return answer
        response = await handler(request)
        for fault in struck:
            response = await spoilt(fault, request, response)
        return response

    async def _call(self, request: web.Request) -> web.Response:
        method, body = request.match_info["method"], await _body(request)
        if method in _OPEN:
            return dumped(_OPEN[method](self.world, None, body))
        with self.world.lock:
            caller = self.world.caller(request.headers.get("x-api-key"))
        if method in _FORWARDED:
            return await _FORWARDED[method](self.world, request.app[_SESSION], caller, body)
        with self.world.lock:
            if method == "images.download":
                return self._downloaded(method, caller, body)
            if method == "images.bulk.download":
                return self._downloaded_together(method, caller, body)
            if method not in _METHODS:
                raise Refused(404, "Not found", message=f"There is no method {method}")
            answer = _METHODS[method](self.world, caller, body)
        if isinstance(answer, str):
            return web.Response(text=answer)
        self.counters.rows[method] += len(answer.get("entities", ()))
        return dumped(answer)

    def _downloaded(self, method: str, caller: User, body: Body) -> web.Response:
        content = self.world.readable_image(caller, identifier(body, "id")).content
        self.counters.rows[method] += 1
        headers = {"x-content-checksum-sha256": content.hash}
        return web.Response(body=content.data, content_type=content.mime, headers=headers)

    def _downloaded_together(self, method: str, caller: User, body: Body) -> web.Response:
        boundary, found = "boundary-between-images", images.of_dataset(self.world, caller, body)
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{image.id}"\r\n'
            f"Content-Type: {image.content.mime}\r\n\r\n".encode()
            + image.content.data
            + b"\r\n"
            for image in found
        ]
        self.counters.rows[method] += len(found)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return web.Response(body=b"".join([*parts, f"--{boundary}--\r\n".encode()]), headers=headers)

    async def _original(self, request: web.Request) -> web.Response:
        content = self._content(request.match_info["path"])
        return web.Response(body=content.data, content_type=content.mime)

    async def _preview(self, request: web.Request) -> web.Response:
        path, options = request.match_info["path"], request.match_info["options"]
        if _REMOTE.fullmatch(path) and not self.world.rules.links_have_previews:
            raise Refused(404, "Not found")
        data = self._content(path).data
        try:
            body, mime = resized(data, options)
        except (OSError, ValueError) as error:
            raise Refused(422, "Invalid source image") from error
        return web.Response(body=body, content_type=mime)

    def _content(self, path: str) -> Content:
        with self.world.lock:
            if remote := _REMOTE.fullmatch(path):
                image = self.world.images.get(int(remote["id"]))
                content = image.content if image else None
            else:
                stored = _STORED.fullmatch(path)
                content = self._stored(stored["key"]) if stored else None
        if content is None:
            raise Refused(404, "Not found")
        return content

    def _stored(self, key: str) -> Content | None:
        kind, _, seed = key.partition("-")
        return Painted(int(seed)) if kind == "painted" and seed.isdecimal() else self.world.uploads.get(key)

    async def _net(self, request: web.Request) -> web.Response:
        return await forwarding.to_net(self.world, request.app[_SESSION], request)

    async def _show_counters(self, request: web.Request) -> web.Response:
        return dumped(self.counters.shown())

    async def _add_fault(self, request: web.Request) -> web.Response:
        self.faults.add(Fault(**await _body(request)))
        return dumped({})

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self.faults.clear()
        return dumped({})

    async def _operate(self, request: web.Request) -> web.Response:
        name = request.match_info["operation"]
        if name.startswith("_") or name not in vars(World):
            raise Refused(404, "Not found", message="The world has no such operation")
        try:
            return dumped({"result": getattr(self.world, name)(**await _body(request))})
        except (TypeError, KeyError) as error:
            raise Refused(400, "Validation failed", message=repr(error)) from error


def _name(request: web.Request) -> str:
    return request.match_info.get("method") or request.match_info.route.name or "unknown"


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.read() or b"{}")
    except orjson.JSONDecodeError as error:
        raise Refused(400, "Bad request", message="The body is no JSON") from error
    if not isinstance(body, dict):
        raise Refused(400, "Bad request", message="The body is no object")
    return body
