"""A lesion's card as HTML: its images, heat maps, probabilities, branches and contributions.

    >>> Path("arm.html").write_text(card_page(explanation))  # doctest: +SKIP

A card needs no other file, no script and no network. It is readable on a phone, in the dark and by
a screen reader: every image and heat map has a text, and every bar its number.
"""

import base64
from collections.abc import Callable, Mapping
from html import escape
from io import BytesIO

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image

from jiadf.data.open_image import ImageSource, open_image
from jiadf.data.schema import CLASS_NAMES
from jiadf.explanation.explain import Explanation
from jiadf.explanation.grad_cam import upsample
from jiadf.submission.lesion_prediction import NOT_A_DEVICE, LesionPrediction

SHOWN = 8  # contributions with a row of their own
_HEAT_SIZE = 32  # pixels; what a browser makes larger
_LIGHT = "--ink:#1b1b1b;--soft:#555;--line:#dcdcdc;--for:#0173b2;--against:#a84300;"
_DARK = "--ink:#ececec;--soft:#b4b4b4;--line:#444;--for:#56b4e9;--against:#f0975a;"
STYLE = (
    f".jiadf-card{{{_LIGHT}"
    "color:var(--ink);font:1rem/1.45 system-ui,sans-serif;max-width:46rem;margin:0 auto;"
    "padding:.75rem;box-sizing:border-box;overflow-wrap:anywhere}"
    f"@media(prefers-color-scheme:dark){{.jiadf-card{{{_DARK}}}}}"
    f"html[data-theme=light] .jiadf-card{{{_LIGHT}}}html[data-theme=dark] .jiadf-card{{{_DARK}}}"
    """
.jiadf-card *{box-sizing:border-box}
.jiadf-card a{color:var(--for)}
.jiadf-card .title{font-size:1.35rem;margin:.2rem 0;color:var(--ink)}
.jiadf-card .part{font-size:1.05rem;margin:1.2rem 0 .4rem;color:var(--ink)}
.jiadf-card p{margin:.3rem 0}
.jiadf-card .soft{color:var(--soft);font-size:.875rem}
.jiadf-card .pair{display:grid;grid-template-columns:1fr 1fr;gap:.5rem}
.jiadf-card .halves{display:grid;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));
  gap:0 1.5rem}
.jiadf-card figure{margin:0}
.jiadf-card svg{display:block;width:100%;height:auto;border-radius:4px}
.jiadf-card figcaption{color:var(--soft);font-size:.875rem;text-align:left}
.jiadf-card ul{list-style:none;margin:0;padding:0}
.jiadf-card li{display:grid;grid-template-columns:1fr auto;gap:0 .5rem;margin:.3rem 0;
  font-size:.9rem}
.jiadf-card li.first{font-weight:600}
.jiadf-card .value{font-variant-numeric:tabular-nums}
.jiadf-card .bar{grid-column:1/-1;display:block;position:relative;height:.45rem;
  background:var(--line);border-radius:2px}
.jiadf-card .bar i{position:absolute;top:0;bottom:0;background:var(--for);border-radius:2px;
  print-color-adjust:exact}
.jiadf-card .bar i.against{background:var(--against)}
"""
)


def card_page(explained: Explanation, *, top: str = "", **options) -> str:
    """Return a card as an HTML file; `top` is HTML over it, `options` those of :func:`card`."""
    title = f"Lesion {escape(explained.lesion_id)}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>:root{{color-scheme:light dark}}body{{margin:0}}</style>"
        f"</head><body><main>{card(explained, top=top, level=1, **options)}</main></body></html>\n"
    )


def card(
    explained: Explanation,
    *,
    about: str = "",
    credit: str = "",
    top: str = "",
    width: int = 480,
    quality: int = 80,
    level: int = 2,
) -> str:
    """Return a card as a piece of HTML, for a page that has more.

    Parameters
    ----------
    explained
        The lesion.
    about
        A line on the model.
    credit
        Whom the images belong to.
    top
        HTML over the card.
    width, quality
        Longer side of the images in pixels, and the quality of their JPEG.
    level
        Of the card's heading; its parts have the next one.
    """
    said = explained.prediction

    def part(title: str) -> str:
        return f'<h{level + 1} class="part">{title}</h{level + 1}>'

    pictures = "".join(
        _picture(explained, name, source, width, quality)
        for name, source in explained.images.items()
    )
    notes = [
        missing_words(said),
        about,
        f"Images: {credit}." if credit else "",
    ]
    foot = "".join(f'<p class="soft">{escape(note)}</p>' for note in notes if note)
    return (
        f'<article class="jiadf-card"><style>{STYLE}</style>{top}'
        f'<h{level} class="title">Lesion {escape(explained.lesion_id)}</h{level}>'
        f"<p>The network says <b>{escape(CLASS_NAMES[said.label])}</b> ({said.label}), with a "
        f"probability of <b>{said.probabilities.max():.2f}</b>. <b>{NOT_A_DEVICE}</b></p>"
        f"{pictures}{_heat_note(explained)}"
        f'<div class="halves"><section>{part("Probabilities")}{_probabilities(said)}</section>'
        f"<section>{_branches(said, part)}{_contributions(explained, part)}</section></div>"
        f"{foot}</article>"
    )


def place_of(heat: np.ndarray) -> str:
    """Say in words where a heat map (h, w) is brightest."""
    if not heat.any():
        return "empty"
    at = np.unravel_index(heat.argmax(), heat.shape)
    third = [min(int(3 * (i + 0.5) / n), 2) for i, n in zip(at, heat.shape, strict=True)]
    down, across = ("top", "middle", "bottom")[third[0]], ("left", "middle", "right")[third[1]]
    if down == across:
        return "brightest in the middle"
    words = [word for word in (down, across) if word != "middle"]
    return f"brightest at the {' '.join(words)}"


