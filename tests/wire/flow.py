"""A real Jina flow with an executor of ours, for the environment of requirements/wire.lock.

``python flow.py 8001 8002 8003`` serves HTTP, websocket and gRPC on these ports. It says ``ready`` when it
does; at a line on its input it ends the executor and says ``alone``; it stops at its input's end.
"""

import os
import sys
from pathlib import Path

os.environ |= {"JINA_OPTOUT_TELEMETRY": "1", "NO_VERSION_CHECK": "1", "JINA_LOG_LEVEL": "CRITICAL"}
sys.path.insert(0, str(Path(__file__).parents[1] / "clip_emulator"))

import numpy as np
from docarray import DocumentArray
from jina import Executor, Flow, requests
from model import Model, decoded

DIMENSION = 64


class Tiny(Executor):
    """Embeds without weights. A black picture counts as corrupt, a white one comes out as NaN."""

    @requests
    def encode(self, docs: DocumentArray, **_: object) -> DocumentArray:
        model = Model(dimension=DIMENSION)
        for document in docs:
            if document.blob:
                pixels = decoded(document.blob)
                if not pixels.any():
                    raise OSError("cannot identify image file")
                white = pixels.min() == 255
                document.embedding = np.full(DIMENSION, np.nan) if white else model.of_picture(pixels)
                document.pop("blob")
            elif document.text:
                document.embedding = model.of_text(document.text)
        return docs


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main() -> None:
    ports = [int(port) for port in sys.argv[1:]]
    flow = Flow(protocol=["http", "websocket", "grpc"], port=ports, host="127.0.0.1")
    with flow.add(uses=Tiny) as running:
        say("ready")
        if sys.stdin.readline():
            running._deployment_nodes["executor0"].close()
            say("alone")
            sys.stdin.read()


if __name__ == "__main__":
    main()
