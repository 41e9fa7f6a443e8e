"""What methods cost, whether their mechanisms work, and what a page says of both."""

import numpy as np
import pandas as pd
import pytest
import torch

from jiadf import table1
from jiadf.models.cost import count_gflops, network_cost
from jiadf.studies import cost, mechanisms
from jiadf.training.grid import Grid
from jiadf.training.network import build_network
from jiadf.training.predict import run_inputs
from jiadf.training.run_folder import Run

SYSTEMS = ("ji-adf", "vemfl", "albef", "coscatnet-ufs")


@pytest.fixture(scope="module")
def grid(tiny_parameters):
    base = tiny_parameters(epochs=2, feature_views=1).model_dump(exclude={"val_fold", "test_fold"})
    systems = {name: {"method": name} for name in SYSTEMS}
    return Grid(base=base | {"n_folds": 3}, protocol="out-of-fold", seeds=[0], systems=systems)


@pytest.fixture(scope="module")
def spent(grid, folder, lesions, cache_dir):
    return cost.study(grid, folder, lesions, cache_dir, repeats=2, batch=20, pictures=3)


@pytest.fixture(scope="module")
def works(grid, folder, lesions, cache_dir):
    return mechanisms.study(grid, folder, lesions, cache_dir)["mechanisms"]


def test_operations_are_two_a_weight_and_a_lesion():
    layer = torch.nn.Linear(7, 5, bias=False)
    assert count_gflops(lambda: layer(torch.zeros(3, 7))) == pytest.approx(2 * 3 * 7 * 5 / 1e9)


def test_a_row_a_system_with_the_cost_of_its_network(spent, grid, folder, lesions, cache_dir):
    table = spent["systems"].set_index("system")
    assert tuple(table.index) == SYSTEMS
    run = Run(next(grid.runs(folder)).path)
    inputs = run_inputs(run, lesions, cache_dir, progress=False)
    batch = {name: torch.zeros(2, array.shape[-1]) for name, array in inputs.streams.items()}
    batch["metadata"] = torch.zeros(2, inputs.metadata.shape[1])
    expected = network_cost(build_network(run.parameters, inputs), batch)
    for name, value in expected.items():
        assert table.loc["ji-adf", name] == pytest.approx(value), name
    assert table.loc["albef", "trainable"] < table.loc["albef", "parameters"]
    assert (table["seconds_a_run"] >= 0).all()
    assert set(table["batch"]) == {20}


def test_the_backbone_is_counted_apart(spent):
    row = spent["backbones"].iloc[0]
    assert (len(spent["backbones"]), row["backbone"]) == (1, "tf_efficientnet_lite0")
    assert (row["images_a_lesion"], row["image_size"], row["batch"]) == (2, 32, 3)
    assert 3e6 < row["parameters"] < 4e6
    # At 224 pixels the published figure is 0.4 billion multiply-adds; operations go with the area.
    assert row["gflops"] == pytest.approx(0.8 * (32 / 224) ** 2, rel=0.15)


def test_speeds_are_ratios_within_a_turn():
    """A machine that slows down between turns changes the seconds and not the ratios."""
    seconds = pd.DataFrame({"a": [1.0, 10.0, 4.0], "b": [2.0, 20.0, 8.0]})
    table = cost.speeds(seconds, 8, "a")
    assert table.loc["b", ["speed", "speed_low", "speed_high"]].tolist() == [0.5, 0.5, 0.5]
    assert table.loc["a", "speed"] == 1
    assert table["lesions_per_second"].tolist() == [2, 1]


def test_turns_time_every_call_each_turn_and_warm_up_once():
    made = []
    seconds = cost.turns({"a": lambda: made.append("a"), "b": lambda: made.append("b")}, 3)
    assert made == ["a", "b"] * 4
    assert seconds.shape == (3, 2)
    assert (seconds > 0).all(axis=None)


