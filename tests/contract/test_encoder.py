"""What every encoder must do, whatever it is made of."""

from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from daemon.encoders.canary import pictures
from daemon.encoders.palette import PaletteEncoder
from state.errors import Rejected
from state.ports import Encoder

ENCODERS: dict[str, Callable[[], Encoder]] = {"palette": PaletteEncoder}


@pytest.fixture(params=ENCODERS)
async def encoder(request: pytest.FixtureRequest) -> AsyncIterator[Encoder]:
    encoder = ENCODERS[request.param]()
    yield encoder
    await encoder.close()


async def test_pictures_become_finite_unit_vectors_of_the_stated_dimension(encoder: Encoder) -> None:
    vectors = await encoder.encode_images(pictures())
    assert vectors.shape == (len(pictures()), encoder.dimension)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_texts_become_finite_unit_vectors_of_the_same_space(encoder: Encoder) -> None:
    texts = await encoder.encode_texts(["dark red", "blue"])
    assert texts.vectors.shape == (2, encoder.dimension)
    assert texts.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(texts.vectors, axis=1), 1, atol=1e-5)
    assert texts.ignored in ((), ((), ()))


async def test_order_is_kept(encoder: Encoder) -> None:
    forwards = await encoder.encode_images(pictures())
    backwards = await encoder.encode_images(pictures()[::-1])
    np.testing.assert_allclose(forwards, backwards[::-1], atol=1e-6)


async def test_a_vector_does_not_depend_on_its_batch(encoder: Encoder) -> None:
    together = await encoder.encode_images(pictures())
    alone = [(await encoder.encode_images([picture]))[0] for picture in pictures()]
    np.testing.assert_allclose(together, alone, atol=1e-6)


async def test_two_encoders_of_a_kind_agree(encoder: Encoder, request: pytest.FixtureRequest) -> None:
    twin = ENCODERS[request.node.callspec.params["encoder"]]()
    try:
        np.testing.assert_allclose(
            await encoder.encode_images(pictures()), await twin.encode_images(pictures()), atol=1e-6
        )
    finally:
        await twin.close()


async def test_pictures_may_have_any_shape(encoder: Encoder) -> None:
    shapes = [(1, 1), (1, 300), (300, 1), (7, 5), (224, 224)]
    vectors = await encoder.encode_images([np.full((*shape, 3), 90, np.uint8) for shape in shapes])
    assert np.isfinite(vectors).all()


async def test_an_empty_batch_is_an_empty_answer(encoder: Encoder) -> None:
    assert (await encoder.encode_images([])).shape == (0, encoder.dimension)
    assert (await encoder.encode_texts([])).vectors.shape == (0, encoder.dimension)


async def test_a_text_without_meaning_is_rejected(encoder: Encoder) -> None:
    with pytest.raises(Rejected):
        await encoder.encode_texts(["blue", " "])


@pytest.mark.parametrize(
    "broken",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
    ids=["grey", "four channels", "empty"],
)
async def test_what_is_no_rgb_picture_is_rejected(encoder: Encoder, broken: np.ndarray) -> None:
    with pytest.raises(Rejected):
        await encoder.encode_images([pictures()[0], broken])
