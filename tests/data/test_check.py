import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jiadf.data import DataError, Fault, Layout, check, format_faults, read_lesions
from jiadf.data import faults as kinds
from jiadf.data.check import find_stray_files
from jiadf.data.schema import CLASSES, MONET

METADATA = "MILK10k_Training_Metadata.csv"
TRUTH = "MILK10k_Training_GroundTruth.csv"
SUPPLEMENT = "MILK10k_Training_Supplement.csv"


def run(root, **options):
    return check(root, progress=False, **options)


def told(faults):
    """The faults as (kind, file, row), each checked to say what is wrong and what to do."""
    for fault in faults:
        assert fault.kind in kinds.KINDS
        assert fault.message
        assert fault.remedy
    return [(fault.kind, fault.file, fault.row) for fault in faults]


def test_valid_folder_has_no_faults(milk):
    assert run(milk.write()) == []


def test_valid_test_part_has_no_faults(milk_test_part):
    assert run(milk_test_part.write()) == []
    assert run(milk_test_part.root, part="test") == []


def test_missing_age_and_site_are_legal(milk):
    for row in milk.metadata:
        row["age_approx"] = row["site"] = ""
    milk.write()
    assert run(milk.root) == []


def test_missing_folder_and_empty_folder(tmp_path):
    (fault,) = run(tmp_path / "nowhere")
    assert (fault.kind, fault.row) == (kinds.MISSING_FOLDER, None)
    assert "nowhere" in fault.file
    assert [fault.kind for fault in run(tmp_path)] == [kinds.MISSING_CSV]


@pytest.mark.parametrize("name", [TRUTH, SUPPLEMENT])
def test_missing_csv(milk, name):
    milk.write()
    (milk.root / name).unlink()
    faults = run(milk.root)
    assert told(faults) == [(kinds.MISSING_CSV, name, None)]


def test_missing_metadata_csv_of_a_named_part(milk):
    milk.write()
    (milk.root / METADATA).unlink()
    assert told(run(milk.root, part="training")) == [(kinds.MISSING_CSV, METADATA, None)]


@pytest.mark.parametrize(
    ("table", "file", "column"),
    [
        ("metadata", METADATA, "sex"),
        ("metadata", METADATA, "lesion_id"),
        ("metadata", METADATA, "isic_id"),
        ("metadata", METADATA, "image_type"),
        ("metadata", METADATA, MONET[3]),
        ("truth", TRUTH, "MEL"),
        ("truth", TRUTH, "lesion_id"),
        ("supplement", SUPPLEMENT, "isic_id"),
    ],
)
def test_missing_column(milk, table, file, column):
    for row in getattr(milk, table):
        del row[column]
    milk.write_tables()
    faults = [fault for fault in run(milk.root, images=False) if fault.kind == kinds.MISSING_COLUMN]
    assert told(faults) == [(kinds.MISSING_COLUMN, file, None)]
    assert repr(column) in faults[0].message


def test_misspelt_column_is_recognised(milk):
    for row in milk.metadata:
        row["Sex"] = row.pop("sex")
    milk.write_tables()
    (fault,) = run(milk.root, images=False)
    assert fault.remedy == "rename the column 'Sex' to 'sex'"


def test_semicolons_are_recognised(milk):
    milk.write_tables()
    path = milk.layout.ground_truth_csv
    path.write_text(path.read_text().replace(",", ";"))
    faults = run(milk.root, images=False)
    assert told(faults) == [(kinds.UNREADABLE_CSV, TRUTH, 1)]
    assert "commas" in faults[0].remedy


@pytest.mark.parametrize(
    ("content", "row"),
    [
        (b"", None),
        (b"\n\n", None),
        (b"isic_id,diagnosis_full\n", None),
        (b"isic_id,diagnosis_full\nISIC_1,\xff\xfe\n", None),
        (b'isic_id,diagnosis_full\nISIC_1,x\nISIC_2,"y\n', 3),
    ],
)
def test_unreadable_csv(milk, content, row):
    milk.write_tables()
    (milk.root / SUPPLEMENT).write_bytes(content)
    assert (kinds.UNREADABLE_CSV, SUPPLEMENT, row) in told(run(milk.root, images=False))


