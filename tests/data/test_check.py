import os
import pickle
from pathlib import Path

import pytest

from jiadf.data import DataError, Fault, Layout, check, format_faults, read_lesions
from jiadf.data import faults as kinds
from jiadf.data.schema import CLASSES, MONET

METADATA = "MILK10k_Training_Metadata.csv"
TRUTH = "MILK10k_Training_GroundTruth.csv"
SUPPLEMENT = "MILK10k_Training_Supplement.csv"


def run(root, **options):
    return check(root, progress=False, **options)


def told(faults):
    """The faults as (kind, file, row), each checked to say what is wrong and what to do."""
    for fault in faults:
        assert fault.message
        assert fault.remedy
    return [(fault.kind, fault.file, fault.row) for fault in faults]


def test_valid_folder_has_no_faults(milk):
    assert run(milk.write()) == []


def test_missing_folder_and_empty_folder(tmp_path):
    (fault,) = run(tmp_path / "nowhere")
    assert (fault.kind, fault.row) == (kinds.MISSING_FOLDER, None)
    assert "nowhere" in fault.file
    assert [fault.kind for fault in run(tmp_path)] == [kinds.MISSING_CSV]


def test_tables_are_asked_for_except_the_supplement(milk):
    milk.write_tables()
    assert told(run(milk.root)) == [(kinds.MISSING_FOLDER, "MILK10k_Training_Input", None)]
    assert run(milk.root, images=False) == []
    (milk.root / SUPPLEMENT).unlink()
    assert run(milk.root, images=False) == []
    for name in (TRUTH, METADATA):
        (milk.root / name).unlink()
        faults = run(milk.root, part="training", images=False)
        assert (kinds.MISSING_CSV, name, None) in told(faults)


@pytest.mark.parametrize(
    ("table", "file", "column", "instead"),
    [
        ("metadata", METADATA, "sex", "Sex"),
        ("metadata", METADATA, "lesion_id", None),
        ("metadata", METADATA, "isic_id", None),
        ("metadata", METADATA, "image_type", None),
        ("truth", TRUTH, "MEL", "MEL "),
        ("truth", TRUTH, "lesion_id", None),
        ("supplement", SUPPLEMENT, "isic_id", None),
    ],
)
def test_missing_column(milk, table, file, column, instead):
    for row in getattr(milk, table):
        value = row.pop(column)
        row |= {instead: value} if instead else {}
    milk.write_tables()
    faults = [fault for fault in run(milk.root) if fault.kind == kinds.MISSING_COLUMN]
    assert told(faults) == [(kinds.MISSING_COLUMN, file, None)]
    assert repr(column) in faults[0].message
    remedy = f"rename the column {instead!r} to {column!r}" if instead else "restore the column"
    assert remedy in faults[0].remedy


@pytest.mark.parametrize(
    ("content", "row", "message"),
    [
        (b"", None, "is empty"),
        (b"\n\n", None, "is empty"),
        (b"isic_id,diagnosis_full\n", None, "no rows"),
        (b"isic_id,diagnosis_full\nISIC_1,\xff\xfe\n", None, "is not UTF-8"),
        (b'isic_id,diagnosis_full\nISIC_1,x\nISIC_2,"y\n', 3, "is not valid CSV"),
        (b"isic_id;diagnosis_full\nISIC_1;x\n", 1, "no commas"),
        ("isic_id,x\nISIC_1,x\n".encode("utf-16"), None, "or UTF-16"),
        ("isic_id,x\nISIC_1,x\n".encode("utf-16-le"), None, "or UTF-16"),
        ("isic_id,x\nISIC_1,x\n".encode("utf-16-be"), None, "or UTF-16"),
        (b"PK\x03\x04" + bytes(200), None, "a workbook or"),
    ],
)
def test_unreadable_csv(milk, content, row, message):
    milk.write_tables()
    (milk.root / SUPPLEMENT).write_bytes(content)
    faults = run(milk.root, images=False)
    assert told(faults) == [(kinds.UNREADABLE_CSV, SUPPLEMENT, row)]
    assert message in faults[0].message


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


