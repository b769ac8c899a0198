"""A real Jina Flow over a tiny model: ``python tiny_flow.py PORT [PROTOCOL]``; runs until it is killed.

A vector of the model is a hash of what was sent, so whoever asks can tell the right answer from the ids,
the order or the bytes of another.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time

import numpy as np

DIMENSION = 64


def embedding(content: str | bytes) -> np.ndarray:
    """Return the model's vector of a text, or of a picture's bytes; not of unit length."""
    data = content.encode() if isinstance(content, str) else content
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
    return 3 * np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


def serve(port: int, protocol: str) -> None:
    os.environ |= {"NO_VERSION_CHECK": "1", "JINA_OPTOUT_TELEMETRY": "1", "JINA_LOG_LEVEL": "ERROR"}
    from jina import Executor, Flow, requests
    from PIL import Image

    class TinyClip(Executor):
        """Takes a text ``sleep 3`` literally, and a black picture for a corrupt one."""

        @requests
        def encode(self, docs, parameters, **_):
            for document in docs:
                if document.text.startswith("sleep "):
                    time.sleep(float(document.text.split()[1]))
                if document.blob:
                    with Image.open(io.BytesIO(document.blob)) as picture:
                        if picture.getextrema() == ((0, 0),) * 3:
                            raise ValueError("cannot identify image file")
                content = document.text or document.blob
                document.embedding = embedding(content) if content else None
                if parameters.get("drop_image_content"):
                    document.pop("blob")

    with Flow(protocol=protocol, port=port, host="127.0.0.1").add(uses=TinyClip) as flow:
        flow.block()


if __name__ == "__main__":
    serve(int(sys.argv[1]), *(sys.argv[2:] or ["grpc"]))
