"""The daemon, but at SIGUSR1 it writes how many tasks its loop has into the file named by ``TASKS``."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from daemon import service
from daemon.__main__ import main

serve = service.serve


async def counted(*arguments: Any) -> None:
    file = Path(os.environ["TASKS"])

    def count() -> None:
        file.write_text(str(len(asyncio.all_tasks())))

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, count)
    await serve(*arguments)


if __name__ == "__main__":
    service.serve = counted
    main()