def test_image_file_missing(milk):
    milk.write()
    milk.image(3).unlink()
    faults = run(milk.root)
    name = milk.image(3).relative_to(milk.root).as_posix()
    assert told(faults) == [(kinds.MISSING_IMAGE, name, 5)]
    assert run(milk.root, images=False) == faults


def test_damaged_images_of_every_kind_in_one_pass(milk):
    milk.write()
    milk.image(0).unlink()
    milk.image(1).write_bytes(milk.image(1).read_bytes()[:200])
    milk.image(2).write_text("no picture")
    name = milk.image(2).relative_to(milk.root).as_posix()
    faults = run(milk.root)
    expected = [kinds.MISSING_IMAGE, kinds.TRUNCATED_IMAGE, kinds.NOT_AN_IMAGE]
    assert [fault.kind for fault in faults] == expected
    assert told(faults)[2] == (kinds.NOT_AN_IMAGE, name, 4)


def test_folder_in_place_of_an_image(milk):
    milk.write()
    milk.image(5).unlink()
    milk.image(5).mkdir()
    assert [fault.kind for fault in run(milk.root)] == [kinds.NOT_AN_IMAGE]
    assert [fault.kind for fault in run(milk.root, images=False)] == [kinds.MISSING_IMAGE]


def test_duplicate_isic_id(milk):
    milk.metadata[4]["isic_id"] = milk.metadata[0]["isic_id"]
    milk.write()
    faults = [fault for fault in run(milk.root) if fault.kind == kinds.DUPLICATE_ISIC_ID]
    assert told(faults) == [(kinds.DUPLICATE_ISIC_ID, METADATA, 6)]
    assert "row 2" in faults[0].message


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


def test_empty_rows_below_the_last_are_no_lesions(milk):
    milk.write()
    for name in (METADATA, TRUTH, SUPPLEMENT):
        text = (milk.root / name).read_text()
        empty_row = "," * text.split("\n")[0].count(",")
        (milk.root / name).write_text(f"{text}{empty_row}\n")
    assert run(milk.root) == []
    assert len(read_lesions(milk.root)) == 6


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
    text = format_faults(run(milk.root), None)
    assert text.count(r"\x1b[31m") > 4
    assert all(line.isprintable() for line in text.split("\n"))


def test_faults_of_a_row_are_in_the_order_of_its_columns(milk):
    for row in milk.metadata[:2]:
        row |= {score: "7" for score in MONET} | {"sex": "x"}
    faults = run(milk.write())
    columns = [fault.message.split()[0] for fault in faults]
    assert columns == ["sex", *MONET] * 2
    assert [fault.row for fault in faults] == [2] * 8 + [3] * 8


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
    rows = [fault.row for fault in faults if fault.kind == kinds.UNSAFE_ID]
    assert rows == ([4, 5] if column == "lesion_id" else [4]) * 2
    assert len(touched) > 10
    for path in touched:
        inside = Path(os.path.normpath(path)).is_relative_to(milk.root)
        assert inside or path == milk.root
        assert unsafe not in path.relative_to(milk.root).parts
        assert not str(path).endswith(f"{unsafe}.jpg")
    assert not any(fault.kind == kinds.MISSING_IMAGE for fault in faults)


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
    assert text.endswith("Faults in all: 8.")
    assert "row 8" in format_faults(faults_of(7), examples=None)
    assert format_faults(faults_of(7)).count("mend it") == 1
    assert format_faults([]) == "No faults."


def test_an_error_tells_the_faults_and_can_be_pickled():
    error = DataError(faults_of(40))
    assert str(error) == format_faults(error.faults)
    assert pickle.loads(pickle.dumps(error)).faults == error.faults
