import asyncio
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx_tiny_clip
import pytest
from PIL import Image
from recognising import recognise

from daemon.encoders import canary, models
from daemon.encoders.onnx import OnnxEncoder
from state.errors import Misconfigured, Rejected
from state.stores.memory import MemoryStore

FETCH = "embedsync model fetch"
INSTALL = "pip install --require-hashes --no-deps -r requirements/all.lock"


async def test_pictures_and_texts_become_unit_vectors_of_one_dimension(encoder: OnnxEncoder) -> None:
    pictures = await encoder.encode_images(canary.pictures())
    texts = (await encoder.encode_texts(["a photo of a dog", "blue sky"])).vectors
    assert pictures.shape == (len(canary.pictures()), encoder.dimension)
    assert texts.shape == (2, onnx_tiny_clip.DIMENSION)
    assert pictures.dtype == texts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm([*pictures, *texts], axis=1), 1, atol=1e-6)


async def test_the_vectors_are_those_the_models_compute(encoder: OnnxEncoder) -> None:
    grey = np.full((224, 224, 3), 100, np.uint8)
    features = (100 / 255 - np.array([0.48145466, 0.4578275, 0.40821073])) / [
        0.26862954,
        0.26130258,
        0.27577711,
    ]
    weights = np.random.default_rng(0).normal(size=(192, onnx_tiny_clip.DIMENSION))
    wanted = np.repeat(features, 64) @ weights
    (vector,) = await encoder.encode_images([grey])
    np.testing.assert_allclose(vector, wanted / np.linalg.norm(wanted), atol=1e-5)


async def test_a_vector_depends_neither_on_its_batch_nor_on_the_order(encoder: OnnxEncoder) -> None:
    pictures, texts = canary.pictures() * 5, ["a dog", "a photo of green grass", "red"]
    together = await encoder.encode_images(pictures)
    alone = [(await encoder.encode_images([picture]))[0] for picture in pictures[::-1]]
    np.testing.assert_allclose(together, alone[::-1], atol=1e-6)
    short, _, _ = [(await encoder.encode_texts([text])).vectors[0] for text in texts]
    np.testing.assert_allclose((await encoder.encode_texts(texts)).vectors[0], short, atol=1e-6)


async def test_pictures_may_have_any_shape_ribbons_too(encoder: OnnxEncoder) -> None:
    shapes = [(1, 1), (1, 224), (224, 1), (7, 5), (224, 168)]
    vectors = await encoder.encode_images([np.full((*shape, 3), 90, np.uint8) for shape in shapes])
    np.testing.assert_allclose(vectors, np.tile(vectors[0], (len(shapes), 1)), atol=1e-5)


