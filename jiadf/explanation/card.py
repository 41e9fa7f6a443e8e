"""A lesion's card as HTML: its images, heat maps, probabilities, branches and contributions.

    >>> Path("arm.html").write_text(card_page(explanation))  # doctest: +SKIP

A card needs no other file, no script and no network. It is readable on a phone, in the dark and by
a screen reader: every image and heat map has a text, and every bar its number.
"""

import base64
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
HEAT_SIZE = 32  # pixels; what a browser makes larger
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

    `about` is a line on the model, `credit` whom the images belong to, `top` HTML over the card,
    `width` the images' longer side in pixels, `quality` their JPEG's, and `level` the heading's;
    the card's parts have the next one.
    """
    said, heading = explained.prediction, f'h{level + 1} class="part"'
    parts = {
        "Probabilities": _probabilities(explained),
        "Branches and their weights": _branches(explained),
        f"What moved it towards or away from {said.label}": _contributions(explained),
    }
    first, *others = (
        f"<{heading}>{title}</h{level + 1}>{text}" for title, text in parts.items() if text
    )
    images = "".join(_image(explained, name, width, quality) for name in explained.images)
    cells = sorted({f"{h.shape[0]} x {h.shape[1]}" for h in explained.heat.values()})
    notes = [missing_words(said), about]
    notes.append(f"Images: {credit}." if credit else "")
    trust = f"Grad-CAM heat maps have {' or '.join(cells)} cells and prove nothing by themselves."
    return (
        f'<article class="jiadf-card"><style>{STYLE}</style>{top}'
        f'<h{level} class="title">Lesion {escape(explained.lesion_id)}</h{level}>'
        f"<p>The network says <b>{escape(CLASS_NAMES[said.label])}</b> ({said.label}), with a "
        f"probability of <b>{said.probabilities.max():.2f}</b>. <b>{NOT_A_DEVICE}</b></p>"
        f'{images}{_soft(trust)}<div class="halves"><section>{first}</section>'
        f"<section>{''.join(others)}</section></div>"
        f"{''.join(_soft(note) for note in notes if note)}</article>"
    )


def place_of(heat: np.ndarray) -> str:
    """Say in words where a heat map (h, w) is brightest."""
    if not heat.any():
        return "empty"
    at = np.unravel_index(heat.argmax(), heat.shape)
    third = [min(int(3 * (i + 0.5) / n), 2) for i, n in zip(at, heat.shape, strict=True)]
    down, across = ("top", "middle", "bottom")[third[0]], ("left", "middle", "right")[third[1]]
    words = [word for word in (down, across) if word != "middle"]
    return f"brightest at the {' '.join(words)}" if words else "brightest in the middle"


def display_image(source: ImageSource, width: int) -> Image.Image:
    """Return an image, upright, at most `width` pixels on its longer side."""
    image = open_image(source, width)
    image.thumbnail((width, width), Image.Resampling.LANCZOS)
    return image


def missing_words(said: LesionPrediction) -> str:
    """Say what the lesion lacks; nothing if it has all."""
    missing = ", ".join(said.missing).replace("_", " ")
    return f"Missing: {missing}." if missing else ""


def shown_contributions(explained: Explanation) -> pd.Series:
    """Return the largest contributions, and the sum of all others."""
    shown, rest = explained.contributions.iloc[:SHOWN], explained.contributions.iloc[SHOWN:]
    if len(rest):
        shown = pd.concat([shown, pd.Series({f"{len(rest)} others together": rest.sum()})])
    return shown


def signed(value: float) -> str:
    """Write a contribution with its sign."""
    return f"{value:+.2f}".replace("-", "−")


def _image(explained: Explanation, name: str, width: int, quality: int) -> str:
    """Return an image and the same image under its heat map; its bytes stand there once."""
    image, heat = display_image(explained.images[name], width), explained.heat[name]
    smooth = upsample(heat[None], HEAT_SIZE)[0]
    colours = matplotlib.colormaps["inferno"](smooth)
    colours[..., 3] = 0.2 + 0.5 * smooth  # the brighter, the more opaque
    over = _data_uri(Image.fromarray(np.uint8(colours * 255)), "PNG")
    size = f'width="{image.width}" height="{image.height}"'
    key = f"{escape(explained.lesion_id)}-{name}"
    start = f'<figure><svg role="img" viewBox="0 0 {image.width} {image.height}" aria-label='
    kind, where = name.capitalize(), place_of(heat)
    return (
        '<div class="pair">'
        f'{start}"{kind} image of the lesion"><image id="{key}" {size} '
        f'href="{_data_uri(image, "JPEG", quality=quality)}"/></svg>'
        f"<figcaption>{kind} image</figcaption></figure>"
        f'{start}"Heat map over the {name} image, {where}"><use href="#{key}"/><image {size} '
        f'preserveAspectRatio="none" href="{over}"/></svg>'
        f"<figcaption>What speaks for {explained.prediction.label}: {where}</figcaption>"
        "</figure></div>"
    )


def _data_uri(image: Image.Image, form: str, **options) -> str:
    stream = BytesIO()
    image.save(stream, form, optimize=True, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _soft(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>'


def _row(name: str, value: str, start: float, width: float, mark: str = "") -> str:
    """Return a row of a list with a bar; `start` and `width` are percentages."""
    kind = f' class="{mark}"' if mark else ""
    bar = f'<i{kind} style="left:{start:.1f}%;width:{width:.1f}%"></i>'
    return (
        f'<li{kind}><span>{escape(name)}</span><span class="value">{value}</span>'
        f'<span class="bar" aria-hidden="true">{bar}</span></li>'
    )


def _probabilities(explained: Explanation) -> str:
    said = explained.prediction
    rows = "".join(
        _row(
            f"{CLASS_NAMES[code]} ({code})", f"{p:.2f}", 0, 100 * p, "first" * (code == said.label)
        )
        for code, p in said.probabilities.sort_values(ascending=False).items()
    )
    return f'<ul role="list">{rows}</ul>'


def _branches(explained: Explanation) -> str:
    """Return each branch's weight and its three most probable classes, if there is a gate."""
    said = explained.prediction
    if said.weights is None:
        return ""
    rows = ""
    for name, weight in said.weights.items():
        top = said.branches.loc[name].sort_values(ascending=False).head(3)
        classes = ", ".join(f"{code} {value:.2f}" for code, value in top.items())
        rows += _row(f"{name}: {classes}", f"{weight:.2f}", 0, 100 * weight)
    return f'<ul role="list">{rows}</ul>'


def _contributions(explained: Explanation) -> str:
    """Return the contributions that are shown, and what they add up to."""
    shown = shown_contributions(explained)
    scale = 50 / max(shown.abs().max(), 1e-9)
    rows = ""
    for name, value in shown.items():
        reach = abs(value) * scale
        bar = (50, reach) if value > 0 else (50 - reach, reach, "against")
        rows += _row(name, signed(value), *bar)
    said = explained.prediction
    sums = (
        f"From {explained.start:.2f}, the probability of {said.label} if everything is missing, to "
        f"{said.probabilities.max():.2f}. In natural logarithms: +0.69 doubles a probability, "
        "−0.69 halves it."
    )
    return f'{_soft(sums)}<ul role="list">{rows}</ul>'
