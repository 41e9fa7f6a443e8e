"""A Sphinx extension: what the build adds to the pages.

- the number of a chapter, which is its file's, before its title and in the sidebar;
- the minutes that reading takes, from its words;
- a description and Open Graph tags, from its first paragraph;
- no-break spaces between a number and its unit, and one shape of table (``book/tables.py``);
- ``{build-status}``, when the notebooks were executed, ``{how-to-cite}``, ``CITATION.cff``, and
  ``{answer}``, the figure of the findings, for the cover;
- the notebooks, and all that they need to run, as one zip.
"""

import math
import os
import re
import zipfile
from datetime import datetime
from html import escape
from pathlib import Path
from urllib.parse import urljoin

import nbformat
import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from book.sources import ROOT
from book.tables import align_numbers, no_break, tidy_html
from jiadf.training.provenance import git_commit, package_versions

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "scikit-learn", "jupyter-book")
WORDS_A_MINUTE = 220
ZIPPED = ("notebooks", "params", "jiadf", "book/results", "book/slider.html", "LICENSES")
ZIPPED += ("pyproject.toml", "requirements.lock", "environment.yml", "postBuild")
ZIPPED += ("README.md", "LICENSE", "CITATION.cff")
ANSWER = """```{figure} story.svg
:name: fig-answer
:alt: A row for each of thirteen claims, with our difference in macro average precision at two \
prevalences and the paper's. Both images against dermoscopic images alone is clearly positive. \
All differences within JI-ADF are near zero, where the paper's are positive.

The answer in one figure: a second image helps, and no other part of the method does. What a part \
adds in macro average precision, with 95 % intervals over lesions; {doc}`/notebooks/00_findings` \
says how it was measured.
```"""
PANDAS = 'class="dataframe"|<table id="T_'
VERBATIM = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)


def chapter(docname: str) -> str:
    """Return a notebook's number, ``5`` of ``notebooks/05_ablations``; nothing for other pages."""
    found = re.match(r"notebooks/(\d\d)_", docname)
    return str(int(found[1])) if found else ""


def number_sidebar(app: Sphinx, env) -> None:
    """Put the chapters' numbers before their titles in the sidebar."""
    for docname, toc in env.tocs.items():
        reference = next(toc.findall(nodes.reference), None)
        if chapter(docname) and not reference.get("numbered"):
            reference["numbered"] = True
            reference.insert(0, nodes.inline("", chapter(docname), classes=["chapter"]))


def minutes(doctree: nodes.document) -> int:
    """Estimate how long the text takes to read; tables and code are not counted."""
    texts = [p for p in doctree.findall(nodes.paragraph) if not isinstance(p.parent, nodes.entry)]
    return math.ceil(sum(len(p.astext().split()) for p in texts) / WORDS_A_MINUTE)