async def test_a_ribbon_is_cut_before_it_is_enlarged(
    encoder: OnnxEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    embed = encoder._vision.embed

    def watched(images: list[Image.Image], batch_size: int) -> object:
        sizes.extend(image.size for image in images)
        return embed(images, batch_size)

    monkeypatch.setattr(encoder._vision, "embed", watched)
    ribbon = np.zeros((1, 224, 3), np.uint8)
    ribbon[:, 108:116] = 255
    white = np.full((1, 1, 3), 255, np.uint8)
    vectors = await encoder.encode_images([ribbon, ribbon.transpose(1, 0, 2), white])
    assert sizes == [(8, 1), (1, 8), (1, 1)]
    np.testing.assert_allclose(vectors, np.tile(vectors[2], (3, 1)), atol=1e-5)


async def test_an_empty_batch_is_an_empty_answer(encoder: OnnxEncoder) -> None:
    assert (await encoder.encode_images([])).shape == (0, onnx_tiny_clip.DIMENSION)
    assert (await encoder.encode_texts([])).vectors.shape == (0, onnx_tiny_clip.DIMENSION)


async def test_of_a_text_beyond_77_tokens_the_first_count(encoder: OnnxEncoder) -> None:
    long, longer = (await encoder.encode_texts(["dog " * 75, "dog " * 20_000])).vectors
    np.testing.assert_array_equal(long, longer)


@pytest.mark.parametrize("text", [" ", "nan", "infinity", "nothing"])
async def test_a_text_without_a_vector_is_rejected(encoder: OnnxEncoder, text: str) -> None:
    with pytest.raises(Rejected):
        await encoder.encode_texts(["a dog", text])


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
async def test_what_is_no_rgb_picture_is_rejected(encoder: OnnxEncoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(Rejected):
        await encoder.encode_images([np.zeros(shape, np.uint8)])


async def test_the_model_has_the_same_id_in_a_second_life_and_another_model_another(
    encoder: OnnxEncoder, model: Path, tmp_path: Path
) -> None:
    catalogue = MemoryStore()
    assert encoder.id is None
    assert await recognise(encoder, catalogue) == f"onnx-{onnx_tiny_clip.DIMENSION}-1"
    onnx_tiny_clip.write(tmp_path / "other", seed=7)
    onnx_tiny_clip.declare_whole(tmp_path / "other")
    ids = []
    for directory in (model, tmp_path / "other"):
        again = await OnnxEncoder.open(directory, threads=2)
        ids.append(await recognise(again, catalogue))
        await again.close()
    assert ids == [f"onnx-{onnx_tiny_clip.DIMENSION}-1", f"onnx-{onnx_tiny_clip.DIMENSION}-2"]


async def test_a_text_does_not_wait_for_pictures(
    encoder: OnnxEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    embed = encoder._vision.embed

    def slow(*arguments: object) -> object:
        assert released.wait(10)
        return embed(*arguments)

    monkeypatch.setattr(encoder._vision, "embed", slow)
    batches = [asyncio.create_task(encoder.encode_images(canary.pictures())) for _ in range(3)]
    await asyncio.wait_for(encoder.encode_texts(["a dog"]), 5)
    assert not any(batch.done() for batch in batches)
    released.set()
    await asyncio.gather(*batches)


async def test_the_loop_goes_on_while_a_batch_is_computed(
    encoder: OnnxEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = threading.Semaphore(0)
    embed = encoder._vision.embed

    def waiting_for_the_loop(*arguments: object) -> object:
        assert all(turns.acquire(timeout=10) for _ in range(10))
        return embed(*arguments)

    monkeypatch.setattr(encoder._vision, "embed", waiting_for_the_loop)
    batch = asyncio.create_task(encoder.encode_images(canary.pictures()))
    while not batch.done():
        turns.release()
        await asyncio.sleep(0.01)
    await batch


async def test_as_many_threads_compute_as_were_asked_for(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fastembed

    asked = {}
    for kind in ("ImageEmbedding", "TextEmbedding"):

        class Counting(getattr(fastembed, kind)):
            def __init__(self, *arguments: object, threads: int, **named: object) -> None:
                asked[type(self).__base__.__name__] = threads
                super().__init__(*arguments, threads=threads, **named)

        monkeypatch.setattr(fastembed, kind, Counting)
    before = threads_of_this_process()
    encoder = await OnnxEncoder.open(model, threads=3)
    assert asked == {"ImageEmbedding": 3, "TextEmbedding": 1}
    # Two of ONNX Runtime beside the caller, our two, and those of asyncio.to_thread.
    assert threads_of_this_process() - before <= 2 + 2 + 1
    await encoder.close()


def threads_of_this_process() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


async def test_loading_and_encoding_never_reach_for_the_network(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    encoder = await OnnxEncoder.open(model, threads=1)
    await encoder.encode_texts(["a dog"])
    await encoder.close()


async def test_a_model_that_was_never_fetched_is_named_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=f"no local model in .*{FETCH}"):
        await OnnxEncoder.open(models.model_directory(tmp_path), threads=1)


@pytest.mark.parametrize("name", ["vision/model.onnx", "text/model.onnx", "text/tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "shorter", "one bit"])
async def test_a_damaged_file_is_named_with_the_command(model: Path, name: str, damage: str) -> None:
    path = model / name
    data = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "shorter":
            path.write_bytes(data[:-9])
        case "one bit":
            path.write_bytes(data[:900] + bytes([data[900] ^ 1]) + data[901:])
    with pytest.raises(Misconfigured, match=f"{name} .*{FETCH}"):
        await OnnxEncoder.open(model, threads=1)


@pytest.mark.parametrize("manifest", ["", "[]", '{"files": {"a": 1}}', '{"files": {}}'])
async def test_a_damaged_manifest_is_named_with_the_command(model: Path, manifest: str) -> None:
    (model / "manifest.json").write_text(manifest)
    with pytest.raises(Misconfigured, match=FETCH):
        await OnnxEncoder.open(model, threads=1)
    assert models.local_model(model.parent.parent) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [("vision/model.onnx", b"no model"), ("text/tokenizer_config.json", b"{}"), ("vision/model.onnx", b"")],
)
async def test_files_that_are_no_such_model_are_misconfigured(model: Path, name: str, content: bytes) -> None:
    (model / name).write_bytes(content)
    onnx_tiny_clip.declare_whole(model)
    with pytest.raises(Misconfigured, match=f"cannot be used.*{FETCH}"):
        await OnnxEncoder.open(model, threads=1)


async def test_halves_of_two_models_are_not_taken_for_one(tmp_path: Path) -> None:
    onnx_tiny_clip.write(tmp_path, text_dimension=16)
    onnx_tiny_clip.declare_whole(tmp_path)
    with pytest.raises(Misconfigured, match="pictures have 24 dimensions, texts 16"):
        await OnnxEncoder.open(tmp_path, threads=1)


async def test_without_the_extra_it_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(Misconfigured, match=f"extra `onnx`: {INSTALL}"):
        await OnnxEncoder.open(model, threads=1)


def test_the_hint_is_one_line_and_installs_only_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.hint().endswith(f"a real CLIP: {FETCH}")
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    assert models.hint().endswith("`make model`, or docs/encoders.md")


def test_a_model_counts_as_fetched_when_every_file_has_its_size(model: Path, tmp_path: Path) -> None:
    assert models.local_model(tmp_path) == model
    (model / "text/tokenizer.json").write_bytes(b"{}")
    assert models.local_model(tmp_path) is None
    shutil.rmtree(model)
    assert models.local_model(tmp_path) is None


def test_the_modules_load_nothing_slow_before_a_model_is_opened() -> None:
    script = (
        "import sys, daemon.encoders.onnx, daemon.encoders.fetch, daemon.model_commands;"
        "print([name for name in ('fastembed', 'onnxruntime', 'huggingface_hub') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.strip() == "[]"
