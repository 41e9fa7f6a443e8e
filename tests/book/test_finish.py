"""What the build adds to the pages: status, numbers, units, tables and a description."""

import nbformat
import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.core import publish_doctree
from nbformat.v4 import new_code_cell, new_notebook, new_output

from book.finish import answer, chapter, citations, description, minutes, status
from book.tables import align_numbers, no_break, tidy_html

DONE = {
    "iopub.execute_input": "2026-01-02T03:04:05.000000Z",
    "shell.execute_reply": "2026-01-02T03:05:17.400000Z",
}
PANDAS = """<div><table border="1" class="dataframe"><thead>
<tr style="text-align: right;"><th>metric</th><th>macro_ap</th><th>what it is</th></tr>
<tr><th>system</th><th></th><th></th></tr></thead>
<tbody><tr><th>ji-adf</th><td>12%</td><td>gate</td></tr>
<tr><th>ji-mmfa</th><td>-3%</td><td>9 heads</td></tr><tr><th>C</th><td>–</td><td>one</td></tr>
</tbody></table></div>"""


def write(folder, name, timing, outputs=()):
    cell = new_code_cell("1 / 0", metadata={"execution": timing}, outputs=list(outputs))
    (folder / "notebooks").mkdir()
    nbformat.write(new_notebook(cells=[cell]), folder / "notebooks" / f"{name}.ipynb")


def test_the_answer_is_the_figure_that_page_0_glued(tmp_path):
    glued = {"metadata": {"scrapbook": {"name": "story"}}}
    drawn = {"application/papermill.record/image/svg+xml": "<svg/>"}
    write(tmp_path, "00_findings", DONE, [new_output("display_data", drawn, **glued)])
    (tmp_path / "book").mkdir()
    assert answer(tmp_path).startswith("```{figure} story.svg")
    assert (tmp_path / "book/story.svg").read_text() == "<svg/>"


def test_without_that_figure_there_is_no_cover(tmp_path):
    write(tmp_path, "00_findings", DONE)
    with pytest.raises(ValueError, match=r"00_findings.*'story'"):
        answer(tmp_path)


def test_status_has_a_row_a_notebook(tmp_path):
    write(tmp_path, "01_data", DONE)
    assert "| {doc}`/notebooks/01_data` | 2026-01-02 03:04 | 72 |" in status(tmp_path)


@pytest.mark.parametrize("timing", [{}, DONE])
def test_what_was_not_executed_whole_is_refused(tmp_path, timing):
    write(tmp_path, "02_mmfa", timing, [new_output("error", ename="ZeroDivisionError")])
    with pytest.raises(ValueError, match="02_mmfa"):
        status(tmp_path)


def test_a_chapter_has_the_number_of_its_file():
    assert [chapter(f"notebooks/{n}") for n in ("00_findings", "13_your_images")] == ["0", "13"]
    assert chapter("book/intro") == ""


def test_minutes_and_description_come_from_the_text():
    text = "Short.\n\n" + "Short answer. " + "A sentence of five words. " * 90
    page = publish_doctree(text)
    assert minutes(page) == 3  # 453 words at 220 a minute
    assert description(page) == ("A sentence of five words. " * 7).strip()


def test_units_stay_on_the_line_of_their_number():
    nb = "\u00a0"
    assert no_break("95% and 9 s of 20 %, 3 sets") == f"95{nb}% and 9{nb}s of 20{nb}%, 3 sets"
    assert no_break(" % after a pasted number") == f"{nb}% after a pasted number"


def test_a_pandas_table_gets_one_head_and_its_text_to_the_left():
    table = BeautifulSoup(tidy_html(PANDAS), "html.parser").find("table")
    assert table.parent["class"] == ["table-scroll"]
    (head,) = table.thead.find_all("tr")
    assert [cell.get_text() for cell in head.find_all("th")] == ["system", "macro AP", "what it is"]
    left = [cell.get_text() for cell in table.find_all(class_="text-left")]
    assert left == ["what it is", "gate", "9 heads", "one"]
    assert table.find("td").get_text() == "12\u00a0%"


def test_columns_of_numbers_of_the_text_stand_to_the_right():
    rule = "== ==== ===="
    lines = [rule, "A  B    C", rule, "a  0.3  one", "b  −.2  two", rule]
    page = publish_doctree("\n".join(lines))
    (table,) = page.findall(nodes.table)
    align_numbers(table)
    right = [e.astext() for e in table.findall(nodes.entry) if "text-right" in e["classes"]]
    assert right == ["B", "0.3", "−.2"]


def test_software_paper_and_data_are_cited():
    text = citations(None)
    for part in ("The jiadf contributors", "arXiv:2604.27343", "https://doi.org/10.34970/648456"):
        assert part in text
