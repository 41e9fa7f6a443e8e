"""The gallery's pages name files that are there, and nothing outside."""

import re

import pytest
from PIL import Image

from book.gallery import write_gallery


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    write_gallery(folder, home="../index.html", number=3)
    return folder


def test_every_link_and_thumbnail_is_there(gallery):
    for page in gallery.rglob("*.html"):
        text = page.read_text()
        for name in re.findall(r'(?:href|src)="([^"#]+)"', text):
            if not name.startswith("data:") and name != "../index.html":
                assert (page.parent / name).is_file(), (page.name, name)
        assert "MILK study team, CC BY-NC 4.0" in text
    for path in (gallery / "thumbs").iterdir():
        assert Image.open(path).size == (192, 72)


def test_lesions_say_what_they_are_filtered_by(gallery):
    text = (gallery / "index.html").read_text()
    assert len(re.findall(r'<li data-label="AKIEC" data-said="\w+" data-verdict="', text)) == 3
    assert text.count("<img ") == text.count(' alt="Close-up and') == 3
