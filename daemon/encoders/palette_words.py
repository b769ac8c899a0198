"""The words the palette encoder knows: tints and their families, shades, qualities, places."""

from __future__ import annotations

import re

# Every tint told apart, by its family: the name, and the focal colour in sRGB.
FAMILIES: dict[str, dict[str, tuple[int, int, int]]] = {
    "black": {"black": (10, 10, 12)},
    "grey": {"dark grey": (62, 62, 62), "grey": (122, 122, 122), "light grey": (185, 185, 185)},
    "white": {"white": (248, 248, 248)},
    "red": {"dark red": (115, 20, 24), "red": (205, 28, 32), "light red": (232, 105, 98)},
    "orange": {"dark orange": (185, 85, 20), "orange": (245, 135, 25), "light orange": (250, 188, 125)},
    "brown": {"dark brown": (62, 38, 22), "brown": (120, 75, 45), "light brown": (195, 158, 118)},
    "yellow": {"dark yellow": (160, 135, 25), "yellow": (245, 222, 45), "light yellow": (250, 242, 168)},
    "green": {
        "dark green": (22, 62, 28),
        "olive": (98, 110, 50),
        "green": (45, 150, 55),
        "light green": (145, 215, 130),
    },
    "turquoise": {
        "dark turquoise": (12, 82, 86),
        "turquoise": (35, 180, 180),
        "light turquoise": (165, 228, 225),
    },
    "blue": {
        "dark blue": (26, 40, 94),
        "blue": (35, 85, 205),
        "steel blue": (88, 115, 152),
        "light blue": (135, 185, 235),
    },
    "purple": {"dark purple": (62, 22, 92), "purple": (132, 52, 175), "light purple": (190, 155, 220)},
    "pink": {"dark pink": (175, 42, 105), "pink": (238, 115, 165), "light pink": (250, 200, 212)},
}

OTHER_COLOURS: dict[str, str] = {
    "gray": "grey",
    "charcoal": "dark grey",
    "silver": "light grey",
    "ivory": "white",
    "maroon": "dark red",
    "burgundy": "dark red",
    "crimson": "dark red",
    "salmon": "light red",
    "rust": "dark orange",
    "peach": "light orange",
    "beige": "light brown",
    "tan": "light brown",
    "gold": "dark yellow",
    "golden": "dark yellow",
    "cream": "light yellow",
    "olive": "olive",
    "khaki": "olive",
    "lime": "light green",
    "mint": "light green",
    "teal": "dark turquoise",
    "cyan": "turquoise",
    "aqua": "turquoise",
    "navy": "dark blue",
    "azure": "light blue",
    "indigo": "dark purple",
    "violet": "purple",
    "lilac": "light purple",
    "lavender": "light purple",
    "magenta": "dark pink",
    "fuchsia": "dark pink",
    "rose": "pink",
}

# Before a colour they choose a tint; alone they are qualities of the whole.
SHADES: dict[str, tuple[str, dict[str, float]]] = {
    "dark": ("dark ", {"brightness": -1}),
    "deep": ("dark ", {"brightness": -1}),
    "light": ("light ", {"brightness": 1}),
    "pale": ("light ", {"brightness": 1, "saturation": -0.5}),
    "pastel": ("light ", {"brightness": 1, "contrast": -1}),
    "bright": ("", {"brightness": 1}),
    "vivid": ("", {"saturation": 1}),
    "saturated": ("", {"saturation": 1}),
}

QUALITIES: dict[str, dict[str, float]] = {
    "dim": {"brightness": -1},
    "brightness": {"brightness": 1},
    "colourful": {"saturation": 1},
    "colorful": {"saturation": 1},
    "vibrant": {"saturation": 1},
    "saturation": {"saturation": 1},
    "desaturated": {"saturation": -1},
    "colourless": {"saturation": -1},
    "colorless": {"saturation": -1},
    "monochrome": {"saturation": -1},
    "muted": {"saturation": -1},
    "dull": {"saturation": -1, "contrast": -0.5},
    "contrast": {"contrast": 1},
    "contrasty": {"contrast": 1},
    "smooth": {"texture": -1},
    "plain": {"texture": -1},
    "soft": {"texture": -1},
    "blurry": {"texture": -1},
    "blurred": {"texture": -1},
    "flat": {"texture": -1, "contrast": -0.5},
    "textured": {"texture": 1, "grain": 1.5},
    "texture": {"texture": 1, "grain": 1.5},
    "rough": {"texture": 1, "grain": 1.5},
    "busy": {"texture": 1},
    "detailed": {"texture": 1},
    "details": {"texture": 1},
    "grainy": {"texture": 1, "grain": 1.5},
    "sharp": {"texture": 1},
    "horizontal": {"horizontal": 1},
    "vertical": {"vertical": 1},
    "diagonal": {"diagonal": 1},
    "warm": {"warmth": 1},
    "cold": {"warmth": -1},
    "cool": {"warmth": -1},
}

DEGREES = {"high": 1, "strong": 1, "more": 1, "low": -1, "weak": -1, "less": -1, "little": -1}

# Which third of the height and of the width.
PLACES: dict[str, tuple[int | None, int | None]] = {
    "top": (0, None),
    "upper": (0, None),
    "above": (0, None),
    "bottom": (2, None),
    "lower": (2, None),
    "below": (2, None),
    "left": (None, 0),
    "right": (None, 2),
    "centre": (1, 1),
    "center": (1, 1),
    "central": (1, 1),
    "middle": (1, 1),
}

NEGATIONS = frozenset({"no", "not", "non", "without"})
JOINTS = frozenset({"and", "but", "or", "nor", "with", "plus", "&", "+", ",", ";"})
FILLERS = frozenset(
    {"a", "an", "the", "of", "in", "on", "at", "to", "is", "its", "it", "mostly"}
    | {"side", "part", "half", "corner", "tone", "tones", "shade", "shades", "coloured", "colored"}
    | {"colour", "color", "colours", "colors", "image", "images", "picture", "pictures"}
    | {"photo", "photos", "photograph", "photographs"}
)
IDIOMS = (
    (re.compile(r"\bblack[ -](and|&|n)[ -]white\b|\bb ?[&/] ?w\b|\bgr[ea]y[ -]?scale\b"), " monochrome "),
    (re.compile(r"\b(no|without) colou?rs?\b"), " colourless "),
)


def known_words() -> str:
    """Return the vocabulary, for a person."""
    groups = {
        "colours": [*FAMILIES, *OTHER_COLOURS],
        "shades": list(SHADES),
        "places": list(PLACES),
        "qualities": list(QUALITIES),
        "others": [*DEGREES, *NEGATIONS],
    }
    return "; ".join(f"{group}: {', '.join(sorted(words))}" for group, words in groups.items())
