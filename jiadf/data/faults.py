"""What can be wrong with a data folder, and how it is told.

A :class:`Fault` is one thing wrong, with where it is and what to do about it. The checks of
``jiadf.data.check`` collect every fault of a folder in one pass; :class:`DataError` carries them
to whoever cannot go on, and :func:`format_faults` prints them grouped by kind.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# The kinds, one a constant, in the order in which they are printed.
MISSING_FOLDER = "missing folder"
MISSING_CSV = "missing CSV"
UNREADABLE_CSV = "unreadable CSV"
MISSING_COLUMN = "missing column"
MISSING_VALUE = "missing value"
UNSAFE_ID = "unsafe id"
DUPLICATE_LESION_ID = "duplicate lesion_id"
DUPLICATE_ISIC_ID = "duplicate isic_id"
UNKNOWN_CATEGORY = "unknown category"
NOT_A_NUMBER = "not a number"
OUT_OF_RANGE = "out of range"
NOT_ONE_HOT = "not one-hot"
IMAGE_PAIR = "not one image of each type"
DISAGREEING_ROWS = "rows of a lesion disagree"
LESION_IN_ONE_TABLE = "lesion in one table only"
IMAGE_IN_ONE_TABLE = "image in one table only"
MISSING_IMAGE = "missing image"
TRUNCATED_IMAGE = "truncated image"
NOT_AN_IMAGE = "not an image"
STRAY_FILE = "stray file"  # a note, never a fault: see jiadf.data.check.find_stray_files

KINDS = (
    MISSING_FOLDER,
    MISSING_CSV,
    UNREADABLE_CSV,
    MISSING_COLUMN,
    MISSING_VALUE,
    UNSAFE_ID,
    DUPLICATE_LESION_ID,
    DUPLICATE_ISIC_ID,
    UNKNOWN_CATEGORY,
    NOT_A_NUMBER,
    OUT_OF_RANGE,
    NOT_ONE_HOT,
    IMAGE_PAIR,
    DISAGREEING_ROWS,
    LESION_IN_ONE_TABLE,
    IMAGE_IN_ONE_TABLE,
    MISSING_IMAGE,
    TRUNCATED_IMAGE,
    NOT_AN_IMAGE,
    STRAY_FILE,
)


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a data folder, in characters that a terminal can print.

    Attributes
    ----------
    kind : str
        One of :data:`KINDS`.
    file : str
        The file it is in, relative to the data folder; for a fault of an image, the image.
    row : int or None
        Line number in the table, the header being line 1. For a fault of an image, the line of
        the metadata table that names it. None where a whole file is at fault.
    message : str
        What is wrong, naming the value found.
    remedy : str
        What to do about it.
    """

    kind: str
    file: str
    row: int | None
    message: str
    remedy: str

    def __post_init__(self):
        for name in ("file", "message", "remedy"):  # cells and file names come from anywhere
            object.__setattr__(self, name, printable(getattr(self, name)))

    @property
    def where(self) -> str:
        """The place in words, e.g. ``MILK10k_Training_Metadata.csv, row 12``."""
        if self.row is None:
            return self.file
        if self.file.lower().endswith(".csv"):
            return f"{self.file}, row {self.row}"
        return f"{self.file} (metadata row {self.row})"

    def __str__(self):
        return f"{self.where}: {self.message}. Remedy: {self.remedy}."


def printable(text: str) -> str:
    """Spell out control characters: a terminal would obey them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class DataError(ValueError):
    """A data folder cannot be used; ``faults`` lists everything found wrong with it.

    Parameters
    ----------
    faults : sequence of Fault
        All faults of the folder, not only the first.
    shown : int
        How many of them the message spells out.
    """

    def __init__(self, faults: Sequence[Fault], shown: int = 5):
        self.faults = list(faults)
        self.shown = shown
        super().__init__(self._text())

    def _text(self) -> str:
        lines = [f"{_count(len(self.faults), 'fault')} in the data:"]
        lines += [f"  {fault.kind}: {fault}" for fault in self.faults[: self.shown]]
        if len(self.faults) > self.shown:
            lines.append(f"  ... and {len(self.faults) - self.shown} more (see `jiadf check`)")
        return "\n".join(lines)

    def __reduce__(self):
        return type(self), (self.faults, self.shown)


def format_faults(faults: Iterable[Fault], examples: int | None = 5) -> str:
    """Describe faults as text for a terminal, grouped by kind.

    Parameters
    ----------
    faults : iterable of Fault
        In any order; within a kind their order is kept.
    examples : int or None
        How many faults of a kind are spelled out; None spells out all.

    Returns
    -------
    str
        One block a kind: its count, then each example with its place, and its remedy (once, when
        all the examples share it). ``"No faults."`` when there are none.
    """
    groups: dict[str, list[Fault]] = {}
    for fault in faults:
        groups.setdefault(fault.kind, []).append(fault)
    if not groups:
        return "No faults."
    kinds = sorted(groups, key=lambda kind: KINDS.index(kind) if kind in KINDS else len(KINDS))
    blocks = [_format_group(kind, groups[kind], examples) for kind in kinds]
    total = sum(len(group) for group in groups.values())
    blocks.append(f"{_count(total, 'fault')} of {_count(len(groups), 'kind')}.")
    return "\n\n".join(blocks)


def _format_group(kind: str, faults: list[Fault], examples: int | None) -> str:
    shown = faults if examples is None else faults[:examples]
    remedies = {fault.remedy for fault in shown}
    lines = [f"{kind} ({len(faults)})"]
    for fault in shown:
        lines.append(f"  {fault.where}: {fault.message}")
        if len(remedies) > 1:
            lines.append(f"    remedy: {fault.remedy}")
    if len(shown) < len(faults):
        lines.append(f"  ... and {len(faults) - len(shown)} more")
    if len(remedies) == 1:
        lines.append(f"  remedy: {remedies.pop()}")
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
