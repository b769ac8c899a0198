"""Records what a real gateway answers over HTTP: ``python tests/wire/wire_record.py``, by ``make wire``.

Left out of the answers is what differs from one time to the next: stack traces, times, ports, request ids.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image
from wire_gateway import Gateway

ANSWERS = Path(__file__).with_name("answers")

_CHANGES = re.compile(
    r'(?<="requestId": ")\w+|(?<=Time": ")[^"]+|(?<="stacks": )\[[^\]]*"\]|(?<=\d\.\d:)\d+|\b0x[0-9a-f]+'
)


def coloured(*colour: int) -> str:
    """A picture of one colour, as it is sent."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def asking(*documents: dict[str, str]) -> dict[str, Any]:
    """A request as embedsync writes it."""
    data = [{"id": str(number), **document} for number, document in enumerate(documents)]
    return {"data": data, "execEndpoint": "/", "parameters": {"drop_image_content": True}}


REQUESTS: dict[str, Any] = {
    "ready": None,
    "texts": asking({"text": "a dog"}, {"text": "größer als ein Haus"}),
    "pictures": asking({"blob": coloured(200, 40, 30)}, {"blob": coloured(10, 90, 230)}),
    "an_empty_text": asking({"text": ""}),
    "an_empty_picture": asking({"blob": ""}),
    "bad_base64": asking({"blob": "%%%"}),
    "half_a_base64": asking({"blob": "abcde"}),
    "no_picture": asking({"blob": "AAAA"}),
    "the_executor_fails": asking({"blob": coloured(9, 9, 9)}, {"blob": coloured(0, 0, 0)}),
    "nan": asking({"blob": coloured(255, 255, 255)}),
    "malformed": {"data": 7},
}
WITHOUT_EXECUTOR: dict[str, Any] = {"not_ready": None, "the_executor_is_away": asking({"text": "a dog"})}


async def answer(session: aiohttp.ClientSession, body: Any) -> dict[str, Any]:
    """Ask, and return status and answer, with the request."""
    asked = session.get("/dry_run") if body is None else session.post("/post", json=body)
    async with asked as response:
        text = await response.text()
        kind = response.content_type
    if kind == "application/json":
        text = json.dumps(json.loads(text), ensure_ascii=False)
    return {"request": body, "status": response.status, "type": kind, "answer": settled(text)}


def settled(text: str) -> str:
    """Return an answer without what differs from one time to the next."""
    return _CHANGES.sub(lambda found: "[]" if found[0].startswith("[") else "0", text)


async def record(gateway: Gateway, directory: Path) -> None:
    """Write a file for each request."""
    # After some of these the connection is reset under the next request.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(gateway.urls["http"], connector=connector) as session:
        answers = {name: await answer(session, body) for name, body in REQUESTS.items()}
        await asyncio.to_thread(gateway.end_executor)
        answers |= {name: await answer(session, body) for name, body in WITHOUT_EXECUTOR.items()}
    for name, one in answers.items():
        text = json.dumps(one, ensure_ascii=False, indent=1)
        (directory / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    ANSWERS.mkdir(exist_ok=True)
    with Gateway(os.environ["WIRE_PYTHON"]) as running:
        asyncio.run(record(running, ANSWERS))
