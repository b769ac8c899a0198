import asyncio
import io
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from daemon.encoders.palette import PaletteEncoder
from daemon.encoders.palette_prompt import read
from daemon.encoders.palette_words import DEGREES, FAMILIES, OTHER_COLOURS, QUALITIES, SHADES
from daemon.folder.samples import fill
from daemon.pictures import decode
from state.errors import Rejected
from state.model import Pixels, Vectors

NAMED = {
    "red": (205, 28, 32),
    "dark red": (110, 15, 20),
    "light red": (235, 110, 100),
    "orange": (245, 135, 25),
    "yellow": (240, 220, 50),
    "green": (45, 150, 55),
    "turquoise": (35, 180, 180),
    "blue": (30, 80, 200),
    "navy": (20, 35, 90),
    "light blue": (135, 185, 235),
    "purple": (130, 50, 175),
    "pink": (238, 115, 165),
    "brown": (120, 75, 45),
    "beige": (196, 160, 120),
    "black": (8, 8, 8),
    "dark grey": (60, 60, 60),
    "light gray": (188, 188, 188),
    "white": (250, 250, 250),
}


@pytest.fixture(scope="module")
def encoder() -> Iterator[PaletteEncoder]:
    encoder = PaletteEncoder()
    yield encoder
    asyncio.run(encoder.close())


def plain(colour: tuple[int, int, int]) -> Pixels:
    return np.full((60, 90, 3), colour, np.uint8)


def split(first: str, second: str, across: bool = False) -> Pixels:
    picture = plain(NAMED[first])
    picture[(slice(None), slice(45, None)) if across else slice(30, None)] = NAMED[second]
    return picture


async def scores(encoder: PaletteEncoder, prompt: str, pictures: dict[str, Pixels]) -> dict[str, float]:
    text = (await encoder.encode_texts([prompt])).vectors[0]
    cosines = (await encoder.encode_images(list(pictures.values()))) @ text
    ranked = sorted(zip(pictures, cosines.tolist(), strict=True), key=lambda pair: -pair[1])
    return dict(ranked)


async def first(encoder: PaletteEncoder, prompt: str, pictures: dict[str, Pixels]) -> str:
    return next(iter(await scores(encoder, prompt, pictures)))


@pytest.mark.parametrize("name", NAMED)
async def test_a_plain_colour_is_found_by_its_name(encoder: PaletteEncoder, name: str) -> None:
    pictures = {other: plain(colour) for other, colour in NAMED.items()}
    assert await first(encoder, name, pictures) == name


async def test_a_place_says_where_the_colour_is(encoder: PaletteEncoder) -> None:
    pictures = {
        "top": split("blue", "white"),
        "bottom": split("white", "blue"),
        "left": split("blue", "white", across=True),
        "right": split("white", "blue", across=True),
    }
    for place in pictures:
        assert await first(encoder, f"blue {place}", pictures) == place
        assert await first(encoder, f"{place} bluish", pictures) == place


async def test_a_colour_everywhere_comes_behind_one_in_its_place(encoder: PaletteEncoder) -> None:
    pictures = {"all": plain(NAMED["blue"]), "top": split("blue", "green"), "none": plain(NAMED["green"])}
    assert list(await scores(encoder, "blue top", pictures)) == ["top", "all", "none"]


async def test_both_of_two_colours_are_wanted(encoder: PaletteEncoder) -> None:
    pictures = {"both": split("red", "blue"), "red": plain(NAMED["red"]), "blue": plain(NAMED["blue"])}
    assert await first(encoder, "red and blue", pictures) == "both"


async def test_a_colour_each_in_its_place(encoder: PaletteEncoder) -> None:
    pictures = {"as asked": split("red", "blue"), "upside down": split("blue", "red")}
    for prompt in ("red top blue bottom", "top red bottom blue", "red above and blue below"):
        assert await first(encoder, prompt, pictures) == "as asked"


async def test_no_red_prefers_pictures_without(encoder: PaletteEncoder) -> None:
    pictures = {"red": plain(NAMED["red"]), "some": split("red", "green"), "none": plain(NAMED["green"])}
    found = await scores(encoder, "no red", pictures)
    assert list(found) == ["none", "some", "red"]
    assert found["red"] < 0 < found["none"]


async def test_a_picture_that_does_not_match_scores_below_zero(encoder: PaletteEncoder) -> None:
    found = await scores(encoder, "green", {"green": plain(NAMED["green"]), "red": plain(NAMED["red"])})
    assert found["green"] > 0.5
    assert found["red"] < 0


