"""Break folders in many ways and see that each is refused in words, or rightly accepted.

    python benchmarks/fuzz.py --count 500 --seed 0

A small MILK10k folder, a table of own images, a submission, a finished run, a file of parameters
and a grid are copied, damaged in one of the ways below (every third in two), and read as the
commands read them. Wrong is: a traceback (any exception that is not an input error), a reader that
hangs, a damaged input that is accepted, a harmless change that is refused, a message that names no
file or carries control characters. The same seed does the same.
"""

import argparse
import io
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from jiadf.config import load_parameters
from jiadf.data.faults import DataError, format_faults
from jiadf.data.read import check, read_lesions
from jiadf.data.schema import CLASSES
from jiadf.model import PRETRAINED
from jiadf.submission.benchmark_file import validate_submission
from jiadf.submission.own_images import read_own_images
from jiadf.training.grid import load_grid
from jiadf.training.run_folder import Run
from tests.made_lesions import make_lesions

TIMEOUT = 60  # seconds: a machine may be busy
LESIONS = 6
REFUSED, ACCEPTED, EITHER = True, False, None
Damage = Callable[[Path, np.random.Generator], None]
DAMAGES: dict[str, list[tuple[str, bool | None, Damage]]] = {}


def damage(subject: str, name: str, expected: bool | None, do: Damage) -> None:
    """Register a kind of damage and what is to become of it."""
    DAMAGES.setdefault(subject, []).append((f"{subject}: {name}", expected, do))


def put(path: Path, content: bytes) -> None:
    """Replace a file; the copies of a folder share their files."""
    path.unlink()
    path.write_bytes(content)


def changed(do: Callable[[bytes], bytes], pick: str) -> Damage:
    """Change the bytes of one file that fits a pattern."""

    def apply(folder: Path, rng: np.random.Generator) -> None:
        path = one(folder, pick, rng)
        put(path, do(path.read_bytes()))

    return apply


def one(folder: Path, pick: str, rng: np.random.Generator) -> Path:
    """Choose one of the files that fit a pattern."""
    found = sorted(path for path in folder.glob(pick) if path.is_file())
    return found[rng.integers(len(found))]


def cell(pick: str, column: str, text: str, both: bool = False) -> Damage:
    """Write a text into one row's cell of a column; ``both``: of all rows of that lesion."""

    def apply(folder: Path, rng: np.random.Generator) -> None:
        path = one(folder, pick, rng)
        header, *rows = [line.split(",") for line in path.read_text("utf-8").splitlines()]
        place = header.index(column)
        row = rows[rng.integers(len(rows))]
        for other in rows:
            if other is row or (both and other[0] == row[0]):
                other[place] = text
        put(path, "\n".join(map(",".join, [header, *rows])).encode() + b"\n")

    return apply


def lines(pick: str, do: Callable[[list[str], np.random.Generator], list[str]]) -> Damage:
    """Change the lines of a text."""

    def apply(folder: Path, rng: np.random.Generator) -> None:
        path = one(folder, pick, rng)
        put(path, "\n".join(do(path.read_text("utf-8").splitlines(), rng)).encode() + b"\n")

    return apply


def instead(make: Callable[[Path], None], pick: str) -> Damage:
    """Put something else in the place of a file."""

    def apply(folder: Path, rng: np.random.Generator) -> None:
        path = one(folder, pick, rng)
        path.unlink()
        make(path)

    return apply


def listening(path: Path) -> None:
    """Make a socket, whose path must be short."""
    here = os.getcwd()
    os.chdir(path.parent)
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


def saved(format: str, mode: str = "RGB", **options) -> Callable[[bytes], bytes]:
    """Save an image anew, in another form."""

    def do(content: bytes) -> bytes:
        image = Image.open(io.BytesIO(content))
        stream = io.BytesIO()
        image.convert(mode).save(stream, format, **options)
        return stream.getvalue()

    return do


def sixteen_bits(content: bytes) -> bytes:
    """Save the picture as grey PNG of 16 bits."""
    grey = np.asarray(Image.open(io.BytesIO(content)).convert("L")).astype(np.uint16) * 257
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "PNG")
    return stream.getvalue()


def huge(content: bytes) -> bytes:
    """Claim a hundred thousand pixels a side in a PNG's header."""
    import struct
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(
        ">I", zlib.crc32(header)
    )  # fmt: skip


