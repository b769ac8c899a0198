from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import onnx_tiny_clip
import pytest
from aiohttp.test_utils import TestServer
from onnx_hub import TinyHub

from daemon.encoders import models
from daemon.encoders.onnx import OnnxEncoder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A whole tiny model, where the daemon looks for it in the state directory `tmp_path`."""
    directory = models.model_directory(tmp_path)
    onnx_tiny_clip.write(directory)
    onnx_tiny_clip.declare_whole(directory)
    return directory


@pytest.fixture
async def encoder(model: Path) -> AsyncIterator[OnnxEncoder]:
    encoder = await OnnxEncoder.open(model, threads=1)
    yield encoder
    await encoder.close()


@pytest.fixture
async def hub(tmp_path: Path) -> TinyHub:
    onnx_tiny_clip.write(tmp_path / "hub")
    return TinyHub(tmp_path / "hub")


@pytest.fixture
async def hub_url(hub: TinyHub) -> AsyncIterator[str]:
    server = TestServer(hub.app())
    await server.start_server()
    yield str(server.make_url(""))
    await server.close()
