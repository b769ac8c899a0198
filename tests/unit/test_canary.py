import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from recognising import recognise

from daemon.encoders import canary
from daemon.encoders.palette import PaletteEncoder
from state.errors import Inconsistent, Rejected
from state.model import EncoderRecord, Pixels, TextEmbeddings, Vectors


class Catalogue:
    """The part of a store that knows encoders."""

    def __init__(self, *records: EncoderRecord) -> None:
        self.records = list(records)

    async def encoders(self) -> Sequence[EncoderRecord]:
        return self.records

    async def add_encoder(self, record: EncoderRecord) -> None:
        self.records.append(record)


class Model:
    """A random projection of the pixels: another seed is another model."""

    batch_size = 3
    picture_side = 224

    def __init__(
        self, seed: int, noise: float = 0, kind: str = "clip", dimension: int = 32, id: str | None = None
    ) -> None:
        self.kind, self.id, self.dimension = kind, id, dimension
        self._noise = np.random.default_rng(seed + 1000).normal(0, noise, dimension)
        self._weights = np.random.default_rng(seed).normal(size=(8 * 8 * 3, dimension))
        self.batches: list[int] = []

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        self.batches.append(len(pictures))
        return self._unit(np.stack([picture[::28, ::28].ravel() / 255 for picture in pictures]))

    async def encode_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        if any("dog" in text for text in texts):
            raise Rejected("dogs are unknown")
        codes = [np.resize([ord(letter) / 100 for letter in text], 8 * 8 * 3) for text in texts]
        return TextEmbeddings(self._unit(np.array(codes)))

    async def close(self) -> None:
        """Hold nothing."""

    def _unit(self, features: np.ndarray) -> Vectors:
        vectors = features @ self._weights
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) + self._noise
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_canary_pictures_are_the_same_for_ever() -> None:
    digest = hashlib.blake2b(b"".join(picture.tobytes() for picture in canary.pictures()), digest_size=8)
    assert digest.hexdigest() == "0b4422d51f6d2252"
    assert {picture.shape for picture in canary.pictures()} == {(224, 224, 3)}


def test_canary_pictures_are_unlike_each_other() -> None:
    flat = np.stack([picture.ravel() for picture in canary.pictures()]).astype(float)
    correlation = np.corrcoef(flat) - np.eye(len(flat))
    assert correlation.max() < 0.9


async def test_a_new_encoder_enters_the_catalogue_under_a_number() -> None:
    catalogue, model = Catalogue(), Model(1)
    assert await recognise(model, catalogue) == "clip-32-1" == model.id
    assert [record.id for record in catalogue.records] == ["clip-32-1"]


async def test_the_same_model_with_a_little_noise_keeps_its_id() -> None:
    catalogue = Catalogue()
    await recognise(Model(1), catalogue)
    assert await recognise(Model(1, noise=1e-4), catalogue) == "clip-32-1"
    assert len(catalogue.records) == 1


async def test_another_model_gets_the_next_number() -> None:
    catalogue = Catalogue()
    for seed in (1, 2, 3):
        assert await recognise(Model(seed), catalogue) == f"clip-32-{seed}"
    assert await recognise(Model(2), catalogue) == "clip-32-2"


async def test_the_same_model_keeps_its_id_whoever_runs_it() -> None:
    catalogue = Catalogue()
    await recognise(Model(1), catalogue)
    assert await recognise(Model(1, kind="onnx"), catalogue) == "clip-32-1"


async def test_another_kind_or_dimension_is_counted_anew() -> None:
    catalogue = Catalogue()
    await recognise(Model(1), catalogue)
    assert await recognise(Model(2, kind="onnx"), catalogue) == "onnx-32-1"
    assert await recognise(Model(1, dimension=16), catalogue) == "clip-16-1"


async def test_one_disagreeing_canary_makes_another_model() -> None:
    catalogue, model = Catalogue(), Model(1)
    vectors = await canary.encode(model)
    vectors[3] = vectors[4]
    catalogue.records.append(EncoderRecord("clip-32-1", "clip", 32, vectors))
    assert await recognise(model, catalogue) == "clip-32-2"


async def test_an_encoder_whose_name_stands_for_other_vectors_is_inconsistent() -> None:
    catalogue = Catalogue()
    await recognise(Model(1, id="palette-32-1"), catalogue)
    with pytest.raises(Inconsistent, match="palette-32-1"):
        await recognise(Model(2, id="palette-32-1"), catalogue)


async def test_texts_an_encoder_refuses_are_no_canaries() -> None:
    vectors = await canary.encode(Model(1))
    assert len(vectors) == len(canary.pictures()) + len(canary.TEXTS) - 1


async def test_canaries_come_in_batches_the_encoder_likes() -> None:
    model = Model(1)
    await canary.encode(model)
    assert max(model.batches) <= model.batch_size


async def test_the_palette_encoder_keeps_the_name_it_gives_itself() -> None:
    catalogue, encoder = Catalogue(), PaletteEncoder()
    name = encoder.id
    try:
        assert await recognise(encoder, catalogue) == name
        assert await recognise(encoder, catalogue) == name
    finally:
        await encoder.close()
    assert len(catalogue.records) == 1
