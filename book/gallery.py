"""Make the gallery: a page of all lesions of the sample, and a card of each that a click opens.

Static files and a little plain JavaScript: it works from disk and without a network, and without
the script it shows every lesion.

Usage: ``python book/gallery.py --out FOLDER``
"""

import argparse
from html import escape
from pathlib import Path

import pandas as pd
from PIL import Image

from jiadf import load_model, read_lesions
from jiadf.data.sample import sample_dir
from jiadf.data.schema import CLASS_NAMES, CLASSES
from jiadf.explanation.card import card_page, display_image
from jiadf.explanation.card_folder import own_folder, write_marker
from jiadf.explanation.explain import Explanation, explain
from jiadf.submission.lesion_prediction import NOT_A_DEVICE

CREDIT = "MILK study team, CC BY-NC 4.0"
THUMBNAIL = (96, 72)  # pixels of each of a lesion's two images
CARD = {"width": 260, "quality": 70}
_LIGHT = "--ink:#1b1b1b;--soft:#555;--line:#ccc;--link:#0067a3;--right:#0067a3;--wrong:#a84300;"
_DARK = "--ink:#ececec;--soft:#b4b4b4;--line:#555;--link:#6cbef0;--right:#6cbef0;--wrong:#f0975a;"

STYLE = (
    f":root{{color-scheme:light dark;{_LIGHT}}}"
    f"@media(prefers-color-scheme:dark){{:root{{{_DARK}}}}}"
    """
body{margin:0 auto;max-width:76rem;padding:1rem;box-sizing:border-box;color:var(--ink);
  font:1rem/1.45 system-ui,sans-serif}
a{color:var(--link)}
.soft{color:var(--soft);font-size:.9rem}
form{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:end;margin:1rem 0}
form div{min-width:0;max-width:18rem}
select,button{font:inherit;max-width:100%;padding:.3rem}
#lesions{list-style:none;padding:0;margin:0;display:grid;gap:.6rem;
  grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr))}
#lesions li{min-width:0;overflow-wrap:anywhere}
#lesions a{display:block;border:1px solid var(--line);border-radius:6px;padding:.4rem;
  color:var(--ink);text-decoration:none;font-size:.85rem}
#lesions a:hover,#lesions a:focus-visible{outline:3px solid var(--link);outline-offset:1px}
#lesions img{display:block;width:100%;height:auto;border-radius:3px}
.right{color:var(--right)}.wrong{color:var(--wrong)}
.right::before{content:"✓ "}.wrong::before{content:"✗ "}
[hidden]{display:none!important}
"""
)

SCRIPT = """
const form = document.getElementById("filter"), count = document.getElementById("count");
const items = [...document.querySelectorAll("#lesions > li")];
function show() {
  const wanted = Object.fromEntries(new FormData(form));
  let shown = 0;
  for (const item of items) {
    const fits = Object.entries(wanted).every(([name, v]) => !v || item.dataset[name] === v);
    item.hidden = !fits;
    shown += fits;
  }
  count.textContent = shown + " of " + items.length + " lesions";
  const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
  try { history.replaceState(null, "", "#" + query); } catch (error) {}
}
for (const [name, value] of new URLSearchParams(location.hash.slice(1)))
  if (form.elements[name]) form.elements[name].value = value;
form.hidden = false;
form.addEventListener("input", show);
form.addEventListener("reset", () => setTimeout(show));
show();
"""


def verdict(explained: Explanation, label: str) -> str:
    """Say whether the predicted class is the true one: right or wrong."""
    return "right" if explained.prediction.label == label else "wrong"


def thumbnail(explained: Explanation) -> Image.Image:
    """Put a lesion's two images side by side."""
    both = Image.new("RGB", (2 * THUMBNAIL[0], THUMBNAIL[1]))
    for place, source in enumerate(explained.images.values()):
        both.paste(display_image(source, 320).resize(THUMBNAIL), (place * THUMBNAIL[0], 0))
    return both


def item(explained: Explanation, label: str) -> str:
    """Return a lesion's place in the gallery: its thumbnails, what it is and what is said of it."""
    said, name = explained.prediction, escape(explained.lesion_id)
    right = verdict(explained, label)
    gate = "" if said.weights is None else said.weights.idxmax()
    data = f'data-label="{label}" data-said="{said.label}" data-verdict="{right}"'
    data += f' data-gate="{gate}"'
    return (
        f'<li {data}><a href="cards/{name}.html"><img src="thumbs/{name}.jpg" loading="lazy" '
        f'width="{2 * THUMBNAIL[0]}" height="{THUMBNAIL[1]}" '
        f'alt="Close-up and dermoscopic image of lesion {name}">'
        f"<b>{label}</b>, {escape(CLASS_NAMES[label]).replace('/', '/<wbr>')}<br>"
        f'<span class="{right}">{right}: {said.label} {said.probabilities.max():.2f}</span>'
        "</a></li>"
    )