def test_row_of_the_wrong_length(milk):
    milk.write_tables()
    path = milk.root / METADATA
    lines = path.read_text().splitlines()
    lines[-1] = ",".join(lines[-1].split(",")[:12])  # cut within the MONET scores
    path.write_text("\n".join(lines))
    assert told(run(milk.root, images=False)) == [(kinds.UNREADABLE_CSV, METADATA, 13)]


def test_column_named_twice(milk):
    milk.write_tables()
    path = milk.root / METADATA
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0] + ",sex", *(line + ",male" for line in lines[1:])]))
    assert told(run(milk.root, images=False)) == [(kinds.UNREADABLE_CSV, METADATA, 1)]


def test_rows_are_lines_of_the_file(milk):
    """Blank lines and quoted line breaks count; a byte order mark does not."""
    milk.metadata[0]["attribution"] = "two\nlines"
    milk.metadata[4]["sex"] = "x"
    milk.write_tables()
    path = milk.root / METADATA
    lines = path.read_text().split("\n")
    lines.insert(4, "")
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    faults = [fault for fault in run(milk.root, images=False) if "sex is" in fault.message]
    assert [fault.row for fault in faults] == [8]
    assert path.read_text(encoding="utf-8-sig").split("\n")[7].split(",")[7] == "x"


@pytest.mark.parametrize("column", ["lesion_id", "image_type", "isic_id", "sex", MONET[1]])
def test_missing_value(milk, column):
    for row in milk.metadata[2:4]:
        row[column] = ""
    milk.write_tables()
    faults = [f for f in run(milk.root, images=False) if f.kind == kinds.MISSING_VALUE]
    assert told(faults) == [(kinds.MISSING_VALUE, METADATA, row) for row in (4, 5)]
    assert column in faults[0].message


def test_lesion_without_one_image_of_each_type(milk):
    milk.write_images()
    milk.metadata[1]["image_type"] = milk.metadata[0][
        "image_type"
    ]  # two clinical, none dermoscopic
    del milk.metadata[3], milk.supplement[3]  # one image only
    milk.write_tables()
    faults = run(milk.root)
    assert told(faults) == [(kinds.IMAGE_PAIR, METADATA, row) for row in (2, 4)]
    assert "2 clinical and 0 dermoscopic" in faults[0].message
    assert "1 clinical and 0 dermoscopic" in faults[1].message


def test_lesion_with_a_third_image(milk):
    milk.metadata.append(milk.metadata[0] | {"isic_id": "ISIC_7777777"})
    milk.supplement.append(milk.supplement[0] | {"isic_id": "ISIC_7777777"})
    assert told(run(milk.write())) == [(kinds.IMAGE_PAIR, METADATA, 2)]


def test_image_file_missing(milk):
    milk.write()
    milk.image(3).unlink()
    faults = run(milk.root)
    name = milk.image(3).relative_to(milk.root).as_posix()
    assert told(faults) == [(kinds.MISSING_IMAGE, name, 5)]
    assert run(milk.root, images=False) == faults


def upper_case_suffix(path):
    return path.with_suffix(".JPG")


def one_level_deeper(path):
    return path.parents[1] / path.parents[1].name / path.parent.name / path.name


@pytest.mark.parametrize("place", [upper_case_suffix, one_level_deeper])
def test_images_that_lie_elsewhere_are_to_be_moved(milk, place):
    milk.write()
    for row in range(12):
        target = place(milk.image(row))
        target.parent.mkdir(parents=True, exist_ok=True)
        milk.image(row).rename(target)
    for images in (True, False):
        faults = run(milk.root, images=images)
        assert [fault.kind for fault in faults] == [kinds.MISSING_IMAGE] * 12
        assert f"there is {place(milk.image(0)).relative_to(milk.root)}" in faults[0].message
        assert {fault.remedy for fault in faults} == {
            "move or rename the images to MILK10k_Training_Input/<lesion_id>/<isic_id>.jpg"
        }


def test_folder_of_images_missing(milk):
    milk.write_tables()
    assert told(run(milk.root)) == [(kinds.MISSING_FOLDER, "MILK10k_Training_Input", None)]
    assert run(milk.root, images=False) == []


def as_jpeg(size):
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    return stream.getvalue()


@pytest.mark.parametrize("kept", [0, 2, 60, 0.5, -40, -2, -1])
@pytest.mark.parametrize("size", [(24, 32), (450, 600)])
@pytest.mark.parametrize("zeroed", [False, True])
def test_image_truncated(milk, kept, size, zeroed):
    """The tail is cut off or, as after a broken copy, full of zeros."""
    milk.write()
    content = as_jpeg(size)
    kept = range(len(content))[kept] if kept != 0.5 else len(content) // 2
    tail = bytes(len(content) - kept) if zeroed and kept > 2 else b""
    milk.image(2).write_bytes(content[:kept] + tail)
    name = milk.image(2).relative_to(milk.root).as_posix()
    assert told(run(milk.root)) == [(kinds.TRUNCATED_IMAGE, name, 4)]
    assert run(milk.root, images=False) == []


def test_png_truncated(milk):
    milk.write()
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(stream, "PNG")
    milk.image(2).write_bytes(stream.getvalue())
    assert run(milk.root) == []
    milk.image(2).write_bytes(stream.getvalue()[:-40])
    assert [fault.kind for fault in run(milk.root)] == [kinds.TRUNCATED_IMAGE]


def test_bytes_after_the_end_of_an_image_are_legal(milk):
    milk.write()
    milk.image(2).write_bytes(as_jpeg((24, 32)) + b"a camera's trailer")
    assert run(milk.root) == []


@pytest.mark.parametrize("content", [b"<html>not here</html>", b"GIF89a" + bytes(50), b"\x00" * 99])
def test_not_an_image(milk, content):
    milk.write()
    milk.image(5).write_bytes(content)
    name = milk.image(5).relative_to(milk.root).as_posix()
    assert told(run(milk.root)) == [(kinds.NOT_AN_IMAGE, name, 7)]


def test_folder_in_place_of_an_image(milk):
    milk.write()
    milk.image(5).unlink()
    milk.image(5).mkdir()
    assert [fault.kind for fault in run(milk.root)] == [kinds.NOT_AN_IMAGE]
    assert [fault.kind for fault in run(milk.root, images=False)] == [kinds.MISSING_IMAGE]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [10, 500])
def test_image_of_too_many_pixels(milk, monkeypatch, limit):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", limit)
    milk.write()
    faults = run(milk.root)
    assert {fault.kind for fault in faults} == {kinds.NOT_AN_IMAGE}
    assert "smaller copy" in faults[0].remedy


def test_duplicate_isic_id(milk):
    milk.metadata[4]["isic_id"] = milk.metadata[0]["isic_id"]
    milk.write()
    faults = [fault for fault in run(milk.root) if fault.kind == kinds.DUPLICATE_ISIC_ID]
    assert told(faults) == [(kinds.DUPLICATE_ISIC_ID, METADATA, 6)]
    assert "row 2" in faults[0].message


def test_duplicate_isic_id_in_the_supplement(milk):
    milk.supplement.append(milk.supplement[0])
    assert told(run(milk.write())) == [(kinds.DUPLICATE_ISIC_ID, SUPPLEMENT, 14)]


def test_duplicate_lesion_id(milk):
    milk.truth.append(milk.truth[2])
    faults = run(milk.write())
    assert told(faults) == [(kinds.DUPLICATE_LESION_ID, TRUTH, 8)]
    assert "row 4" in faults[0].message


@pytest.mark.parametrize(
    "values",
    [
        dict.fromkeys(CLASSES, "0"),
        {"MEL": "1", "NV": "1"},
        {"AKIEC": "0.5", "BCC": "0.5"},
        {"AKIEC": "1", "BCC": "0.5"},
        {"AKIEC": "2"},
        {"AKIEC": "yes"},
        {"BCC": ""},
        {"MEL": "-1", "NV": "1"},
    ],
)
def test_not_one_hot(milk, values):
    milk.truth[0].update(values)
    assert told(run(milk.write())) == [(kinds.NOT_ONE_HOT, TRUTH, 2)]


