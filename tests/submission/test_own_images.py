"""Own photographs: what comes out of a table and of a file, and every fault told with its row."""

import os
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from jiadf.data import faults as kinds
from jiadf.data.open_image import decode
from jiadf.data.read import read_lesions
from jiadf.submission.own_images import UNKNOWN_COLUMN, InputError, read_own_images


def photograph(path, size=(48, 36), seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.png", "c.jpg"):
        photograph(tmp_path / name, seed=ord(name[0]))
    return tmp_path


def table(folder, *lines):
    file = folder / "own.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def faults_of(folder, *lines):
    with pytest.raises(InputError, match="nothing was predicted") as caught:
        read_own_images(table(folder, *lines), 32)
    return caught.value.faults, str(caught.value)


def test_a_table_becomes_lesions_as_of_a_milk10k_folder(folder, milk10k):
    rows = ["a.jpg,b.png,61,female,trunk,3,0.25", ",c.jpg,,,,,", f"{folder / 'a.jpg'},,,male,,0,"]
    header = "clinical,dermoscopic,age,sex,site,skin_tone,clinical_MONET_hair"
    own = read_own_images(table(folder, header, *rows), 32)
    official = read_lesions(milk10k).drop(columns="label")
    assert own.lesions.index.name == "lesion_id"
    assert own.lesions.index.dtype == official.index.dtype
    types = own.lesions.dtypes.drop("skin_tone_class")  # which has no missing values there
    assert types.equals(official.dtypes[types.index])
    assert list(own.lesions.index) == ["row-1", "row-2", "row-3"]
    first = own.lesions.iloc[0]
    assert first["age_approx"] == 61
    assert (first["sex"], first["site"], first["skin_tone_class"]) == ("female", "trunk", 3)
    assert first["clinical_MONET_hair"] == 0.25
    assert own.missing["clinical"].tolist() == [False, True, False]
    assert own.missing["dermoscopic"].tolist() == [False, False, True]
    np.testing.assert_array_equal(own.pixels["clinical"][0], decode(folder / "a.jpg", 32))
    np.testing.assert_array_equal(own.pixels["clinical"][2], own.pixels["clinical"][0])
    assert not own.pixels["clinical"][1].any()
    assert own.lacking() == {
        "clinical image": 1, "dermoscopic image": 1, "age": 2, "sex": 1, "skin_tone": 1,
        "site": 2, "MONET scores": 3,
    }  # fmt: skip


def test_large_photographs_are_decoded_as_the_training_images_are(tmp_path):
    path = photograph(tmp_path / "large.jpg", (1200, 900))
    own = read_own_images(table(tmp_path, "dermoscopic", "large.jpg"), 64)
    np.testing.assert_array_equal(own.pixels["dermoscopic"][0], decode(path, 64))


def test_every_fault_is_told_with_its_row_and_a_remedy(folder):
    (folder / "text.jpg").write_text("not a photograph")
    (folder / "empty.jpg").touch()
    (folder / "half.jpg").write_bytes((folder / "a.jpg").read_bytes()[:1500])
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "fifo.jpg")
    Image.new("RGB", (4, 4)).save(folder / "moving.gif")
    Image.new("RGB", (4, 4)).save(folder / "scan.tif")
    cases = [
        ("none.jpg,,,,,,x2", kinds.MISSING_IMAGE, "clinical is 'none.jpg'"),
        ("text.jpg,,,,,,x3", kinds.NOT_AN_IMAGE, "clinical is 'text.jpg'"),
        ("empty.jpg,,,,,,x4", kinds.TRUNCATED_IMAGE, "0 bytes"),
        (",half.jpg,,,,,x5", kinds.TRUNCATED_IMAGE, "dermoscopic is 'half.jpg'"),
        ("folder.jpg,,,,,,x6", kinds.NOT_AN_IMAGE, "not a regular file"),
        ("fifo.jpg,,,,,,x7", kinds.NOT_AN_IMAGE, "not a regular file"),
        ("moving.gif,,,,,,x8", kinds.NOT_AN_IMAGE, "JPEG or PNG"),
        ("scan.tif,,,,,,x9", kinds.NOT_AN_IMAGE, "JPEG or PNG"),
        ("a.jpg,,85+,,,,x10", kinds.NOT_A_NUMBER, "age is '85+'"),
        ("a.jpg,,130,,,,x11", kinds.OUT_OF_RANGE, "age is 130, outside 0 to 120"),
        (",,50,,,,x12", kinds.MISSING_VALUE, "both empty"),
        ("a.jpg,,,Male,,,x13", kinds.UNKNOWN_CATEGORY, "sex is 'Male'"),
        ("a.jpg,,,,elbow,,x14", kinds.UNKNOWN_CATEGORY, "site is 'elbow'"),
        ("a.jpg,,,,,6,x15", kinds.UNKNOWN_CATEGORY, "skin_tone is '6'"),
        ("a.jpg,,,,,2.5,x16", kinds.UNKNOWN_CATEGORY, "skin_tone is '2.5'"),
        ("a.jpg,,inf,,,,x17", kinds.OUT_OF_RANGE, "age is inf"),
        ("a.jpg,,,,,,\x1b[31mred", kinds.UNSAFE_ID, r"lesion_id '\x1b[31mred'"),
        ("a.jpg,,,,,,x2", kinds.DUPLICATE_LESION_ID, "in row 2 already"),
        ("a.jpg,,,,,,", kinds.MISSING_VALUE, "lesion_id is empty"),
        ("a.jpg,,,,,,../x", kinds.UNSAFE_ID, "'../x'"),
        ("a.jpg,,,", kinds.UNREADABLE_CSV, "has 4 fields"),
    ]
    header = "clinical,dermoscopic,age,sex,site,skin_tone,lesion_id"
    faults, text = faults_of(folder, header, *(line for line, _, _ in cases))
    assert "\x1b" not in text
    for row, (line, kind, message) in enumerate(cases, start=2):
        mine = [fault for fault in faults if fault.row == row and fault.kind == kind]
        assert len(mine) == 1, (line, faults)
        assert message in mine[0].message
        assert mine[0].remedy
        assert f"own.csv, row {row}: {mine[0].message}" in text
    assert "write 'male'" in text
    assert "official" not in text


