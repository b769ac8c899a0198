"""A CLIP of a few kilobytes: two ONNX files with the inputs and outputs of the real ones.

Pictures are averaged over 8 x 8 tiles and projected; of texts, a vector per word and a vector per
position are summed. As in the real model there are 77 positions, and a longer text is an error. The
files are written as the protocol buffers they are, so nothing but numpy and tokenizers is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from daemon.encoders.models import ModelFile, sha256, write_manifest

DIMENSION = 24
POSITIONS = 77
SPECIAL = ("<start>", "<end>", "<unknown>")
WORDS = ("a", "dark", "red", "picture", "photo", "of", "dog", "blue", "sky", "above", "green", "grass", "and")
ODD = ("nan", "infinity", "nothing")
"""Words whose texts become vectors that are not finite, and zero."""

FLOAT, INT64 = 1, 7  # TensorProto.DataType
_AN_INT, _INTS = 2, 7  # AttributeProto.AttributeType


def write(directory: Path, seed: int = 0, text_dimension: int = DIMENSION) -> None:
    """Write both halves into `directory`; another seed is another model."""
    for half, model in (("vision", vision(seed)), ("text", text(seed, text_dimension))):
        (directory / half).mkdir(parents=True)
        (directory / half / "model.onnx").write_bytes(model)
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 224},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "do_normalize": True,
        "image_mean": mean,
        "image_std": deviation,
    }
    (directory / "vision/preprocessor_config.json").write_text(json.dumps(preprocessor))
    _tokenizer().save(str(directory / "text/tokenizer.json"))
    for name, content in {
        "tokenizer_config.json": {"model_max_length": POSITIONS, "pad_token": "<end>"},
        "config.json": {"pad_token_id": SPECIAL.index("<end>")},
        "special_tokens_map.json": {"pad_token": "<end>", "unk_token": "<unknown>"},
    }.items():
        (directory / "text" / name).write_text(json.dumps(content))


def declare_whole(directory: Path) -> None:
    """Write the manifest that a fetch would have left."""
    written = {
        str(path.relative_to(directory)): ModelFile(path.stat().st_size, sha256(path))
        for path in directory.glob("*/*")
    }
    write_manifest(directory, written, {})


def vision(seed: int) -> bytes:
    weights = np.random.default_rng(seed).normal(size=(192, DIMENSION)).astype(np.float32)
    return _model(
        [
            _node("AveragePool", ["pixel_values"], "tiles", kernel_shape=[28, 28], strides=[28, 28]),
            _node("Flatten", ["tiles"], "features", axis=1),
            _node("MatMul", ["features", "weights"], "image_embeds"),
        ],
        [_tensor("weights", weights)],
        [_value("pixel_values", FLOAT, ["batch", 3, 224, 224])],
        _value("image_embeds", FLOAT, ["batch", DIMENSION]),
    )


def text(seed: int, dimension: int = DIMENSION) -> bytes:
    random = np.random.default_rng(seed + 1)
    words = random.normal(size=(len(_vocabulary()), dimension)).astype(np.float32)
    positions = random.normal(size=(POSITIONS, dimension)).astype(np.float32)
    words[_vocabulary()["nan"]] = np.nan
    words[_vocabulary()["infinity"]] = np.inf
    words[_vocabulary()["nothing"]] = -words[0] - words[1] - positions[:3].sum(0)
    return _model(
        [
            _node("Shape", ["input_ids"], "shape"),
            _node("Gather", ["shape", "one"], "length"),
            _node("Range", ["zero", "length", "one"], "places"),
            _node("Gather", ["positions", "places"], "where"),
            _node("Gather", ["words", "input_ids"], "what"),
            _node("Add", ["what", "where"], "tokens"),
            _node("Cast", ["attention_mask"], "mask", to=FLOAT),
            _node("Unsqueeze", ["mask", "last"], "weights"),
            _node("Mul", ["tokens", "weights"], "counted"),
            _node("ReduceSum", ["counted", "middle"], "text_embeds", keepdims=0),
        ],
        [
            _tensor("words", words),
            _tensor("positions", positions),
            _tensor("zero", np.array(0)),
            _tensor("one", np.array(1)),
            _tensor("last", np.array([-1])),
            _tensor("middle", np.array([1])),
        ],
        [_value(name, INT64, ["batch", "length"]) for name in ("input_ids", "attention_mask")],
        _value("text_embeds", FLOAT, ["batch", dimension]),
    )


def _vocabulary() -> dict[str, int]:
    return {word: number for number, word in enumerate((*SPECIAL, *WORDS, *ODD))}


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(_vocabulary(), unk_token="<unknown>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    return tokenizer


# The messages of onnx.proto, as far as they are needed: (field number, value) pairs.


def _model(nodes: list[bytes], weights: list[bytes], inputs: list[bytes], output: bytes) -> bytes:
    graph = [(1, node) for node in nodes] + [(2, b"tiny"), *((5, weight) for weight in weights)]
    graph += [*((11, one) for one in inputs), (12, output)]
    return _message([(1, 8), (8, _message([(1, b""), (2, 13)])), (7, _message(graph))])


def _node(kind: str, inputs: list[str], output: str, **attributes: int | list[int]) -> bytes:
    return _message(
        [
            *((1, name.encode()) for name in inputs),
            (2, output.encode()),
            (4, kind.encode()),
            *((5, _attribute(name, value)) for name, value in attributes.items()),
        ]
    )


def _attribute(name: str, value: int | list[int]) -> bytes:
    if isinstance(value, int):
        return _message([(1, name.encode()), (3, value), (20, _AN_INT)])
    return _message([(1, name.encode()), *((8, one) for one in value), (20, _INTS)])


def _tensor(name: str, values: np.ndarray) -> bytes:
    kind = FLOAT if values.dtype == np.float32 else INT64
    return _message(
        [*((1, size) for size in values.shape), (2, kind), (8, name.encode()), (9, values.tobytes())]
    )


def _value(name: str, kind: int, shape: list[int | str]) -> bytes:
    sizes = [(1, _message([(1, one) if isinstance(one, int) else (2, one.encode())])) for one in shape]
    tensor = _message([(1, kind), (2, _message(sizes))])
    return _message([(1, name.encode()), (2, _message([(1, tensor)]))])


def _message(fields: Iterable[tuple[int, int | bytes]]) -> bytes:
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [_varint(number << 3), _varint(value)]
        else:
            parts += [_varint(number << 3 | 2), _varint(len(value)), value]
    return b"".join(parts)


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])