@pytest.mark.parametrize(
    ("column", "value", "remedy"),
    [
        ("sex", "femal", "write 'female'"),
        ("site", "elbow", "write one of these values, or leave the cell empty"),
        ("site", "#N/A", "write one of these values, or leave the cell empty"),
        ("image_manipulation", "Altered", "write 'altered'"),
        ("image_type", "dermoscopy", "write 'dermoscopic'"),
        ("skin_tone_class", "6", "write one of these values"),
        ("skin_tone_class", "2.5", "write one of these values"),
    ],
)
def test_unknown_category(milk, column, value, remedy):
    for row in milk.metadata[8:10]:
        row[column] = value
    faults = run(milk.write())
    assert told(faults) == [(kinds.UNKNOWN_CATEGORY, METADATA, row) for row in (10, 11)]
    assert repr(value) in faults[0].message
    assert faults[0].remedy == remedy


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("age_approx", "121", kinds.OUT_OF_RANGE),
        ("age_approx", "-5", kinds.OUT_OF_RANGE),
        ("age_approx", "inf", kinds.OUT_OF_RANGE),
        ("age_approx", "forty", kinds.NOT_A_NUMBER),
        ("age_approx", "4_0", kinds.NOT_A_NUMBER),
        (MONET[0], "1.5", kinds.OUT_OF_RANGE),
        (MONET[6], "-0.1", kinds.OUT_OF_RANGE),
        (MONET[2], "0;5", kinds.NOT_A_NUMBER),
        ("skin_tone_class", "light", kinds.NOT_A_NUMBER),
    ],
)
def test_out_of_range_and_not_a_number(milk, column, value, kind):
    for row in milk.metadata[6:8]:
        row[column] = value
    faults = run(milk.write())
    assert told(faults) == [(kind, METADATA, row) for row in (8, 9)]
    assert column in faults[0].message
    assert value in faults[0].message


def test_an_unknown_age_is_to_be_left_empty(milk):
    milk.metadata[0]["age_approx"] = milk.metadata[1]["age_approx"] = "unknown"
    assert {fault.remedy for fault in run(milk.write())} == {
        "write age_approx as a plain number such as 45 or 0.5, or leave the cell empty"
    }


def test_empty_rows_below_the_last_are_no_lesions(milk):
    milk.write()
    for name in (METADATA, TRUTH, SUPPLEMENT):
        text = (milk.root / name).read_text()
        empty_row = "," * text.split("\n")[0].count(",")
        (milk.root / name).write_text(f"{text}{empty_row}\n")
    assert run(milk.root) == []
    assert len(read_lesions(milk.root)) == 6


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_table_in_utf_16_is_one_fault(milk, encoding):
    milk.write()
    path = milk.root / METADATA
    path.write_bytes(path.read_text().encode(encoding))
    (fault,) = run(milk.root)
    assert told([fault]) == [(kinds.UNREADABLE_CSV, METADATA, None)]
    assert "UTF-16" in fault.message
    assert "CSV in UTF-8" in fault.remedy


def test_a_workbook_is_no_table(milk):
    milk.write()
    (milk.root / TRUTH).write_bytes(b"PK\x03\x04" + bytes(200))
    (fault,) = run(milk.root)
    assert "workbook" in fault.message


@pytest.mark.parametrize("name", [TRUTH, SUPPLEMENT])
def test_what_is_no_regular_file_is_not_waited_for(milk, name):
    milk.write()
    (milk.root / name).unlink()
    os.mkfifo(milk.root / name)
    milk.image(3).unlink()
    os.mkfifo(milk.image(3))
    image = milk.image(3).relative_to(milk.root).as_posix()
    assert told(run(milk.root)) == [
        (kinds.UNREADABLE_CSV, name, None),
        (kinds.NOT_AN_IMAGE, image, 5),
    ]


def test_ids_that_look_like_numbers_stay_as_they_are(milk):
    for row in (*milk.metadata, *milk.truth):
        row["lesion_id"] = "000" + row["lesion_id"][-1]
    for row in (*milk.metadata, *milk.supplement):
        row["isic_id"] = row["isic_id"][-5:]
    assert run(milk.write()) == []
    lesions = read_lesions(milk.root)
    assert list(lesions.index) == ["0009", "0008", "0007", "0006", "0005", "0004"]
    assert lesions["clinical_isic_id"].iloc[2] == "00002"