def finish_page(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Add the chapter and minutes to the title; put numbers and tables in shape."""
    title = next(doctree.findall(nodes.title))
    if chapter(docname):
        title.insert(0, nodes.inline("", chapter(docname), classes=["chapter"]))
    if docname != app.config.root_doc:
        text = f"{minutes(doctree)} min to read"
        title.parent.insert(1, nodes.paragraph("", text, classes=["minutes"]))
    for table in doctree.findall(nodes.table):
        align_numbers(table)
    for parent in doctree.findall(nodes.Element):
        for place, child in enumerate(parent.children):
            if isinstance(child, nodes.Text) and not isinstance(parent, VERBATIM):
                parent[place] = nodes.Text(no_break(child))
            elif isinstance(child, nodes.raw) and re.search(PANDAS, child.astext()):
                parent[place] = nodes.raw("", tidy_html(child.astext()), format="html")


def description(doctree: nodes.document, length: int = 200) -> str:
    """Return the beginning of a page's first long paragraph: whole sentences if one fits."""
    texts = (" ".join(p.astext().split()) for p in doctree.findall(nodes.paragraph))
    text = next((t for t in texts if len(t) > 60), "").removeprefix("Short answer. ")
    text = re.sub(r" \[[^]]*\d{4}\]", "", text)  # citations
    if len(text) <= length:
        return text
    start = text[:length]
    end = start.rfind(". ") + 1
    return start[:end] if end > 60 else start[: start.rfind(" ")] + " …"


def add_tags(app: Sphinx, pagename: str, template: str, context: dict, doctree) -> None:
    """Write description and Open Graph tags; leave MathJax out where nothing is an equation."""
    if doctree is None:
        return
    if not any(doctree.findall(lambda n: isinstance(n, nodes.math | nodes.math_block))):
        scripts = context["script_files"]
        context["script_files"] = [s for s in scripts if "mathjax" not in str(s.filename)]
    if pagename == app.config.root_doc:
        context["docstitle"] = ""  # the page has the book's own title
    base = app.config.html_baseurl
    image, about = "_static/card.png", description(doctree)
    tags = {
        "og:title": re.sub("<[^>]*>", "", context["title"]),
        "og:description": about,
        "og:type": "article" if chapter(pagename) else "website",
        "og:site_name": app.config.html_title,
        "og:image": urljoin(base, image) if base else context["pathto"](image, 1),
        "og:image:alt": "JI-ADF, rebuilt: does it do what its paper claims?",
    }
    if base:
        tags["og:url"] = urljoin(base, f"{pagename}.html")
    lines = [f'<meta property="{name}" content="{escape(text)}"/>' for name, text in tags.items()]
    lines.append(f'<meta name="description" content="{escape(about)}"/>')
    lines.append('<meta name="twitter:card" content="summary_large_image"/>')
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def executed(path: Path) -> str:
    """Describe one executed notebook, from the times that its cells carry.

    Raises
    ------
    ValueError
        If a code cell was not executed, or failed.
    """
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    times = [cell.metadata.get("execution", {}) for cell in cells if cell.source.strip()]
    if not all("shell.execute_reply" in time for time in times):
        raise ValueError(f"{path}: a cell was not executed")
    if any(output.output_type == "error" for cell in cells for output in cell.outputs):
        raise ValueError(f"{path}: a cell failed")
    first, last = times[0]["iopub.execute_input"], times[-1]["shell.execute_reply"]
    seconds = (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
    return f"| {{doc}}`/notebooks/{path.stem}` | {first[:16].replace('T', ' ')} | {seconds:.0f} |"


def status(folder: Path) -> str:
    """Return a table of the executed notebooks of a folder, and the versions behind them."""
    rows = [executed(path) for path in sorted((folder / "notebooks").glob("[0-9]*.ipynb"))]
    versions = ", ".join(f"{name} {v}" for name, v in package_versions(PACKAGES).items())
    commit = git_commit() or "unknown"
    head = ["| page | executed (UTC) | seconds |", "|---|---|---:|"]
    return "\n".join([*head, *rows, "", f"Commit `{commit[:8]}`; {versions}."])


def citations(folder: Path) -> str:
    """Return the software, the paper and the data set of ``CITATION.cff``, one an item."""
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    items = []
    for work in (cff, *cff["references"]):
        names = [
            a.get("name") or f"{a['given-names']} {a['family-names']}" for a in work["authors"]
        ]
        year = f" ({work['year']})" if "year" in work else ""
        parts = [f"{', '.join(names)}{year}. *{work['title']}*."]
        parts += [f"Version {work['version']}."] if "version" in work else []
        parts += [f"<https://doi.org/{work['doi']}>." if "doi" in work else ""]
        parts += [f"{identifier['value']}." for identifier in work.get("identifiers", [])]
        items.append(f"- {' '.join(filter(None, parts))}")
    return f"{cff['message']}\n\n" + "\n".join(items)


def answer(folder: Path) -> str:
    """Return the figure that page 0 begins with, and save it beside the pages of the book.

    Raises
    ------
    ValueError
        If the executed notebook has no such figure.
    """
    path = folder / "notebooks/00_findings.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        if output.get("metadata", {}).get("scrapbook", {}).get("name") == "story":
            drawn = [v for kind, v in output.data.items() if kind.endswith("image/svg+xml")]
            (folder / "book/story.svg").write_text("".join(drawn[0]), encoding="utf-8")
            return ANSWER
    raise ValueError(f"{path}: it glued no figure 'story'")


def directive(write) -> type[SphinxDirective]:
    """Make a directive of a function that writes Markdown, given the folder of the pages."""

    class Written(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            self.env.note_reread()
            box = nodes.container()
            lines = StringList(write(Path(self.env.srcdir)).splitlines(), source="")
            self.state.nested_parse(lines, 0, box)
            return box.children

    return Written


def zip_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Put the notebooks, and what they need to run, beside the pages as one zip."""
    if exception is not None:
        return
    target = Path(app.outdir) / "jiadf-notebooks.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ZIPPED:
            for path in sorted([ROOT / name, *(ROOT / name).rglob("*")]):
                if path.is_file() and "__pycache__" not in path.parts:
                    archive.write(path, f"jiadf-notebooks/{path.relative_to(ROOT)}")


def setup(app: Sphinx) -> dict:
    """Connect all this to the build; ``BOOK_URL`` is where the book will stand, where known."""
    app.config.html_baseurl = app.config.html_baseurl or os.environ.get("BOOK_URL", "")
    app.add_directive("build-status", directive(status))
    app.add_directive("how-to-cite", directive(citations))
    app.add_directive("answer", directive(answer))
    app.connect("env-updated", number_sidebar)
    app.connect("doctree-resolved", finish_page)
    app.connect("html-page-context", add_tags, priority=900)
    app.connect("build-finished", zip_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
