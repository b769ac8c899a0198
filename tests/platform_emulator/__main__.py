"""``python -m tests.platform_emulator``: the platform alone, with something on it."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading

from .emulator import Emulator
from .pictures import photographs
from .world import World


def filled(projects: int, images: int, user: str) -> tuple[World, str]:
    """Make a world of photographs and painted pictures; return it, and a user's token who may read it."""
    world = World()
    token = world.user(user)
    found = list(photographs())
    for number in range(1, projects + 1):
        project_id = world.project(f"project {number}")
        mine = found[number - 1 :: projects][:images]
        top = world.dataset(project_id, "photographs")
        world.add(top, [data for _, data in mine], names=[name for name, _ in mine])
        world.add(world.dataset(project_id, "painted", top), count=images - len(mine))
        world.grant(token, project_id, write=True)
    return world, token


def run_daemon(emulator: Emulator) -> int:
    """Run the daemon against the emulator until it ends; a signal to the terminal reaches it too."""
    settings = {
        "SERVER_ADDRESS": emulator.address,
        "API_TOKEN": emulator.world.admin_token,
        "IMGPROXY_ADDRESS": f"{emulator.address}/imgproxy",
        "ENCODER": "palette",
        "NEWS_SECONDS": "1",
        "SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK": "1",
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        environment = {**os.environ, "STATE_DIR": directory, **settings}
        daemon = subprocess.Popen([sys.executable, "-m", "daemon", "run"], env=environment)
        signal.signal(signal.SIGTERM, lambda *_: daemon.terminate())
        return daemon.wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.platform_emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--projects", type=int, default=3)
    parser.add_argument("--images", type=int, default=300, help="in all")
    parser.add_argument("--app", help="where the daemon listens, such as http://127.0.0.1:8000")
    parser.add_argument("--run", action="store_true", help="run the daemon against it, too")
    chosen = parser.parse_args()
    if chosen.run:
        chosen.app = f"http://127.0.0.1:{os.environ.get('PORT') or 8000}"
    world, token = filled(chosen.projects, max(0, chosen.images) // max(1, chosen.projects), "somebody")
    task = ""
    if chosen.app:
        task = f"TASK_ID={world.register_app(chosen.app)}\n"
        world.register_ai_search(chosen.app)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with Emulator(world, chosen.port) as emulator:
        sys.stdout.write(
            f"SERVER_ADDRESS={emulator.address}\nAPI_TOKEN={world.admin_token}\nUSER_TOKEN={token}\n"
            f"IMGPROXY_ADDRESS={emulator.address}/imgproxy\n{task}"
        )
        sys.stdout.flush()
        if chosen.run:
            sys.exit(run_daemon(emulator))
        stopped.wait()


if __name__ == "__main__":
    main()
