import os
import shutil
import subprocess
import sys

import pytest

from jiadf.files import DiskFullError, atomic


def put(path, text="new"):
    with atomic(path) as staged:
        staged.write_text(text)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    put(tmp_path / "new" / "a")
    with pytest.raises(ZeroDivisionError), atomic(tmp_path / "new" / "a") as staged:
        raise ZeroDivisionError(staged.write_text("half"))
    assert (tmp_path / "new" / "a").read_text() == "new"
    assert os.listdir(tmp_path / "new") == ["a"]


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    put(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_device_or_a_pipe_is_written_to_and_never_replaced(tmp_path):
    put("/dev/null")
    assert not os.path.isfile("/dev/null")
    said = (
        "from jiadf.files import atomic\nwith atomic('/dev/stdout') as s: s.write_text('through')"
    )
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", said], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "through"
    with pytest.raises(IsADirectoryError, match="is a folder"):
        put(tmp_path)
    with pytest.raises(DiskFullError, match="/dev/full needs more room"):
        put("/dev/full")


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    said = "from jiadf.files import atomic; from pathlib import Path; import os\n"
    said += f"with atomic(Path({str(tmp_path / 'a*')!r})) as s: s.write_text('half'); os._exit(9)"
    subprocess.run([sys.executable, "-c", said], check=False)
    (left,) = tmp_path.iterdir()
    living = left.with_name(left.name.rpartition("-")[0] + f"-{os.getppid()}")
    living.touch()
    put(tmp_path / "a*")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.name, "a*"])


def test_a_full_disk_says_where_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 2, 7))
    with pytest.raises(OSError, match=r"a needs more room, and .* 7 bytes free. Make room"):  # noqa: SIM117
        with atomic(tmp_path / "a"):
            raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []
