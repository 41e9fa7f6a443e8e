from benchmarks.fuzz import DAMAGES, fuzz


def test_broken_folders_are_refused_in_words(capsys):
    """A tenth of what ``benchmarks/fuzz.py`` does by itself."""
    assert fuzz(50, seed=1) == 0, capsys.readouterr().out
    assert sum(map(len, DAMAGES.values())) > 300
