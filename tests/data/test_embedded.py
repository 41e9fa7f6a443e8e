import pytest

from jiadf.data.embedded import describe_data, is_synthetic, open_data
from jiadf.data.faults import DataError


def test_the_synthetic_set_is_drawn_once_into_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JIADF_CACHE", str(tmp_path))
    folder = open_data(None, lesions=4, seed=3)
    assert tmp_path in folder.parents
    assert is_synthetic(folder)
    assert "synthetic" in describe_data(folder, 4)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert open_data(None, lesions=4, seed=3) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_folder_of_ones_own_is_taken_as_it_is(milk10k, tmp_path):
    assert open_data(str(milk10k)) == milk10k
    with pytest.raises(DataError):
        open_data(tmp_path)


def test_real_data_are_called_by_their_name(tmp_path):
    assert "4,716 lesions of MILK10k" in describe_data(tmp_path, 4716)
