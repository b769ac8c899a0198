"""What the transport is to the process: where it may connect, whom it trusts, and that signals work."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import trustme
from fake_gateway import FakeGateway

from daemon.encoders import clip_grpc
from daemon.encoders.clip_grpc import GrpcClip
from state.errors import Misconfigured, Unavailable

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_amid_a_slow_batch_ends_the_process_well(number: int) -> None:
    came = asyncio.Event()

    async def hang(data: bytes, context: Any) -> bytes:
        came.set()
        await asyncio.sleep(30)
        return b""

    async with FakeGateway() as gateway:
        gateway.encode = hang
        asker = await asyncio.create_subprocess_exec(
            sys.executable,
            Path(__file__).with_name("clip_asker.py"),
            gateway.url,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(20):
                await came.wait()
                sent = time.monotonic()
                asker.send_signal(number)
                said, _ = await asker.communicate()
        finally:
            if asker.returncode is None:
                asker.kill()
                await asker.wait()
        assert (said, asker.returncode) == (b"stopped\n", 0)
        assert time.monotonic() - sent < 5


async def test_no_signal_handler_is_taken() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with FakeGateway() as gateway:
        clip = GrpcClip(gateway.url)
        await clip.ready()
        await clip.encode_texts(["a dog"])
        await clip.close()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_nothing_of_jina_is_loaded() -> None:
    program = (
        "import sys, daemon.encoders.clip_grpc as one, daemon.encoders.clip_messages as two\n"
        "two.request('text', ['a dog']); one._prepare(False)\n"
        "print(sorted({'jina', 'clip_client', 'docarray', 'hubble'} & sys.modules.keys()))"
    )
    python = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await python.communicate()
    assert said == b"[]\n"


async def test_over_tls_the_roots_of_trust_are_those_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    pair = issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()
    roots = tmp_path / "roots.pem"
    authority.cert_pem.write_to_path(roots)
    async with FakeGateway(grpc.ssl_server_credentials([pair])) as gateway:
        stranger = GrpcClip(gateway.url)
        with pytest.raises(Unavailable, match="its certificate cannot be trusted"):
            await stranger.ready()
        await stranger.close()
        monkeypatch.setenv("SSL_CERT_FILE", str(roots))
        clip_grpc._prepare.cache_clear()
        trusting = GrpcClip(gateway.url)
        await trusting.ready()
        assert np.isfinite(await trusting.encode_images([np.full((8, 8, 3), 7, np.uint8)])).all()
        await trusting.close()
    clip_grpc._prepare.cache_clear()


@pytest.mark.parametrize(
    "address",
    [
        "grpc://host",
        "grpc://host:51000/net/a-secret-path",
        "grpc://a-secret-user@host:51000",
        "http://host:51000",
        "grpc://:51000",
        "grpc://host:port",
        "host:51000",
    ],
)
def test_an_address_that_grpc_cannot_go_to_is_misconfigured_and_not_repeated(address: str) -> None:
    with pytest.raises(Misconfigured, match="CLIP_HOST") as refused:
        GrpcClip(address)
    assert "secret" not in str(refused.value)


def test_a_token_no_header_can_carry_is_misconfigured() -> None:
    with pytest.raises(Misconfigured, match="CLIP_AUTH_TOKEN"):
        GrpcClip("grpc://host:51000", "a\nb")


@pytest.mark.parametrize("module", ["not_there", "not_there.either"])
def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setattr(GrpcClip, "needs", ("grpc", module))
    with pytest.raises(Misconfigured, match="extra `clip`"):
        GrpcClip("grpc://host:51000")


async def test_no_vectors_are_asked_for_nothing() -> None:
    clip = GrpcClip("grpc://127.0.0.1:1")
    assert (await clip.encode_images([])).shape == (0, 0)
    assert (await clip.encode_texts([])).vectors.shape == (0, 0)
    await clip.close()
