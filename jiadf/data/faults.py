"""What can be wrong with a data folder, and how it is told.

The checks collect a :class:`Fault` for every single thing; :class:`DataError` carries them to
whoever cannot go on, and :func:`format_faults` prints them by kind.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest

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


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a data folder, in characters that a terminal can print.

    ``file`` is the table, relative to the data folder, and ``row`` its line, the header being line
    1; for a fault of an image, the image, and the line of the metadata that names it. ``row`` is
    None where a whole file is at fault. ``message`` says what is wrong, naming the value found.
    """

    kind: str
    file: str
    row: int | None
    message: str
    remedy: str

    def __post_init__(self):
        for name in ("file", "message", "remedy"):  # cells and file names come from anywhere
            text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in getattr(self, name))
            object.__setattr__(self, name, text)

    @property
    def where(self) -> str:
        """The place in words, e.g. ``MILK10k_Training_Metadata.csv, row 12``."""
        if self.row is None:
            return self.file
        if self.file.lower().endswith(".jpg"):  # an image that a row of the metadata names
            return f"{self.file} (metadata row {self.row})"
        return f"{self.file}, row {self.row}"

    def __str__(self):
        return f"{self.where}: {self.message}. Remedy: {self.remedy}."


class DataError(ValueError):
    """Data cannot be used; ``faults`` lists everything found wrong with them."""

    def __init__(self, faults: Iterable[Fault]):
        self.faults = list(faults)
        super().__init__(self.faults)

    def __str__(self):
        return format_faults(self.faults)


def format_faults(faults: Iterable[Fault], examples: int | None = 5) -> str:
    """Describe faults for a terminal: by kind, at most ``examples`` of each (None: all of them).

    A remedy is given below the last of the faults in a row that share it.
    """
    groups: dict[str, list[Fault]] = {}
    for fault in faults:
        groups.setdefault(fault.kind, []).append(fault)
    if not groups:
        return "No faults."
    blocks = []
    for kind, group in groups.items():
        lines, shown = [f"{kind} ({len(group)})"], group[:examples]
        for fault, following in zip_longest(shown, shown[1:]):
            lines.append(f"  {fault.where}: {fault.message}")
            if following is None or following.remedy != fault.remedy:
                lines.append(f"    remedy: {fault.remedy}")
        if len(shown) < len(group):
            lines.append(f"  ... and {len(group) - len(shown)} more")
        blocks.append("\n".join(lines))
    blocks.append(f"Faults in all: {sum(map(len, groups.values())):,}.")
    return "\n\n".join(blocks)
