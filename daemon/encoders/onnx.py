"""CLIP ViT-B/32 in this process: two ONNX models, of pictures and of texts, run by fastembed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from daemon.encoders import models
from state.errors import Misconfigured, Rejected
from state.model import Pixels, TextEmbeddings, Vectors

if TYPE_CHECKING:
    from fastembed import ImageEmbedding, TextEmbedding

_RIBBON = 8
"""CLIP enlarges the shorter side to 224 pixels and looks at the middle square; longer than so many
times the shorter side, a picture's ends are cut off before they are enlarged for nothing."""


class OnnxEncoder:
    """The `Encoder` port over a model fetched by ``embedsync model fetch``.

    Pictures and texts have a thread each, so that a search does not queue behind batches of pictures.
    Pictures are computed by the given number of threads, a text by one.
    """

    kind = "onnx"
    batch_size = 16
    picture_side = 224

    def __init__(self, vision: ImageEmbedding, text: TextEmbedding) -> None:
        self.id: str | None = None
        self.dimension: int | None = None
        self._vision = vision
        self._text = text
        self._failures = _failures()
        self._pictures_thread = ThreadPoolExecutor(1, "onnx-pictures")
        self._texts_thread = ThreadPoolExecutor(1, "onnx-texts")

    @classmethod
    async def open(cls, directory: Path, threads: int) -> OnnxEncoder:
        """Load the model in `directory`, off the loop; nothing is ever fetched.

        :param threads: that one batch of pictures is computed by
        :raises Misconfigured: when the extra is not installed, or the model is not whole or does not load
        """
        models.check_extra()
        encoder = cls(*await asyncio.to_thread(_load, directory, threads))
        try:
            await encoder._measure()
        except Rejected as error:
            await encoder.close()
            raise _unusable(directory, error) from error
        return encoder

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        """Encode pictures of any size.

        :raises Rejected: when one is no array of RGB bytes, or the model fails on them
        """
        for index, picture in enumerate(pictures):
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
                raise Rejected(f"picture {index} is no RGB picture but {picture.dtype}{picture.shape}")
        return await self._run(
            self._pictures_thread,
            len(pictures),
            lambda: self._vision.embed([_image(picture) for picture in pictures], self.batch_size),
        )

    async def encode_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Encode texts; of each, CLIP reads the first 77 tokens.

        :raises Rejected: when one is blank, or the model fails on them
        """
        if not all(text.strip() for text in texts):
            raise Rejected("a blank text means nothing")
        return TextEmbeddings(
            await self._run(
                self._texts_thread, len(texts), lambda: self._text.embed(list(texts), self.batch_size)
            )
        )

    async def close(self) -> None:
        """Let running batches end, and the threads with them."""
        for executor in (self._pictures_thread, self._texts_thread):
            await asyncio.to_thread(executor.shutdown, cancel_futures=True)

    async def _measure(self) -> None:
        """Find the dimension by encoding one picture and one text.

        :raises Rejected: when their dimensions differ
        """
        picture = await self.encode_images([np.full((224, 224, 3), 128, np.uint8)])
        text = (await self.encode_texts(["a photo"])).vectors
        if picture.shape != text.shape:
            raise Rejected(f"pictures have {picture.shape[1]} dimensions, texts {text.shape[1]}")
        self.dimension = picture.shape[1]

    async def _run(
        self, thread: ThreadPoolExecutor, count: int, embed: Callable[[], Iterable[Any]]
    ) -> Vectors:
        if not count:
            return np.zeros((0, self.dimension or 0), np.float32)

        def compute() -> Vectors:
            try:
                return _unit(np.stack(list(embed())))
            except self._failures as error:
                raise Rejected(f"the model cannot encode this batch: {_words(error)}") from error

        return await asyncio.get_running_loop().run_in_executor(thread, compute)


def _load(directory: Path, threads: int) -> tuple[ImageEmbedding, TextEmbedding]:
    from fastembed import ImageEmbedding, TextEmbedding

    models.check(directory)

    def half(kind: Callable[..., Any], name: str, threads: int) -> Any:
        return kind(
            models.REPOSITORIES[name],
            cache_dir=str(directory),  # or an empty one is made among the temporary files
            threads=threads,
            specific_model_path=str(directory / name),
        )

    try:
        return half(ImageEmbedding, "vision", threads), half(TextEmbedding, "text", 1)
    except _failures() as error:
        raise _unusable(directory, error) from error


def _failures() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime and fastembed raise; those of the former have no base in common."""
    runtime = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    return (
        runtime.EPFail,
        runtime.Fail,
        runtime.InvalidArgument,
        runtime.InvalidGraph,
        runtime.InvalidProtobuf,
        runtime.NoSuchFile,
        runtime.NotImplemented,
        runtime.RuntimeException,
        LookupError,
        MemoryError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    )


def _unusable(directory: Path, error: Exception) -> Misconfigured:
    return Misconfigured(
        "ENCODER",
        f"the local model in {directory} cannot be used ({_words(error)}): "
        f"delete the directory and run `{models.FETCH}`",
    )


def _image(picture: Pixels) -> Image.Image:
    height, width = picture.shape[:2]
    longest = _RIBBON * min(height, width)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    return Image.fromarray(picture[top : top + longest, left : left + longest])


def _unit(vectors: Vectors) -> Vectors:
    """Return the rows at unit length.

    :raises Rejected: when one has no direction
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 1e-6)).all():
        raise Rejected("the model answered a vector that is not finite, or zero")
    return np.asarray(vectors / norms, np.float32)


def _words(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
