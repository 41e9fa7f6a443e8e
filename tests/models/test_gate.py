"""What may keep the gate open: each does to gradients and weights what its name says."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jiadf.models.adf import AdaptiveDecisionFusion, entropy_regulariser, load_balancing_loss
from jiadf.models.losses import JointIndividualLoss, branch_lambdas
from jiadf.models.network import JIADF, held_out
from tests.models.test_network import CLASSES, batch_of, network

HELD_OUT = {"gate_detach": "decision", "gate_holdout": 0.4}
rows = st.lists(st.floats(-30, 30), min_size=3, max_size=3)


def log_weights_of(*scores: list[float]) -> torch.Tensor:
    return torch.tensor(scores, dtype=torch.float64).log_softmax(-1)


def entropy(weights: list[float]) -> float:
    return -sum(w * math.log(w) for w in weights if w > 0)


@given(st.lists(rows, min_size=1, max_size=4))
def test_both_losses_are_the_entropies_they_say_and_ordered(scores):
    log_weights = log_weights_of(*scores)
    weights = log_weights.exp().tolist()
    mean = [sum(column) / len(weights) for column in zip(*weights, strict=True)]
    each = sum(map(entropy, weights)) / len(weights)
    assert float(entropy_regulariser(log_weights)) == pytest.approx(math.log(3) - each, abs=1e-9)
    assert float(load_balancing_loss(log_weights)) == pytest.approx(
        math.log(3) - entropy(mean), abs=1e-9
    )
    assert (
        -1e-9
        <= float(load_balancing_loss(log_weights))
        <= float(entropy_regulariser(log_weights)) + 1e-9
    )


def test_lesions_that_choose_different_branches_are_balanced_and_closed():
    log_weights = log_weights_of([40.0, 0, 0], [0, 40.0, 0], [0, 0, 40.0])
    assert float(load_balancing_loss(log_weights)) == pytest.approx(0, abs=1e-9)
    assert float(entropy_regulariser(log_weights)) == pytest.approx(math.log(3))


def test_a_hotter_gate_is_more_even_and_orders_branches_alike():
    torch.manual_seed(0)
    cool, hot = AdaptiveDecisionFusion(), AdaptiveDecisionFusion(temperature=5.0)
    hot.load_state_dict(cool.state_dict())
    logits = 10 * torch.randn(8, 3, 11)
    before, after = cool.log_weights(logits), hot.log_weights(logits)
    assert torch.equal(before.argsort(-1), after.argsort(-1))
    assert (after.exp().amax(-1) < before.exp().amax(-1)).all()
    torch.testing.assert_close(after, (5 * before.double() / 25).log_softmax(-1).float())


def test_a_calibrated_gate_mixes_each_branch_at_its_own_temperature():
    torch.manual_seed(0)
    plain, calibrated = AdaptiveDecisionFusion(), AdaptiveDecisionFusion(calibrated=True)
    calibrated.load_state_dict(plain.state_dict(), strict=False)
    logits = torch.randn(5, 3, 11)
    assert torch.equal(plain(logits)[0], calibrated(logits)[0])  # it starts at one
    with torch.no_grad():
        calibrated.log_scale.copy_(torch.tensor([2.0, 1.0, 0.5]).log())
    scaled = logits * torch.tensor([2.0, 1.0, 0.5])[:, None]
    for ours, expected in zip(calibrated(logits), plain(scaled), strict=True):
        torch.testing.assert_close(ours, expected)


def gradients(model: JIADF, batch: dict, lambdas: float = 0.0) -> dict[str, torch.Tensor]:
    """Train-mode gradients of equation (7), zeros where there are none."""
    torch.manual_seed(0)
    target = torch.arange(len(batch["clinical"])) % CLASSES
    weights = branch_lambdas(model.branch_names, lambdas, lambdas, lambdas)
    model.zero_grad()
    JointIndividualLoss(weights)(model.train()(batch), target)[0].backward()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in
            model.named_parameters()}  # fmt: skip


def moved(found: dict[str, torch.Tensor]) -> set[str]:
    return {name.split(".")[0] for name, value in found.items() if value.abs().max() > 0}


def test_a_detached_decision_trains_the_gate_alone():
    everything = moved(gradients(network(dropout=0.0), batch_of()))
    assert {"heads", "fusion", "metadata_encoder", "adf"} <= everything
    for gate_input in ("logits", "features"):
        model = network(dropout=0.0, gate_detach="decision", gate_input=gate_input)
        assert moved(gradients(model, batch_of())) == {"adf"}


@pytest.mark.parametrize("gate_input", ["logits", "features"])
def test_a_detached_reading_leaves_the_heads_what_the_mixture_gives_them(gate_input):
    """The heads' gradient is then that of a mixture whose weights are constants."""
    model = network(dropout=0.0, gate_detach="reading", gate_input=gate_input)
    batch = batch_of()
    found = gradients(model, batch)
    weights = model(batch).log_weights.detach()
    model.adf.log_weights = lambda *_: weights
    expected = gradients(model, batch)
    for name, value in found.items():
        if not name.startswith("adf"):
            torch.testing.assert_close(value, expected[name], msg=name)
    assert moved(found) > moved(expected) == moved(found) - {"adf"}
    paper = gradients(network(dropout=0.0, gate_input=gate_input), batch)
    below = [name for name in found if not name.startswith("adf")]
    assert any(not torch.allclose(paper[name], found[name]) for name in below)