def test_escape_codes_of_a_table_do_not_reach_the_terminal(milk):
    red = "\x1b[31m"
    milk.metadata[0]["lesion_id"] = milk.metadata[2]["sex"] = red
    milk.truth[0]["AKIEC"] = milk.truth[1]["lesion_id"] = red
    milk.write_tables()
    milk.layout.input_dir.mkdir()
    (milk.layout.input_dir / f"{red}.txt").touch()
    text = format_faults(run(milk.root) + find_stray_files(milk.layout), None)
    assert text.count(r"\x1b[31m") > 4
    assert all(line.isprintable() for line in text.split("\n"))


def test_faults_of_a_row_are_in_the_order_of_its_columns(milk):
    for row in milk.metadata[:2]:
        row |= {score: "7" for score in MONET} | {"sex": "x"}
    faults = run(milk.write())
    columns = [fault.message.split()[0] for fault in faults]
    assert columns == ["sex", *MONET] * 2
    assert [fault.row for fault in faults] == [2] * 8 + [3] * 8


def test_lesion_in_metadata_only(milk):
    del milk.truth[1]
    faults = run(milk.write())
    assert told(faults) == [(kinds.LESION_IN_ONE_TABLE, METADATA, 4)]
    assert TRUTH in faults[0].message


def test_lesion_in_ground_truth_only(milk):
    milk.truth.append(milk.truth[0] | {"lesion_id": "IL_7777777"})
    faults = run(milk.write())
    assert told(faults) == [(kinds.LESION_IN_ONE_TABLE, TRUTH, 8)]
    assert METADATA in faults[0].message


def test_image_in_one_table_only(milk):
    milk.supplement[3]["isic_id"] = "ISIC_7777777"
    assert told(run(milk.write())) == [
        (kinds.IMAGE_IN_ONE_TABLE, METADATA, milk.metadata.index(milk.metadata[3]) + 2),
        (kinds.IMAGE_IN_ONE_TABLE, SUPPLEMENT, 5),
    ]


@pytest.mark.parametrize(
    ("column", "value"),
    [("age_approx", "80"), ("age_approx", ""), ("sex", "female"), ("site", "foot")],
)
def test_rows_of_a_lesion_disagree(milk, column, value):
    milk.metadata[1][column] = value
    assert told(run(milk.write())) == [(kinds.DISAGREEING_ROWS, METADATA, 3)]


def test_numbers_written_differently_agree(milk):
    milk.metadata[0]["age_approx"] = milk.metadata[1]["age_approx"] + ".0"
    assert run(milk.write()) == []


@pytest.mark.parametrize("unsafe", ["../x", "/etc/passwd", "..", "a/b", "a\\b", "C:x", "a b"])
@pytest.mark.parametrize("column", ["isic_id", "lesion_id"])
def test_unsafe_ids_are_told_and_never_touched(milk, monkeypatch, unsafe, column):
    milk.write_images()
    for row in milk.metadata[2:4] if column == "lesion_id" else milk.metadata[2:3]:
        row[column] = unsafe
    milk.write_tables()
    touched = []

    def watch(name):
        real = getattr(Path, name)

        def method(self, *args, **kwargs):
            touched.append(self)
            return real(self, *args, **kwargs)

        monkeypatch.setattr(Path, name, method)

    for name in ("read_bytes", "open", "is_file", "exists", "iterdir", "stat"):
        watch(name)
    faults = run(milk.root) + run(milk.root, images=False)
    find_stray_files(milk.layout)
    rows = [fault.row for fault in faults if fault.kind == kinds.UNSAFE_ID]
    assert rows == ([4, 5] if column == "lesion_id" else [4]) * 2
    assert len(touched) > 10
    for path in touched:
        inside = Path(os.path.normpath(path)).is_relative_to(milk.root)
        assert inside or path == milk.root
        assert unsafe not in path.relative_to(milk.root).parts
        assert not str(path).endswith(f"{unsafe}.jpg")
    assert not any(fault.kind == kinds.MISSING_IMAGE for fault in faults)


