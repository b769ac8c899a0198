"""Requests that the platform hands on to an app."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest
import requests
from platform_emulator import Emulator, World
from platform_emulator.fixtures import Api, AsUser

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")


class App(ThreadingHTTPServer):
    """An app that notes what it is asked, and answers as it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answer: tuple[int, dict[str, Any]] = 200, {"collection_id": 7, "collectionId": 7}
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class _Asked(BaseHTTPRequestHandler):
    server: App

    def do_POST(self) -> None:
        body = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        status, answer = self.server.answer
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(orjson.dumps(answer))

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def app() -> Iterator[App]:
    with App() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_request_to_a_task_reaches_its_app_in_the_envelope(as_user: AsUser, world: World, app: App) -> None:
    token = world.user("anna")
    task = world.register_app(app.address)
    answer = as_user(token).task.send_request(task, "search", {"project_id": 1}, context={"teamId": 3})
    assert answer == app.answer[1]
    ((path, body),) = app.asked
    assert path == "/search"
    assert body == {
        "state": {"project_id": 1},
        "context": {"teamId": 3, "outside_request": True, "apiToken": token},
        "api_token": token,
        "server_address": world.address,
    }


def test_an_apps_refusal_reaches_the_caller(api: Api, world: World, app: App) -> None:
    app.answer = 404, {"message": "no such project"}
    with pytest.raises(requests.HTTPError) as refusal:
        api.task.send_request(world.register_app(app.address), "search", {}, context={})
    assert refusal.value.response.json() == {"message": "no such project"}


def test_a_dead_app_is_a_bad_gateway(api: Api, world: World) -> None:
    task = world.register_app("http://127.0.0.1:9")
    with pytest.raises(requests.HTTPError) as refusal:
        api.task.send_request(task, "search", {}, context={}, retries=1, raise_error=True)
    assert refusal.value.response.status_code == 502


def test_the_sdk_asks_whether_an_app_is_ready(api: Api, world: World, app: App) -> None:
    app.answer = 200, {"running": True, "mode": "production"}
    assert api.app.is_ready_for_api_calls(world.register_app(app.address)) is True
    assert api.app.is_ready_for_api_calls(4711) is False


def test_the_search_box_asks_for_search_or_diverse_by_its_method(
    api: Api, world: World, app: App, project: int
) -> None:
    world.register_ai_search(app.address)
    assert api.project.perform_ai_search(project, prompt="a cat") == 7
    assert api.project.perform_ai_search(project, method="random") == 7
    api.project.calculate_embeddings(project)
    assert [path for path, _ in app.asked] == ["/search", "/diverse", "/embeddings"]
    assert app.asked[0][1]["state"] == {
        "projectId": project,
        "limit": 100,
        "uniqueItems": 100,
        "prompt": "a cat",
    }


def test_a_service_is_discovered_and_reached_under_net(
    api: Api, world: World, app: App, emulator: Emulator
) -> None:
    slug = "supervisely-ecosystem/deploy-clip-as-service"
    world.register_service(slug, app.address)
    token = api.app.get_session_token(slug)
    assert requests.post(f"{emulator.address}/net/{token}/post", json={"data": []}, timeout=5).ok
    base = api.task.get_info_by_id(world.register_app(app.address))["settings"]["message"]["appInfo"][
        "baseUrl"
    ]
    assert requests.post(f"{emulator.address}{base}post", json={"data": [1]}, timeout=5).ok
    assert app.asked == [("/post", {"data": []}), ("/post", {"data": [1]})]
