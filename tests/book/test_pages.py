"""Open the built book in a browser, as a reader would. Needs `make book` and a Chromium."""

import functools
import gzip
import http.server
import threading
from pathlib import Path
from urllib.parse import urljoin

import pytest
import yaml

from tests.book.ensure_browser import find_browser

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build" / "html"
# sphinx-thebe adds one of its scripts twice; the first stands, the second does nothing.
KNOWN = "'THEBE_JS_URL' has already been declared"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


def entries():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


CONTRAST = (ROOT / "tests/book/contrast.js").read_text()
# What a visitor loads at most, in bytes as a server sends them.
LIMITS = dict.fromkeys(entries(), 3e6) | {"gallery/index": 10e6}
NOTEBOOKS = [entry for entry in entries() if entry.startswith("notebooks/")]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def site():
    assert (HTML / "index.html").exists(), "run `make book` first"
    handler = functools.partial(Quiet, directory=str(HTML))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, site):
    """Open a page; collects what failed to load and script errors as it goes."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.failures, page.answers = [], []

    def note(error):
        if KNOWN not in str(error):
            page.failures.append(f"script: {error}")

    page.on("pageerror", note)

    def watch(response):
        page.answers.append(response)
        if response.status >= 400:
            page.failures.append(f"{response.status} {response.url}")

    def keep_local(route):
        # Nothing outside is reached: the book must be readable without a network.
        local = route.request.url.startswith((site, "data:", "blob:"))
        route.continue_() if local else route.abort()

    page.on("response", watch)
    page.route("**/*", keep_local)

    def go(entry):
        page.goto(f"{site}/{entry}.html", wait_until="load", timeout=120_000)
        return page

    yield go
    context.close()


def test_index_leads_to_the_introduction(visit):
    page = visit("index")
    page.wait_for_url("**/book/intro.html")
    assert "JI-ADF" in page.locator("h1").first.inner_text()


@pytest.mark.parametrize("entry", entries())
def test_page_opens_whole(visit, site, entry):
    """One visit a page: nothing is missing, broken or unlabelled, and it fits a phone."""
    page = visit(entry)
    assert page.locator("article h1").count() >= 1
    assert not page.failures
    broken = page.evaluate(
        "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    )
    assert not broken
    anchors = page.evaluate(
        "[...document.querySelectorAll('article a.reference.internal')].map(a => a.href)"
    )
    here = page.url.split("#")[0]
    for target in {a.split("#")[1] for a in anchors if a.startswith(here + "#")}:
        assert page.locator(f"[id='{target}']").count() == 1, target
    article = page.locator("article.bd-article")
    text = article.inner_text()
    for fault in ("Traceback", "{glue", "{numref}", "{cite}", "undefined label", "Warning:"):
        assert fault not in text, fault
    assert "not a medical device" in page.locator("body").inner_text().lower()
    if entry in NOTEBOOKS:
        assert "short answer" in text.lower()
        assert article.locator(".cell_output").count() >= 2
        assert article.locator("figure img").count() >= 1
    alts = page.evaluate(
        "[...document.querySelectorAll('article figure:has(figcaption) img')].map(i => i.alt)"
    )
    assert all(len(alt) > 20 for alt in alts), alts
    for tag in ("description", "og:title", "og:image"):
        assert page.locator(f"meta[name='{tag}'], meta[property='{tag}']").count() == 1
    for link in page.locator("a[download]").all():
        target = urljoin(page.url, link.get_attribute("href")).removeprefix(site)
        assert (HTML / target.strip("/")).is_file(), target
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("entry", LIMITS)
def test_page_is_light_and_legible_in_both_themes(visit, entry):
    page = visit(entry)
    weight = sum(len(gzip.compress(answer.body())) for answer in page.answers if answer.ok)
    assert weight < LIMITS[entry]
    page.add_style_tag(content="* { transition: none !important; }")
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        assert page.evaluate(CONTRAST) == [], theme
    assert page.evaluate("[...document.images].filter(i => !i.hasAttribute('alt')).length") == 0
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_what_a_phone_cannot_show_whole_scrolls(visit):
    """Equations with their numbers, and tables, begin inside the page and scroll in their boxes."""
    page = visit("notebooks/02_mmfa")
    page.wait_for_selector("mjx-container", timeout=120_000)
    page.set_viewport_size({"width": 390, "height": 800})
    left = page.evaluate(
        "[...document.querySelectorAll('div.math mjx-math, .table-scroll table')]"
        ".map(e => e.getBoundingClientRect().left)"
    )
    assert left
    assert min(left) >= 0


def test_line_art_scrolls_on_a_phone_and_says_so(visit):
    page = visit("book/intro")
    page.set_viewport_size({"width": 390, "height": 800})
    hidden, told = page.locator('figure:has(img[src$=".svg"])').first.evaluate(
        "figure => [figure.scrollWidth - figure.clientWidth,"
        " getComputedStyle(figure.querySelector('figcaption'), '::before').content]"
    )
    assert hidden > 0
    assert "Swipe" in told


@pytest.mark.parametrize("entry", ["notebooks/02_mmfa", "book/paper_and_book"])
def test_equations_are_typeset(visit, entry):
    page = visit(entry)
    page.wait_for_selector("mjx-container", timeout=120_000)
    assert page.locator("mjx-merror").count() == 0


def test_search_finds_a_notebook(visit):
    page = visit("search")
    page.goto(page.url + "?q=simplex", wait_until="load", timeout=120_000)
    page.wait_for_selector("#search-results li a", timeout=120_000)
    assert page.locator("#search-results li a[href*='03_adf']").count() >= 1
