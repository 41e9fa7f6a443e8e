"""One shape for all tables of the book, and a no-break space before each unit.

Numbers stand to the right and text to the left, header included; the name of an index stands in the
header's row; metrics have their names, and gaps a dash; and a table that is wider than the page
scrolls in a box of its own.
"""

import re

from bs4 import BeautifulSoup
from bs4.element import Tag
from docutils import nodes

from jiadf.evaluation.metrics import METRIC_NAMES

NAMES = {**METRIC_NAMES, "p_holm": "p (Holm)", "NaN": "–", "nan": "–"}
NUMBER = re.compile(r"[✓✗]?\s*[-+−±<>≈~]?\s*[\d.]*\d|nan\b|NaN\b|[–-]?$")


def no_break(text: str) -> str:
    """Write ``95 %`` for ``95%``, and keep a number and its unit on one line."""
    text = re.sub(r"(?<=\d)%|(?:(?<=\d)|^) (?=%)", lambda m: "\u00a0" + m[0].strip(), text)
    return re.sub(r"(?<=\d) (?=(?:s|ms|GB|MB|KB|pt|px)\b)", "\u00a0", text)


def is_numeric(cells: list[str]) -> bool:
    """Tell whether more than half of a column's cells begin with a number, and one holds any."""
    numbers = [bool(NUMBER.match(cell.strip())) for cell in cells]
    return 2 * sum(numbers) > len(cells) and any(re.search(r"\d", cell) for cell in cells)


def align_numbers(table: nodes.table) -> None:
    """Set the columns of numbers of a table of the text to the right."""
    rows = [list(row.findall(nodes.entry)) for row in table.findall(nodes.row)]
    if len({len(row) for row in rows}) != 1 or len(rows) < 2:
        return  # cells that span others
    for column in list(zip(*rows, strict=True))[1:]:
        if is_numeric([entry.astext() for entry in column[1:]]):
            for entry in column:
                entry["classes"] = [c for c in entry["classes"] if not c.startswith("text-")]
                entry["classes"].append("text-right")


def _join_head(table: Tag) -> None:
    """Move the names of a pandas index from a row of their own up into the header's row."""
    rows = table.thead.find_all("tr") if table.thead else []
    if len(rows) < 2:
        return
    above, names = (row.find_all("th") for row in rows[-2:])
    texts = [cell.get_text(strip=True) for cell in names]
    width = len([text for text in texts if text])
    if not width or any(texts[width:]) or len(above) != len(names):
        return
    for old, new in zip(above[:width], names[:width], strict=True):
        old.string = new.get_text(strip=True)
    rows[-1].decompose()


def tidy_html(html: str) -> str:
    """Bring the pandas tables of a cell's output, plain or styled, into the book's shape."""
    soup = BeautifulSoup(html, "html.parser")
    for table in soup.find_all("table"):
        if "dataframe" not in table.get("class", []) and not table.get("id", "").startswith("T_"):
            continue
        _join_head(table)
        del table["border"]
        for styled in table.find_all("tr", style=True):
            del styled["style"]
        body = [row.find_all("td") for row in table.find_all("tr") if row.find("td")]
        head = table.thead.find_all("tr")[-1].find_all("th") if table.thead else []
        width = max(map(len, body), default=0)
        for place in range(-width, 0):
            column = [row[place] for row in body if len(row) == width]
            if not is_numeric([cell.get_text() for cell in column]):
                for cell in column + head[place:][:1]:
                    cell["class"] = [*cell.get("class", []), "text-left"]
        for cell in table.find_all(["td", "th"]):
            if cell.string:
                text = cell.string.strip()
                cell.string = no_break(NAMES.get(text, text))
        box = soup.new_tag("div", tabindex="0", role="region")
        box["class"], box["aria-label"] = "table-scroll", "Table"
        table["class"] = [*table.get("class", []), "book-table"]
        table.wrap(box)
    for style in soup.find_all("style", scoped=True):
        style.decompose()
    return str(soup)