def shown_contributions(explained: Explanation) -> pd.Series:
    """Return the largest contributions, and the sum of all others as a last row."""
    rows, rest = explained.contributions.iloc[:SHOWN], explained.contributions.iloc[SHOWN:]
    if len(rest):
        rows = pd.concat([rows, pd.Series({f"{len(rest)} others together": rest.sum()})])
    return rows


def from_to(explained: Explanation) -> str:
    """Say what the contributions add up to."""
    said = explained.prediction
    return (
        f"From {explained.start:.2f}, the probability of {said.label} if everything is missing, to "
        f"{said.probabilities.max():.2f}. In natural logarithms: +0.69 doubles a probability, "
        "−0.69 halves it."
    )


def display_image(source: ImageSource, width: int) -> Image.Image:
    """Return an image, upright, at most `width` pixels on its longer side."""
    image = open_image(source, width)
    image.thumbnail((width, width), Image.Resampling.LANCZOS)
    return image


def heat_pixels(heat: np.ndarray, size: int = _HEAT_SIZE) -> np.ndarray:
    """Colour a heat map (h, w) for laying over an image: RGBA, uint8 (size, size, 4)."""
    smooth = upsample(heat[None], size)[0]
    pixels = matplotlib.colormaps["inferno"](smooth)
    pixels[..., 3] = 0.2 + 0.5 * smooth
    return np.uint8(pixels * 255)


def _picture(explained: Explanation, name: str, source, width: int, quality: int) -> str:
    """Return an image and the same image under its heat map; its bytes stand there once."""
    image, heat = display_image(source, width), explained.heat[name]
    size = f'width="{image.width}" height="{image.height}"'
    key = f"{escape(explained.lesion_id)}-{name}"
    start = f'<figure><svg role="img" viewBox="0 0 {image.width} {image.height}" aria-label='
    over = _data_uri(Image.fromarray(heat_pixels(heat)), "PNG")
    kind, label = name.capitalize(), explained.prediction.label
    where = f"Heat map over the {name} image, {place_of(heat)}"
    return (
        '<div class="pair">'
        f'{start}"{kind} image of the lesion"><image id="{key}" {size} '
        f'href="{_data_uri(image, "JPEG", quality=quality)}"/></svg>'
        f"<figcaption>{kind} image</figcaption></figure>"
        f'{start}"{where}"><use href="#{key}"/><image {size} preserveAspectRatio="none" '
        f'href="{over}"/></svg><figcaption>What speaks for {label}: {place_of(heat)}</figcaption>'
        "</figure></div>"
    )


def _data_uri(image: Image.Image, form: str, **options) -> str:
    stream = BytesIO()
    image.save(stream, form, optimize=True, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _heat_note(explained: Explanation) -> str:
    cells = sorted({f"{h.shape[0]} x {h.shape[1]}" for h in explained.heat.values()})
    note = f"Grad-CAM heat maps have {' or '.join(cells)} cells and prove nothing by themselves."
    return f'<p class="soft">{note}</p>'


def _row(name: str, value: str, bar: str, first: bool = False) -> str:
    mark = ' class="first"' if first else ""
    return (
        f'<li{mark}><span>{name}</span><span class="value">{value}</span>'
        f'<span class="bar" aria-hidden="true">{bar}</span></li>'
    )


def _probabilities(said: LesionPrediction) -> str:
    ordered = said.probabilities.sort_values(ascending=False)
    rows = "".join(
        _row(
            f"{escape(CLASS_NAMES[code])} ({code})",
            f"{value:.2f}",
            f'<i style="left:0;width:{100 * value:.1f}%"></i>',
            first=code == said.label,
        )
        for code, value in ordered.items()
    )
    return f'<ul role="list">{rows}</ul>'


def missing_words(said: LesionPrediction) -> str:
    """Say what a lesion lacks, or nothing."""
    return f"Missing: {', '.join(said.missing).replace('_', ' ')}." if said.missing else ""


def top_three(probabilities: pd.Series) -> str:
    """Say a branch's three most probable classes."""
    top = probabilities.sort_values(ascending=False).head(3)
    return ", ".join(f"{code} {value:.2f}" for code, value in top.items())


def branch_weights(said: LesionPrediction) -> Mapping[str, float]:
    """Return each branch's weight, or none where one head decides."""
    return {} if said.weights is None else said.weights.to_dict()


def _branches(said: LesionPrediction, part: Callable[[str], str]) -> str:
    weights = branch_weights(said)
    rows = "".join(
        _row(
            f"{name}: {top_three(said.branches.loc[name])}",
            f"{weight:.2f}",
            f'<i style="left:0;width:{100 * weight:.1f}%"></i>',
        )
        for name, weight in weights.items()
    )
    return f'{part("Branches and their weights")}<ul role="list">{rows}</ul>' if rows else ""


def _contributions(explained: Explanation, part: Callable[[str], str]) -> str:
    shown = shown_contributions(explained)
    scale = 50 / max(shown.abs().max(), 1e-9)
    rows = ""
    for name, value in shown.items():
        reach = abs(value) * scale
        start = 50 if value > 0 else 50 - reach
        kind = "" if value > 0 else ' class="against"'
        bar = f'<i{kind} style="left:{start:.1f}%;width:{reach:.1f}%"></i>'
        rows += _row(escape(str(name)), f"{value:+.2f}".replace("-", "−"), bar)
    title = part(f"What moved it towards or away from {explained.prediction.label}")
    return f'{title}<p class="soft">{from_to(explained)}</p><ul role="list">{rows}</ul>'
