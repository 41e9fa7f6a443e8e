"""What holds for every method: shapes, gradients everywhere, invariances, cost, registry."""

from typing import get_args

import pytest
import torch

from jiadf.config import ParameterError, Parameters, make_parameters
from jiadf.models.baselines import BASELINES, CONFIGURED

METHODS = sorted(BASELINES)


def test_the_registry_is_what_the_parameter_offers():
    offered = get_args(Parameters.model_fields["method"].annotation)
    assert set(offered) == {"ji-adf", *BASELINES, *CONFIGURED}
    assert len(offered) == 9
    assert Parameters().method == "ji-adf"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_a_posterior(name, make, batch):
    network = make(name).eval()
    output = network(batch)
    assert tuple(output.logits) == network.branch_names
    assert network.branch_names[-1] == "joint"
    assert all(logits.shape == (9, 4) for logits in output.logits.values())
    torch.testing.assert_close(output.log_posterior.exp().sum(-1), torch.ones(9))
    assert output.auxiliary is None  # prediction needs no target
    if output.weights is not None:
        torch.testing.assert_close(output.weights.sum(-1), torch.ones(9))


@pytest.mark.parametrize("name", METHODS)
def test_gradients_reach_every_part_over_the_stages(name, make, batch, loss):
    network = make(name).train()
    reached = set()
    for epoch in (1, 2, 3):
        network.begin_epoch(epoch, 3)
        network.zero_grad(set_to_none=True)
        total, _ = loss(network, batch)
        total.backward()
        assert torch.isfinite(total)
        reached |= {
            key for key, p in network.named_parameters() if p.grad is not None and p.grad.any()
        }
    trainable = {key for key, p in network.named_parameters() if p.requires_grad}
    # A key's bias shifts all scores of a query alike, so its gradient may round to nothing.
    assert {key for key in trainable - reached if "key_value.bias" not in key} == set()


@pytest.mark.parametrize("name", METHODS)
def test_the_last_stage_comes_whatever_the_number_of_epochs(name, make):
    network = make(name)
    for epochs in (1, 2, 3, 10):
        kept = [network.begin_epoch(epoch, epochs) for epoch in range(1, epochs + 1)]
        assert kept[-1]
        assert kept == sorted(kept)  # never back to an earlier stage


@pytest.mark.parametrize("name", METHODS)
def test_lesions_do_not_see_each_other(name, make, batch):
    network = make(name).eval()
    whole = network(batch).log_posterior
    part = network({key: value[[5, 2]] for key, value in batch.items()}).log_posterior
    torch.testing.assert_close(part, whole[[5, 2]])


@pytest.mark.parametrize("name", METHODS)
def test_training_lowers_the_loss(name, make, batch, loss):
    network = make(name).train()
    network.begin_epoch(1, 1)  # the last stage alone
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        total, _ = loss(network, batch)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    assert min(losses[-5:]) < losses[0] - 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "caffm", "modalities": "CD"}, "set it to CDM"),
        ({"method": "albef", "fusion": "concat"}, "fusion belongs to method ji-adf"),
        ({"method": "jif-mmfa", "decision": "joint"}, "decision belongs to method ji-adf"),
        ({"method": "vemfl", "regime": "finetune"}, "set regime to frozen"),
        ({"method": "panderm"}, "backbone_weights to the path"),
        ({"method": "panderm", "backbone": "panderm_large"}, "takes its own weights alone"),
        ({"method": "panderm", "backbone_weights": "file.pth"}, "set backbone to panderm_large"),
        ({"method": "resnet"}, "ji-adf"),
    ],
    ids=str,
)
def test_what_a_method_cannot_do_is_refused(changes, message):
    with pytest.raises(ParameterError, match=message):
        make_parameters(changes)