def test_every_fault_in_one_pass(milk):
    milk.write_images()
    milk.image(0).unlink()
    milk.image(1).write_bytes(milk.image(1).read_bytes()[:200])
    milk.image(2).write_text("no picture")
    milk.metadata[4]["sex"] = milk.metadata[5]["sex"] = "x"
    milk.metadata[6]["age_approx"] = milk.metadata[7]["age_approx"] = "999"
    milk.metadata[8][MONET[0]] = "abc"
    milk.metadata[9]["isic_id"] = "../x"
    milk.metadata[11]["isic_id"] = milk.metadata[10]["isic_id"]
    for row in milk.supplement:
        del row["diagnosis_full"]
    milk.truth[0]["MEL"] = "1"
    milk.truth[5] = milk.truth[1]
    milk.write_tables()
    found = {fault.kind for fault in run(milk.root)}
    assert found == {
        kinds.MISSING_IMAGE,
        kinds.TRUNCATED_IMAGE,
        kinds.NOT_AN_IMAGE,
        kinds.UNKNOWN_CATEGORY,
        kinds.OUT_OF_RANGE,
        kinds.NOT_A_NUMBER,
        kinds.UNSAFE_ID,
        kinds.DUPLICATE_ISIC_ID,
        kinds.DUPLICATE_LESION_ID,
        kinds.MISSING_COLUMN,
        kinds.NOT_ONE_HOT,
        kinds.LESION_IN_ONE_TABLE,
        kinds.IMAGE_IN_ONE_TABLE,
    }


def test_stray_files_are_notes_not_faults(milk):
    milk.write()
    inputs = milk.layout.input_dir
    (inputs / "LICENSE.txt").write_text("CC BY-NC")
    (inputs / "IL_0000042").mkdir()
    (inputs / "IL_0000042" / "ISIC_0000042.jpg").write_bytes(b"x")
    (milk.image(0).parent / "Thumbs.db").write_bytes(b"x")
    assert run(milk.root) == []
    assert {(fault.kind, fault.file) for fault in find_stray_files(milk.layout)} == {
        (kinds.STRAY_FILE, "MILK10k_Training_Input/LICENSE.txt"),
        (kinds.STRAY_FILE, "MILK10k_Training_Input/IL_0000042"),
        (kinds.STRAY_FILE, f"{milk.image(0).parent.relative_to(milk.root).as_posix()}/Thumbs.db"),
    }


def test_progress_bar(milk, capsys):
    milk.write()
    check(milk.root, progress=True)
    assert "12/12" in capsys.readouterr().err
    check(milk.root, progress=False)
    assert capsys.readouterr().err == ""


def test_detect(milk, milk_test_part, tmp_path):
    assert Layout.detect(milk_test_part.write()).part == "test"
    assert Layout.detect(milk.write()).part == "training"  # both are there now
    assert Layout.detect(milk.root, part="test").part == "test"
    with pytest.raises(DataError, match=f"give the folder {milk.root}, which holds"):
        Layout.detect(milk.root.parent)
    with pytest.raises(DataError, match="does not exist"):
        Layout.detect(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="validation"):
        Layout.detect(milk.root, part="validation")


def faults_of(count, kind=kinds.OUT_OF_RANGE):
    return [Fault(kind, METADATA, row, f"value {row}", "mend it") for row in range(2, 2 + count)]


def test_format_faults():
    text = format_faults(faults_of(7) + faults_of(1, kinds.MISSING_VALUE), examples=3)
    assert f"{kinds.OUT_OF_RANGE} (7)" in text
    assert f"{METADATA}, row 4: value 4" in text
    assert "row 5" not in text
    assert "... and 4 more" in text
    assert text.endswith("8 faults of 2 kinds.")
    assert text.index(kinds.MISSING_VALUE) < text.index(kinds.OUT_OF_RANGE)
    assert "row 8" in format_faults(faults_of(7), examples=None)
    assert format_faults(faults_of(7)).count("mend it") == 1
    assert format_faults([]) == "No faults."


def test_data_error_shows_the_first_faults_and_the_count():
    error = DataError(faults_of(40))
    assert "40 faults" in str(error)
    assert "row 2: value 2" in str(error)
    assert "mend it" in str(error)
    assert "35 more" in str(error)
    assert len(str(error).splitlines()) < 10
    assert pickle.loads(pickle.dumps(error)).faults == error.faults