def select(name: str, title: str, options: dict[str, str]) -> str:
    """Return a labelled list of choices, the first of which is all."""
    rows = "".join(f'<option value="{value}">{text}</option>' for value, text in options.items())
    head = f'<label for="{name}">{title}</label><br><select id="{name}" name="{name}">'
    return f'<div>{head}<option value="">all</option>{rows}</select></div>'


def index_page(explained: list[Explanation], labels: pd.Series, home: str) -> str:
    """Return the page of all lesions."""
    items = "".join(item(e, labels[e.lesion_id]) for e in explained)
    right = sum(verdict(e, labels[e.lesion_id]) == "right" for e in explained)
    codes = {code: f"{code}, {escape(CLASS_NAMES[code])}" for code in CLASSES}
    gates = {name: name for name in explained[0].prediction.branches.index}
    form = (
        '<form id="filter" hidden aria-label="Filter the lesions">'
        + select("label", "Diagnosis", codes)
        + select("said", "Predicted", codes)
        + select("verdict", "Prediction", {"right": "right", "wrong": "wrong"})
        + select("gate", "Branch with the largest weight", gates)
        + '<button type="reset">Show all</button></form>'
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Gallery of {len(explained)} lesions</title><style>{STYLE}</style></head><body>"
        f'<header><p><a href="{escape(home)}">Back to the book</a></p>'
        f"<h1>Gallery of {len(explained)} real lesions</h1>"
        "<p>What the packaged model says of lesions that it never saw; each opens its card, with "
        "heat maps, probabilities and branch weights. Rare classes are far more common here than "
        f"in MILK10k, so {right} right predictions of {len(explained)} are no rate to expect.</p>"
        f'<p class="soft">Images: {CREDIT}. {NOT_A_DEVICE}</p></header><main>{form}'
        f'<p id="count" role="status">{len(explained)} lesions</p>'
        f'<ul id="lesions">{items}</ul></main><script>{SCRIPT}</script></body></html>\n'
    )


def card_top(explained: list[Explanation], place: int, label: str) -> str:
    """Return what stands over a card: the way back, its neighbours, and the diagnosis."""
    links = ['<a href="../index.html">Gallery</a>']
    for step, word in ((-1, "previous"), (1, "next")):
        if 0 <= place + step < len(explained):
            name = escape(explained[place + step].lesion_id)
            links.append(f'<a rel="{word[:4]}" href="{name}.html">{word}</a>')
    return (
        f'<nav aria-label="Lesions"><p>{" · ".join(links)}</p></nav><p>Diagnosis: '
        f"<b>{escape(CLASS_NAMES[label])}</b> ({label}). The prediction is "
        f"{verdict(explained[place], label)}.</p>"
    )


def write_gallery(folder: Path, home: str = "../index.html", number: int | None = None) -> None:
    """Write the gallery of the sample, or of its first lesions, into an empty folder."""
    lesions = read_lesions(sample_dir()).sort_values("label", kind="stable").head(number or 10**6)
    model = load_model(device="cpu")
    explained = explain(model, lesions, model.inputs(lesions))
    for name in ("cards", "thumbs"):
        (folder / name).mkdir()
    for place, lesion in enumerate(explained):
        name = lesion.lesion_id
        top = card_top(explained, place, lesions.loc[name, "label"])
        page = card_page(lesion, top=top, about=model.description, credit=CREDIT, **CARD)
        (folder / f"cards/{name}.html").write_text(page, encoding="utf-8")
        thumbnail(lesion).save(folder / f"thumbs/{name}.jpg", quality=60, optimize=True)
    page = index_page(explained, lesions["label"], home)
    (folder / "index.html").write_text(page, encoding="utf-8")
    write_marker(folder, ["index.html", "cards", "thumbs"], model.description)


def main() -> None:
    """Write the gallery; an older one at the same place is replaced."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the gallery")
    parser.add_argument("--home", default="../index.html", help="link back to the book")
    arguments = parser.parse_args()
    with own_folder(arguments.out) as folder:
        write_gallery(folder, arguments.home)


if __name__ == "__main__":
    main()