def grey(values: np.ndarray) -> Pixels:
    return np.repeat(values[..., None], 3, -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("bright", "white"),
        ("dark", "black"),
        ("low brightness", "black"),
        ("high contrast", "checks"),
        ("textured", "noise"),
        ("colourful", "rainbow"),
        ("colorful", "rainbow"),
        ("vertical", "vertical stripes"),
        ("horizontal", "horizontal stripes"),
        ("diagonal", "diagonal stripes"),
        ("warm", "orange"),
        ("cold", "blue"),
    ],
)
async def test_a_quality_is_found_by_its_word(encoder: PaletteEncoder, prompt: str, expected: str) -> None:
    y, x = np.mgrid[0:96, 0:96]
    noise = np.random.default_rng(0).integers(100, 156, (96, 96))
    rainbow = np.array(
        [NAMED[name] for name in ("red", "yellow", "green", "blue", "purple", "pink")], np.uint8
    )
    pictures = {
        "white": plain(NAMED["white"]),
        "black": plain(NAMED["black"]),
        "grey": plain((128, 128, 128)),
        "orange": plain(NAMED["orange"]),
        "blue": plain(NAMED["blue"]),
        "checks": grey((x // 32 + y // 32) % 2 * 255),
        "noise": grey(noise),
        "rainbow": rainbow[x // 16],
        "vertical stripes": grey(100 + x // 8 % 2 * 60),
        "horizontal stripes": grey(100 + y // 8 % 2 * 60),
        "diagonal stripes": grey(100 + (x + y) // 11 % 2 * 60),
    }
    assert await first(encoder, prompt, pictures) == expected


async def test_spellings_and_punctuation_do_not_matter(encoder: PaletteEncoder) -> None:
    same = ["Dark-Gray, left!", "dark grey LEFT", "a dark   greyish picture, (left)"]
    vectors = (await encoder.encode_texts(same)).vectors
    assert (vectors @ vectors[1]).min() > 0.999


async def test_words_it_does_not_know_are_reported(encoder: PaletteEncoder) -> None:
    texts = await encoder.encode_texts(["red", "a red car at night", "blue top bottom"])
    assert texts.ignored == ((), ("car", "night"), ())


async def test_a_prompt_of_unknown_words_is_rejected_with_the_known_ones(encoder: PaletteEncoder) -> None:
    with pytest.raises(Rejected, match=r"'a dog'.*turquoise.*bright.*bottom.*smooth"):
        await encoder.encode_texts(["red", "a dog"])


@pytest.mark.parametrize("prompt", ["", "top left", "no", "high", "the picture", "🐕 犬"])
async def test_a_prompt_that_describes_nothing_is_rejected(encoder: PaletteEncoder, prompt: str) -> None:
    with pytest.raises(Rejected, match="names no colour"):
        await encoder.encode_texts([prompt])


async def test_a_prompt_that_takes_back_what_it_says_is_rejected(encoder: PaletteEncoder) -> None:
    with pytest.raises(Rejected, match="cancel each other out"):
        await encoder.encode_texts(["red but no red"])


@pytest.mark.parametrize("word", [*FAMILIES, *OTHER_COLOURS, *SHADES, *QUALITIES])
async def test_every_word_it_claims_to_know_says_something(encoder: PaletteEncoder, word: str) -> None:
    texts = await encoder.encode_texts([word, f"top {word}", f"no {word}"])
    assert texts.ignored == ((), (), ())
    np.testing.assert_allclose(texts.vectors[0], -texts.vectors[2], atol=1e-6)


@pytest.mark.parametrize("degree", DEGREES)
def test_a_degree_turns_a_quality(degree: str) -> None:
    (phrase,), ignored = read(f"{degree} contrast")
    assert phrase.qualities == {"contrast": DEGREES[degree]}
    assert ignored == ()


def test_a_degree_reaches_into_a_phrase_of_its_own() -> None:
    smooth, contrast = read("smooth top low contrast")[0]
    assert (smooth.qualities, contrast.qualities) == ({"texture": -1}, {"contrast": -1})


def test_a_shade_before_a_colour_chooses_its_tint() -> None:
    (phrase,), _ = read("dark red light blue")
    assert phrase.colours == [("dark red",), ("light blue",)]
    assert phrase.qualities == {}


def test_a_shade_alone_is_a_quality_of_its_place() -> None:
    upper, lower = read("dark top bright bottom")[0]
    assert (upper.qualities, upper.rows) == ({"brightness": -1}, {0})
    assert (lower.qualities, lower.rows) == ({"brightness": 1}, {2})


def test_centre_fills_what_another_place_leaves_open() -> None:
    assert [(phrase.rows, phrase.columns) for phrase in read("green centre, top centre red")[0]] == [
        ({1}, {1}),
        ({0}, {1}),
    ]


def test_a_place_after_a_joint_belongs_to_the_phrase_before() -> None:
    (phrase,), ignored = read("blue at the top and the bottom")
    assert (phrase.rows, ignored) == ({0, 2}, ())


def test_negation_reaches_over_or_but_not_over_and() -> None:
    assert [phrase.wanted for phrase in read("no red or blue")[0]] == [False, False]
    assert [phrase.wanted for phrase in read("no red and blue")[0]] == [False, True]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("samples")
    fill(folder)
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "details"]
    return {path.stem: path.read_bytes() for path in files}


def vary(data: bytes, scale: float, quality: int) -> bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    buffer = io.BytesIO()
    size = (round(image.width * scale), round(image.height * scale))
    image.resize(size).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


async def photo_vectors(encoder: PaletteEncoder, files: list[bytes]) -> Vectors:
    return await encoder.encode_images([decode(data, encoder.picture_side) for data in files])


@pytest.mark.parametrize(("scale", "quality"), [(1, 50), (0.8, 90), (0.5, 75)])
async def test_near_copies_of_photographs_stay_near(
    encoder: PaletteEncoder, samples: dict[str, bytes], scale: float, quality: int
) -> None:
    originals = await photo_vectors(encoder, list(samples.values()))
    copies = await photo_vectors(encoder, [vary(data, scale, quality) for data in samples.values()])
    cosines = (originals * copies).sum(1)
    assert cosines.min() > 0.98, min(zip(cosines, samples, strict=True))


async def test_different_photographs_are_far_apart(
    encoder: PaletteEncoder, samples: dict[str, bytes]
) -> None:
    vectors = await photo_vectors(encoder, list(samples.values()))
    cosines = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    assert np.median(cosines) < 0.4
    assert np.quantile(cosines, 0.1) < 0
    names = list(samples)
    pair = vectors[names.index("motorcycle-left")] @ vectors[names.index("motorcycle-right")]
    assert pair > 0.98


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("black and white", {"photographer", "coins", "brick", "grass", "gravel", "moon", "cell"}),
        ("grey", {"brick", "grass", "gravel", "moon", "clock-in-motion", "coins"}),
        ("dark blue", {"rocket-at-dusk"}),
        ("red", {"retina", "coffee"}),
        ("dark red", {"coffee"}),
        ("brown", {"cat", "stained-tissue", "motorcycle-left", "motorcycle-right"}),
        ("orange centre", {"dahlia"}),
        ("blue top", {"rocket-at-dusk", "pagoda"}),
        ("dark", {"hubble-deep-field"}),
        ("smooth", {"clock-in-motion"}),
        ("textured", {"gravel", "grass"}),
        ("bright top dark bottom", {"pagoda"}),
        ("colourful", {"coffee"}),
        ("vertical", {"brick"}),
    ],
)
async def test_photographs_are_found_by_words(
    encoder: PaletteEncoder, samples: dict[str, bytes], prompt: str, expected: set[str]
) -> None:
    text = (await encoder.encode_texts([prompt])).vectors[0]
    cosines = (await photo_vectors(encoder, list(samples.values()))) @ text
    best = [list(samples)[index] for index in np.argsort(-cosines)[: len(expected)]]
    assert len(expected & set(best)) >= (len(expected) + 1) // 2, best
    assert best[0] in expected


async def test_a_batch_does_not_hold_up_the_loop(encoder: PaletteEncoder) -> None:
    pictures = [np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)] * encoder.batch_size
    batch = asyncio.create_task(encoder.encode_images(pictures))
    turns = 0
    while not batch.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 3


async def test_closing_ends_its_threads() -> None:
    before = threading.enumerate()
    encoder = PaletteEncoder(workers=2)
    await asyncio.gather(*(encoder.encode_images([plain((9, 9, 9))]) for _ in range(4)))
    await encoder.close()
    fresh = [thread for thread in threading.enumerate() if thread not in before]
    assert not [thread for thread in fresh if thread.name.startswith("palette")]
