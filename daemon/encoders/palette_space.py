"""The space of the palette encoder: named parts, and how a picture is described in them.

Every pixel is shared out among the named tints near its colour in CIELAB. The shares, of the whole
picture and of each cell of a 3 x 3 grid, are kept as square roots, whose product is the Bhattacharyya
coefficient of two distributions (A. Bhattacharyya, 1946). A typical share is taken off, so that unlike
pictures come out near zero or below. Brightness, saturation and texture of each cell, contrast, and
the directions of edges are numbers in [-1, 1] around the middling photograph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.encoders.palette_words import FAMILIES
from daemon.pictures import resize
from state.model import Pixels, Vectors

Floats = NDArray[np.floating[Any]]

GRID = 3
DIRECTIONS = 8
TINTS = [name for tints in FAMILIES.values() for name in tints]
ACHROMATIC = ("black", "grey", "white")


@dataclass(frozen=True, slots=True)
class Part:
    """A named stretch of the vector; `weight` is about its norm before the whole is made a unit."""

    shape: tuple[int, ...]
    weight: float


PARTS = {
    "families": Part((len(FAMILIES),), 0.8),
    "tints": Part((len(TINTS),), 0.8),
    "places": Part((GRID, GRID, len(FAMILIES)), 0.8),
    "brightness": Part((GRID, GRID), 0.6),
    "saturation": Part((GRID, GRID), 0.35),
    "texture": Part((GRID, GRID), 0.4),
    "grain": Part((GRID, GRID), 0.2),
    "contrast": Part((1,), 0.25),
    "directions": Part((DIRECTIONS,), 0.5),
}
DIMENSION = sum(int(np.prod(part.shape)) for part in PARTS.values())

_SIDE = 32 * GRID
_LUMA = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)  # ITU-R BT.601
_LEVELS = 32  # steps per channel in the table of colours
_TINT_REACH = 11.0  # CIELAB units
_GREY_REACH = 9.0  # chroma up to which a colour passes for grey
_LIGHTNESS_WEIGHT = 0.8  # lightness varies with the lamp, hue with the thing
_CHROMA_DECAY = 20.0  # vivid colours are rare in photographs: a tint's usual share falls with chroma
_TYPICAL = 0.9  # how much of the usual share is taken off


class Space:
    """Describes pictures; holds the table of colours that this needs."""

    def __init__(self) -> None:
        steps = (np.arange(_LEVELS) + 0.5) * (256 / _LEVELS)
        colours = _lab(np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3))
        focal = _lab(np.array([rgb for tints in FAMILIES.values() for rgb in tints.values()], float))
        is_grey = np.array([family in ACHROMATIC for family, tints in FAMILIES.items() for _ in tints])
        chroma = np.hypot(colours[:, 1], colours[:, 2])
        greyness = np.exp(-((chroma / _GREY_REACH) ** 2))[:, None]
        shares = np.empty((len(colours), len(focal)))
        shares[:, is_grey] = greyness * _shares(colours, focal[is_grey])
        shares[:, ~is_grey] = (1 - greyness) * _shares(colours, focal[~is_grey])
        self._table = np.column_stack([shares, chroma]).astype(np.float32)
        self._families = np.array(
            [[tint in tints for tints in FAMILIES.values()] for tint in TINTS], np.float32
        )
        usual = np.exp(-np.hypot(focal[:, 1], focal[:, 2]) / _CHROMA_DECAY)
        self._usual = (usual / usual.sum()).astype(np.float32)

    def describe(self, picture: Pixels) -> Vectors:
        """Return the picture's vector, shape ``(DIMENSION,)``, of unit length."""
        small = resize(picture, _SIDE, _SIDE)
        levels = (small >> 3).astype(np.int32)
        index = (levels[..., 0] * _LEVELS + levels[..., 1]) * _LEVELS + levels[..., 2]
        colours = _by_cell(self._table[index])
        shares, chroma = colours[..., :-1], colours[..., -1]
        luma = small.astype(np.float32) @ _LUMA
        across, down, energy = _gradient(luma)
        fine = _by_cell(energy)
        coarse = _by_cell(_gradient(luma.reshape(_SIDE // 2, 2, _SIDE // 2, 2).mean((1, 3)))[2])
        whole = shares.mean((0, 1))
        return join(
            {
                "families": self._unusual(whole @ self._families, self._usual @ self._families),
                "tints": self._unusual(whole, self._usual),
                "places": self._unusual(shares @ self._families, self._usual @ self._families) / GRID,
                "brightness": (2 * _by_cell(luma) - 1) / GRID,
                "saturation": np.tanh((chroma - 18) / 18) / GRID,
                "texture": np.tanh(np.log((fine + 0.003) / 0.033)) / GRID,
                "grain": np.tanh(2 * np.log((fine + 0.01) / (coarse + 0.01)) + 0.5) / GRID,
                "contrast": np.tanh((luma.std(keepdims=True).ravel() - 0.18) / 0.09),
                "directions": _directions(across, down, energy),
            }
        )

    @staticmethod
    def _unusual(shares: Floats, usual: Floats) -> Floats:
        return np.sqrt(shares) - _TYPICAL * np.sqrt(usual)


def join(parts: Mapping[str, Floats]) -> Vectors:
    """Return the parts as one vector of unit length; a part left out is zero."""
    vector = np.concatenate(
        [
            np.ravel(parts[name]) * part.weight if name in parts else np.zeros(np.prod(part.shape))
            for name, part in PARTS.items()
        ]
    ).astype(np.float32)
    vector /= max(float(np.linalg.norm(vector)), 1e-6)
    return vector


def _lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert sRGB in 0..255 to CIELAB under D65 (IEC 61966-2-1, CIE 15)."""
    encoded = rgb / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float64
    )
    xyz = linear @ (to_xyz / to_xyz.sum(1, keepdims=True)).T
    x, y, z = np.moveaxis(np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _shares(colours: NDArray[np.float64], focal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share each colour out over the focal ones, by distance; shape ``(colours, focal)``, rows sum to 1."""
    weights = np.array([_LIGHTNESS_WEIGHT, 1, 1])
    colours, focal = colours * weights, focal * weights
    # The square of the colour itself, the same for a whole row, drops out of the shares.
    nearness = (2 * colours @ focal.T - (focal**2).sum(1)) / (2 * _TINT_REACH**2)
    shares = np.exp(nearness - nearness.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


def _by_cell(values: Floats) -> Floats:
    """Return the mean over each cell of the grid."""
    size = len(values) // GRID
    rows = values.reshape(GRID, size, GRID, size, -1).mean(1)
    return np.asarray(rows.mean(2).squeeze(-1) if values.ndim == 2 else rows.mean(2))


def _gradient(luma: Floats) -> tuple[Floats, Floats, Floats]:
    across, down = np.zeros_like(luma), np.zeros_like(luma)
    across[:, 1:-1] = (luma[:, 2:] - luma[:, :-2]) / 2
    down[1:-1] = (luma[2:] - luma[:-2]) / 2
    return across, down, np.hypot(across, down)


def _directions(across: Floats, down: Floats, energy: Floats) -> Floats:
    """Return how much more than evenly the edges run each way; all zero where there are hardly any.

    Bin 0 is a vertical edge, the middle one a horizontal edge; an edge is shared by two bins.
    """
    strong = np.maximum(energy - 0.02, 0)
    position = np.arctan2(down, across) % np.pi * (DIRECTIONS / np.pi)
    lower = position.astype(np.int32)
    upper_share = (position - lower) * strong
    bins = np.bincount(lower.ravel() % DIRECTIONS, (strong - upper_share).ravel(), DIRECTIONS)
    bins += np.bincount((lower.ravel() + 1) % DIRECTIONS, upper_share.ravel(), DIRECTIONS)
    total = bins.sum()
    confidence = total / (total + 0.003 * energy.size)
    even = 1 / DIRECTIONS
    return np.asarray(confidence * (np.sqrt(bins / max(total, 1e-9)) - np.sqrt(even)))