def test_empty_rows_are_passed_over_and_ids_are_text(folder):
    rows = ["0001,a.jpg,", ",,", "0002,c.jpg,30", ",,", ",,"]
    own = read_own_images(table(folder, "lesion_id,clinical,age", *rows), 32)
    assert list(own.lesions.index) == ["0001", "0002"]
    for word in ("unknown", "#N/A"):
        faults, _ = faults_of(folder, "clinical,age,site", f"a.jpg,{word},{word}")
        assert [f.remedy.split(", ")[-1] for f in faults] == ["or leave the cell empty"] * 2


def test_columns_that_nobody_knows_are_named_with_the_nearest(folder):
    faults, _ = faults_of(folder, "clinical,dermascopic,age_approx,notes", "a.jpg,b.png,3,x")
    assert [(fault.kind, fault.row) for fault in faults] == [(UNKNOWN_COLUMN, 1)] * 3
    assert "'dermoscopic'" in faults[0].remedy
    assert "'age'" in faults[1].remedy
    faults, _ = faults_of(folder, "clinical;dermoscopic", "a.jpg;b.png")
    assert "commas" in faults[0].remedy
    faults, _ = faults_of(folder, "age,sex", "50,male")
    assert faults[0].kind == kinds.MISSING_COLUMN


@pytest.mark.parametrize("lines", [("clinical",), ("",), ('clinical\n"a.jpg',)])
def test_tables_without_rows_are_refused(folder, lines):
    faults, text = faults_of(folder, *lines)
    assert faults[0].kind == kinds.UNREADABLE_CSV
    assert "official" not in text


def test_tables_that_are_no_files_are_refused(folder):
    os.mkfifo(folder / "fifo.csv")
    for name, kind in (("none.csv", "missing"), ("fifo.csv", "unreadable"), (".", "unreadable")):
        with pytest.raises(InputError, match=f"{kind} CSV") as caught:
            read_own_images(folder / name, 32)
        assert "official" not in str(caught.value)
    (folder / "wide.csv").write_text("clinical\na.jpg\n", encoding="utf-16")
    with pytest.raises(InputError, match="or UTF-16 text") as caught:
        read_own_images(folder / "wide.csv", 32)
    assert len(caught.value.faults) == 1
    (folder / "latin.csv").write_bytes("clinical\nä.jpg\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_own_images(folder / "latin.csv", 32)


def test_a_dataframe_holds_paths_images_and_arrays(folder):
    image = Image.open(folder / "b.png")
    cells = [str(folder / "b.png"), folder / "b.png", image, np.asarray(image)]
    names = pd.Index(list("pqrs"), name="lesion_id")
    ages = [40, 41.5, np.nan, None]
    frame = pd.DataFrame({"clinical": pd.Series(cells, names, object), "age": ages}, names)
    own = read_own_images(frame, 32)
    assert list(own.lesions.index) == list("pqrs")
    assert own.lesions["age_approx"].isna().tolist() == [False, False, True, True]
    for row in range(4):
        np.testing.assert_array_equal(own.pixels["clinical"][row], decode(folder / "b.png", 32))
    bad = pd.DataFrame({"clinical": [3, "none.jpg"], "age": [-1.0, 2]})
    with pytest.raises(InputError, match=r"the table, row 1: age is -1\.0, outside") as caught:
        read_own_images(bad, 32)
    assert [fault.row for fault in caught.value.faults] == [1, 1, 2]
    with pytest.raises(InputError, match="has no rows"):
        read_own_images(frame[:0], 32)


def test_a_small_file_that_claims_to_be_huge_takes_no_memory(tmp_path):
    import struct
    import zlib

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    start = b"\x89PNG\r\n\x1a\n"
    (tmp_path / "bomb.png").write_bytes(start + header + chunk(b"IDAT", zlib.compress(b"0" * 99)))
    tracemalloc.start()
    try:
        faults, _ = faults_of(tmp_path, "clinical", "bomb.png")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert "decompression bomb" in faults[0].message