def turned(content: bytes) -> bytes:
    """Say in EXIF that the picture lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved("JPEG", exif=exif)(content)


def register() -> None:
    """List every kind of damage."""
    meta, truth, more = "*_Metadata.csv", "*_GroundTruth.csv", "*_Supplement.csv"
    table, image, own = "*_[MG]*.csv", "*_Input/*/*.jpg", "own.csv"
    files = {"data": table, "table": own, "submission": "submission.csv"}
    for subject, pick in files.items():
        for name, do in {
            "empty file": lambda c: b"",
            "UTF-16": lambda c: c.decode().encode("utf-16"),
            "UTF-16 without a mark": lambda c: c.decode().encode("utf-16-le"),
            "a byte of Latin-1": lambda c: c.replace(b"IL_", b"IL_\xe9", 1),
            "a workbook": lambda c: b"PK\x03\x04" + c,
            "zeros": lambda c: bytes(len(c)),
            "cut within a row": lambda c: c[: c.rindex(b",")],
            "semicolons": lambda c: c.replace(b",", b";"),
            "tabs": lambda c: c.replace(b",", b"\t"),
            "a quotation mark not closed": lambda c: c.replace(b"\nIL_", b'\n"IL_', 1),
            "a web page": lambda c: b"<!DOCTYPE html><html><body>404</body></html>",
            "a pointer of Git LFS": lambda c: b"version https://git-lfs.github.com/spec/v1\n",
        }.items():
            damage(subject, name, REFUSED, changed(do, pick))
        for name, do in {
            "header only": lambda t, r: t[:1],
            "no header": lambda t, r: t[1:],
            "a row twice": lambda t, r: [*t, t[1]],
            "a column twice": lambda t, r: [f"{line},{line.split(',')[-1]}" for line in t],
            "a cell less in a row": lambda t, r: [*t[:2], t[2].rpartition(",")[0], *t[3:]],
            "a cell more in a row": lambda t, r: [*t[:2], t[2] + ",0.5", *t[3:]],
            "columns in lower case": lambda t, r: [t[0].lower().replace("lesion", "l"), *t[1:]],
            "two headers": lambda t, r: [t[0], *t],
        }.items():
            damage(subject, name, REFUSED, lines(pick, do))
        for name, do in {
            "byte order mark": lambda c: b"\xef\xbb\xbf" + c,
            "ends of lines of Windows": lambda c: c.replace(b"\n", b"\r\n"),
            "blank lines at the end": lambda c: c + b"\n\n",
        }.items():
            damage(subject, name, ACCEPTED, changed(do, pick))
        shuffled = lines(pick, lambda t, r: [t[0], *r.permutation(t[1:]).tolist()])
        damage(subject, "rows in another order", ACCEPTED, shuffled)
        for name, make in {
            "a pipe in place of a table": os.mkfifo,
            "a folder in place of a table": Path.mkdir,
            "a link to nothing in place of a table": lambda p: p.symlink_to("nothing"),
            "an endless device in place of a table": lambda p: p.symlink_to("/dev/zero"),
            "a socket in place of a table": listening,
            "no table": lambda p: None,
        }.items():
            damage(subject, name, REFUSED, instead(make, pick))
        for name, text in {
            "an id out of the folder": "../x", "an id with codes": "IL\x1b[2J",
            "an id with a slash": "a/b", "an id with a space": "IL 1",
            "an id too long": "x" * 300, "an empty id": "",
        }.items():  # fmt: skip
            damage(subject, name, REFUSED, cell(pick, "lesion_id", text))
    for subject, pick in files.items():
        less = lines(pick, lambda t, r: [line.partition(",")[2] for line in t])
        # A table of own images may do without ids.
        damage(subject, "no ids", EITHER if subject == "table" else REFUSED, less)
    rows = "a row of commas below the last"
    damage("data", rows, ACCEPTED, lines(table, lambda t, r: [*t, "," * t[0].count(",")]))
    damage("data", "a row less", REFUSED, lines(table, lambda t, r: t[:-1]))
    damage("data", "no supplement", ACCEPTED, instead(lambda p: None, more))
    for column, texts in {
        "age_approx": ("45 years", "-5", "999", "inf", "1_0", "0x2d", "4,5", "unknown", "#N/A"),
        "sex": ("unknown", "Female", "f", ""), "site": ("unknown", "#N/A", "Trunk", "knee"),
        "skin_tone_class": ("2.5", "7", "-1", "IV", ""), "MONET_hair": ("1.5", "-0.1", "", "high"),
        "image_type": ("clinical", "photograph", ""), "image_manipulation": ("none", ""),
        "isic_id": ("../../x", "a b", ""),
    }.items():  # fmt: skip
        for text in texts:
            damage("data", f"{column} {text!r}", REFUSED, cell(meta, column, text, both=True))
    damage("data", "age of another patient in one row", REFUSED, cell(meta, "age_approx", "31"))
    damage("data", "another age that is possible", ACCEPTED, cell(meta, "age_approx", "31", True))
    for text in ("0.5", "2", "", "yes", "nan"):
        damage("data", f"a class {text!r}", REFUSED, cell(truth, "MEL", text))
    both = lines(truth, lambda t, r: [t[0], t[1].split(",")[0] + ",1" * 11, *t[2:]])
    damage("data", "all classes at once", REFUSED, both)
    none = lines(truth, lambda t, r: [t[0], t[1].split(",")[0] + ",0" * 11, *t[2:]])
    damage("data", "no class", REFUSED, none)

    for name, do in {
        "empty image": lambda c: b"",
        "image cut": lambda c: c[: len(c) * 2 // 3],
        "image cut, with an end glued on": lambda c: c[: len(c) * 2 // 3] + b"\xff\xd9",
        "image of ten bytes": lambda c: c[:10],
        "image of zeros": lambda c: bytes(len(c)),
        "end of an image zeroed": lambda c: c[: len(c) // 2] + bytes(len(c) - len(c) // 2),
        "text as an image": lambda c: b"not an image",
        "a web page as an image": lambda c: b"<html>login</html>",
        "PostScript as an image": lambda c: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "a pointer of Git LFS as an image": lambda c: b"version https://git-lfs.github.com/spec\n",
        "GIF as an image": saved("GIF"),
        "BMP as an image": saved("BMP"),
        "TIFF as an image": saved("TIFF"),
        "a huge image": huge,
    }.items():
        damage("data", name, REFUSED, changed(do, image))
        damage("table", name, REFUSED, changed(do, image))
    for name, do in {
        "grey of 16 bits": sixteen_bits,
        "CMYK": saved("JPEG", "CMYK"),
        "grey": saved("JPEG", "L"),
        "palette": saved("PNG", "P"),
        "transparent": saved("PNG", "RGBA"),
        "progressive": saved("JPEG", progressive=True),
        "turned": turned,
        "bytes behind the end": lambda c: c + b"maker's note" * 20,
    }.items():
        damage("data", f"an image that is {name}", ACCEPTED, changed(do, image))
    damage("data", "a pixel of another colour", EITHER, changed(saved("JPEG", quality=50), image))
    for name, make in {
        "no image": lambda p: None, "a pipe in place of an image": os.mkfifo,
        "a folder in place of an image": Path.mkdir,
        "a link to nothing in place of an image": lambda p: p.symlink_to("nothing"),
        "an endless device in place of an image": lambda p: p.symlink_to("/dev/zero"),
        "a socket in place of an image": listening,
        "an image in capitals": lambda p: p.with_suffix(".JPG").write_bytes(b""),
    }.items():  # fmt: skip
        damage("data", name, REFUSED, instead(make, image))
    folder = "MILK10k_Training_Input"
    moves = {"no folder of images": "elsewhere", "images one folder deeper": f"{folder}/{folder}"}
    for name, place in moves.items():

        def move(path: Path, rng: np.random.Generator, place: str = place) -> None:
            (path / folder).rename(path / "moved")
            (path / place).parent.mkdir(exist_ok=True)
            (path / "moved").rename(path / place)

        damage("data", name, REFUSED, move)
    stray = lambda p, r: (p / folder / ".DS_Store").write_bytes(b"x")  # noqa: E731
    damage("data", "a file that no table names", ACCEPTED, stray)

    for column, texts in {
        "age": ("45 years", "-1", "unknown", "1_0"), "sex": ("x",), "site": ("knee", "#N/A"),
        "skin_tone": ("6", "2.5"), "clinical": ("none.jpg", "/dev/zero", ".", "\0", "x" * 5000),
    }.items():  # fmt: skip
        for text in texts:
            damage("table", f"{column} {text[:9]!r}", REFUSED, cell(own, column, text))
    for column in ("age", "sex", "site", "skin_tone", "clinical"):
        damage("table", f"{column} not known", ACCEPTED, cell(own, column, ""))
    for text in ("50%", "1.5", "-0.1", "nan", "", "0_0.5", "high", "1e400", "٠.٥"):
        damage("submission", f"a cell {text!r}", REFUSED, cell("submission.csv", "NV", text))
    for text in (".5", "5e-1", "+0.5", " 0.5"):
        damage("submission", f"a cell {text!r}", ACCEPTED, cell("submission.csv", "NV", text))

    for name in ("config.yaml", "encoder.json", "model.safetensors", "digests.json",
                 "metrics.json", "environment.json", "history.csv"):  # fmt: skip
        for how, do in {
            "cut": lambda c: c[: len(c) // 2],
            "empty": lambda c: b"",
            "zeros": lambda c: bytes(len(c)),
            "a bit flipped": lambda c: c[:-9] + bytes([c[-9] ^ 1]) + c[-8:],
            "a pointer of Git LFS": lambda c: b"version https://git-lfs.github.com/spec/v1\n",
        }.items():
            damage("run", f"{name} {how}", REFUSED, changed(do, name))
        damage("run", f"no {name}", REFUSED, instead(lambda p: None, name))
        damage("run", f"{name} is a pipe", REFUSED, instead(os.mkfifo, name))
    nan = changed(lambda c: re.sub(rb"-?\d+\.\d+", b"NaN", c, count=1), "encoder.json")
    damage("run", "encoder with NaN", REFUSED, nan)
    less = lines("config.yaml", lambda t, r: t[1:])
    damage("run", "a line of the configuration less", REFUSED, less)

    for subject in ("parameters", "grid"):
        file = f"{subject}.yaml"
        for name, text in {
            "not YAML": b"a: [1\n", "a list": b"- 1\n", "a number": b"3\n", "zeros": bytes(9),
            "UTF-16": "epochs: 3".encode("utf-16"), "an unknown name": b"epoch: 3\n",
            "number as a name": b"3: 4\n", "a name that is a list": b"[a]: 1\n",
            "aliases": b"a: &a [x, x]\nb: &b [*a, *a]\nseed: [*b, *b]\n",
            "deeply nested": b"[" * 5000, "a tag": b"seed: !!python/object:os.system x\n",
            "a date that no calendar has": b"seed: 2024-13-45\n",
        }.items():  # fmt: skip
            damage(subject, name, REFUSED, changed(lambda c, text=text: text, file))
        damage(subject, "a pipe", REFUSED, instead(os.mkfifo, file))
        damage(subject, "a folder", REFUSED, instead(Path.mkdir, file))
        damage(subject, "nothing", REFUSED, instead(lambda p: None, file))
        damage(subject, "byte order mark", ACCEPTED, changed(lambda c: b"\xef\xbb\xbf" + c, file))
    for text in ("seed: -1", "epochs: many", "n_folds: '3.5'", "regime: both", "dropout: 2"):
        damage(
            "parameters", text, REFUSED, changed(lambda c, t=text: t.encode(), "parameters.yaml")
        )
    for text in ("systems: {a/b: {}}", "systems: {a b: {}, a_b: {}}", "systems: 3", "seeds: []",
                 "systems: {a: {epoch: 1}}", "base: {n_folds: 1}"):  # fmt: skip
        add = changed(lambda c, t=text: re.sub(t.split(":")[0].encode() + rb":.*", t.encode(), c),
                      "grid.yaml")  # fmt: skip
        damage("grid", text, REFUSED, add)


def make_bases(folder: Path) -> None:
    """Write what is damaged, once."""
    data = make_lesions(folder / "data", LESIONS, image_size=(48, 36))
    lesions = read_lesions(data)
    own = make_lesions(folder / "table", LESIONS, image_size=(48, 36))
    rows = ["lesion_id,clinical,dermoscopic,age,sex,site,skin_tone"]
    for name, row in lesions.iterrows():
        images = [str(Path(row[f"{kind}_path"]).relative_to(data)) for kind in
                  ("clinical", "dermoscopic")]  # fmt: skip
        rows.append(",".join([name, *images, "45", "female", "trunk", "2"]))
    (own / "own.csv").write_text("\n".join(rows) + "\n")
    (folder / "submission").mkdir()
    cells = ",".join(["0.25"] * len(CLASSES))
    text = [f"lesion_id,{','.join(CLASSES)}", *(f"{name},{cells}" for name in lesions.index)]
    (folder / "submission" / "submission.csv").write_text("\n".join(text) + "\n")
    run = Run(folder / "run")
    for name in ("config.yaml", "encoder.json", "history.csv", "environment.json"):
        run.write_text(name, (PRETRAINED / name).read_text())
    run.write_weights({"weight": torch.ones(50, 4)})
    run.finish(json.loads((PRETRAINED / "metrics.json").read_text()))
    for name, text in {
        "parameters": "epochs: 3\nseed: 1\n",
        "grid": "base: {epochs: 1}\nseeds: [0]\nsystems: {a: {}}\n",
    }.items():
        (folder / name).mkdir()
        (folder / name / f"{name}.yaml").write_text(text)


def read_data(folder: Path) -> None:
    """Check a folder and read it; both must say the same."""
    faults = check(folder, progress=False)
    try:
        read_lesions(folder)
    except DataError:
        if not faults:
            raise AssertionError("check finds no fault where read_lesions refuses") from None
    if faults:
        raise ValueError(format_faults(faults))


def read_run(folder: Path) -> None:
    """Read all of a run folder."""
    run = Run(folder)
    if not run.finished:
        run.metrics  # noqa: B018 - says what is missing
    values = (run.parameters, run.encoder, run.weights(), run.metrics, run.environment)
    if not (all(values) and len(run.history)):
        raise AssertionError("nothing was read")


def read_submission(folder: Path) -> None:
    """Validate a submission of the lesions of the base."""
    lesions = [f"IL_000{number:04d}" for number in range(LESIONS)]
    if faults := validate_submission(folder / "submission.csv", lesions):
        raise ValueError(format_faults(faults))


READERS = {
    "data": read_data,
    "table": lambda folder: read_own_images(folder / "own.csv", 32),
    "submission": read_submission,
    "run": read_run,
    "parameters": lambda folder: load_parameters(folder / "parameters.yaml"),
    "grid": lambda folder: load_grid(folder / "grid.yaml"),
}


def cases(count: int, seed: int) -> Iterator[tuple[str, list[tuple[str, bool | None, Damage]]]]:
    """Yield subjects and their damages: every kind in turn, every third with a second one."""
    rng = np.random.default_rng(seed)
    kinds = [(subject, kind) for subject, all_ in DAMAGES.items() for kind in all_]
    order = np.concatenate([rng.permutation(len(kinds)) for _ in range(-(-count // len(kinds)))])
    for number, place in enumerate(order[:count]):
        subject, kind = kinds[place]
        others = [other for other in DAMAGES[subject] if other[1] is not EITHER]
        second = [others[rng.integers(len(others))]] if number % 3 == 2 else []
        yield subject, [kind, *second]


def problem_of(subject: str, damages: list, base: Path, folder: Path, seed: list[int]) -> str:
    """Damage a copy, read it, and return what went wrong; empty if nothing did."""
    shutil.copytree(base / subject, folder, copy_function=os.link)
    rng = np.random.default_rng(seed)
    expected: list[bool | None] = []
    for _, outcome, do in damages:
        try:
            do(folder, rng)
        except Exception:
            if not expected:
                raise
            continue  # the first one left nothing for the second
        expected.append(outcome)
    try:
        READERS[subject](folder)
        said = None
    except (ValueError, OSError, RuntimeError) as error:
        said = str(error)
        if isinstance(error, (UnicodeError, json.JSONDecodeError)) or "Traceback" in said:
            return f"a foreign error: {type(error).__name__}: {said}"
    except Exception:
        return "a traceback:\n" + traceback.format_exc(limit=-4)
    if said is None:
        return "accepted" if REFUSED in expected else ""
    if not {REFUSED, EITHER} & set(expected):
        return f"refused: {said}"
    if any(not (c.isprintable() or c == "\n") for c in said):
        return f"control characters: {said!r}"
    named = {path.name for path in (base / subject).rglob("*")} | {str(folder)}
    return "" if any(name in said for name in named) else f"no file is named: {said}"


def say(text: str) -> None:
    """Print at once: a hang ends the process."""
    print(text, flush=True)


def fuzz(count: int, seed: int, echo: Callable[[str], None] = say) -> int:
    """Try ``count`` damages and return how many went wrong; a hang ends the process."""
    register() if not DAMAGES else None
    warnings.simplefilter("ignore")
    wrong, tried, start = 0, {}, time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fuzz") as place:
        base = Path(place) / "base"
        make_bases(base)
        for subject, read in READERS.items():
            read(base / subject)
        for number, (subject, damages) in enumerate(cases(count, seed)):
            names = " + ".join(name for name, _, _ in damages)

            def hangs(*_: object, names: str = names) -> None:
                echo(f"{names}: hangs")
                os._exit(2)

            signal.signal(signal.SIGALRM, hangs)
            signal.alarm(TIMEOUT)
            folder = Path(place) / f"case{number}"
            problem = problem_of(subject, damages, base, folder, [seed, number])
            signal.alarm(0)
            shutil.rmtree(folder)
            tried[names] = tried.get(names, 0) + 1
            if problem:
                wrong += 1
                echo(f"{names}: {problem}")
    kinds = sum(map(len, DAMAGES.values()))
    seconds = time.perf_counter() - start
    echo(f"{count} damaged folders, {kinds} kinds, {seconds:.0f} s: {wrong} went wrong")
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.exit(bool(fuzz(arguments.count, arguments.seed)))