def test_the_mechanisms_are_asked_of_scored_lesions_alone(works, lesions):
    counts = works.groupby(["system", "measured"])["lesions"].sum()
    assert set(works["system"]) == set(mechanisms.MECHANISMS)
    assert counts["vemfl", "gap before"] == len(lesions)  # every fold is the scored one once
    assert counts["coscatnet-ufs"].sum() == len(lesions)
    assert set(works["runs"]) == {3}
    gap = works[works["system"] == "vemfl"].set_index("measured")["value"]
    assert gap["gap after"] < 0.7 * gap["gap before"]


class Aligned(torch.nn.Module):
    """What `own_sentence` asks of ALBEF, over embeddings that are given."""

    def __init__(self, image, text):
        super().__init__()
        self.both = (image, text)

    def encode(self, batch):
        from jiadf.models.baselines.base import IMAGES, Encoded

        return {name: Encoded(self.both[0], self.both[0]) for name in IMAGES}

    def text(self, metadata):
        return metadata.long()

    def image_side(self, features):
        return None, self.both[0]

    def text_side(self, numbers):
        return None, self.both[1]


def test_own_sentence_is_one_where_pairs_are_aligned_and_a_half_where_nothing_is_known():
    batch = {"metadata": torch.arange(6).unsqueeze(1).float()}

    def share(image, text):
        return mechanisms.own_sentence(Aligned(image, text), batch)["own sentence nearer"]

    assert share(torch.eye(6), torch.eye(6)) == (1.0, 6)
    assert share(torch.eye(6), -torch.eye(6)) == (0.0, 6)
    assert share(torch.ones(6, 6), torch.ones(6, 6)) == (0.5, 6)
    batch["metadata"][:5] = 0.0  # five sentences alike: each of those five has one other
    assert share(torch.eye(6), torch.eye(6)) == (1.0, 6)


def test_weights_are_told_by_which_decision_is_right():
    right, wrong = torch.tensor([5.0, 0]), torch.tensor([0.0, 5])
    joint = torch.stack([right, right, wrong, wrong])
    metadata = torch.stack([right, wrong, right, wrong])

    def network(batch):
        from types import SimpleNamespace

        weights = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.5, 0.5]])
        return SimpleNamespace(logits={"joint": joint, "metadata": metadata}, weights=weights)

    network.branch_names = ("metadata", "joint")
    told = mechanisms.weight_of_the_right(network, {"target": torch.zeros(4, dtype=torch.int64)})
    values = {name.split(", ")[1]: value for name, (value, _) in told.items()}
    assert values == pytest.approx(
        {
            "both right": 0.9,
            "image alone right": 0.8,
            "metadata alone right": 0.3,
            "both wrong": 0.5,
        }
    )


def test_no_table_holds_a_lesion(spent, works, lesions):
    for table in (*spent.values(), works):
        assert not any(lesion in table.to_csv() for lesion in lesions.index)


def test_the_tables_of_the_page(spent, works):
    shown = table1.cost_table(spent)
    assert list(shown.index) == [*SYSTEMS, "tf_efficientnet_lite0, 2 pictures"]
    assert shown.loc["ji-adf", "speed"] == "1.00"
    assert shown.iloc[-1]["trainable"] == "frozen"
    told = table1.tell_cost(spent, "here")
    assert "(albef)" in told[0]
    systems = spent["systems"]
    times = 2 * spent["backbones"]["gflops"].iloc[0] / systems["gflops"].max()
    assert f"{table1.short(times)} times the most costly method" in told[1]
    rows = table1.mechanism_table({"mechanisms": works}, "vemfl")
    assert list(rows.index) == ["gap before", "gap after"]
    assert " to " in rows.loc["gap before", "value"]
    assert len(table1.mechanism_table({"mechanisms": works})) == len(works)


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.0036782, "0.0037"), (12480.3, "12,000"), (0.0199, "0.020"), (9.96, "10"), (np.nan, "–")],
)
def test_numbers_are_short(value, told):
    assert table1.short(value) == told