def test_numbers_are_dealt_evenly_and_always_alike():
    index = torch.arange(4716)
    for share in (0.1, 0.2, 0.5):
        chosen = held_out(index, share)
        assert float(chosen.double().mean()) == pytest.approx(share, abs=0.002)
        for part in chosen.split(200):
            assert abs(float(part.double().mean()) - share) < 0.02
        assert torch.equal(held_out(index.flip(0), share).flip(0), chosen)


def test_held_out_samples_train_the_gate_and_the_others_the_heads():
    batch = batch_of(10) | {"index": torch.arange(10)}
    apart = held_out(batch["index"], HELD_OUT["gate_holdout"])
    assert 0 < int(apart.sum()) < 10
    model = network(dropout=0.0, **HELD_OUT)
    found = gradients(model, batch, lambdas=0.5)
    for rows_, reached in ((apart, ("adf",)), (~apart, ("heads", "fusion", "metadata_encoder"))):
        for row in range(10):
            changed = {name: value.clone() for name, value in batch.items()}
            changed["clinical"][row] += 1.0
            other = gradients(model, changed, lambdas=0.5)
            differs = {n.split(".")[0] for n in found if not torch.equal(found[n], other[n])}
            assert bool(rows_[row]) == bool(differs & set(reached)), (row, differs)


def test_a_batch_without_held_out_samples_leaves_the_gate_alone():
    index = torch.arange(40)
    batch = batch_of() | {"index": index[~held_out(index, 0.4)][:6]}
    found = gradients(network(dropout=0.0, **HELD_OUT), batch, lambdas=0.5)
    assert "adf" not in moved(found)
    assert all(torch.isfinite(value).all() for value in found.values())


def test_calibration_is_learned_where_the_gate_is():
    model = network(dropout=0.0, gate_calibration=True, **HELD_OUT)
    batch = batch_of(10) | {"index": torch.arange(10)}
    assert gradients(model, batch)["adf.log_scale"].abs().min() > 0


def test_while_warming_up_weights_are_even_and_not_kept():
    model = network(gate_warmup=0.4)
    assert [model.begin_epoch(epoch, 5) for epoch in range(1, 6)] == [False] * 2 + [True] * 3
    model.begin_epoch(1, 5)
    torch.testing.assert_close(model(batch_of()).weights, torch.full((6, 3), 1 / 3))
    assert "adf" not in moved(gradients(model, batch_of()))
    model.begin_epoch(3, 5)
    assert not torch.allclose(model.eval()(batch_of()).weights, torch.tensor(1 / 3))
    assert network(gate_warmup=0.9).begin_epoch(1, 1)  # some epoch must be kept


def test_losses_of_the_gate_are_terms_of_training_alone():
    model = network(gate_entropy=0.5, gate_balance=2.0).train()
    output = model(batch_of())
    expected = {
        "entropy": 0.5 * entropy_regulariser(output.log_weights),
        "balance": 2.0 * load_balancing_loss(output.log_weights),
    }
    assert output.auxiliary.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(output.auxiliary[name], value)
    target = torch.zeros(6, dtype=torch.int64)
    criterion = JointIndividualLoss(branch_lambdas(model.branch_names))
    total, terms = criterion(output, target)
    plain, _ = criterion(output._replace(auxiliary=None), target)
    assert float((total - plain).detach()) == pytest.approx(
        float(terms["entropy"] + terms["balance"]), 1e-5
    )
    assert model.eval()(batch_of()).auxiliary is None
    assert network().train()(batch_of()).auxiliary is None
