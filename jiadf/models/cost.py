"""What a network costs: parameters, and floating-point operations a lesion."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def network_cost(network: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, float]:
    """Measure what predicting a lesion costs.

    Parameters
    ----------
    network : Module
        :class:`jiadf.models.network.JIADF` or a baseline.
    batch : mapping
        One batch of B lesions, as the network takes it: with frozen features the backbone is not
        part of the network and is not counted.

    Returns
    -------
    dict
        ``parameters``, all of them; ``trainable``, those that training changes (a momentum copy is
        none); ``gflops``, billions of floating-point operations a lesion, a multiplication and an
        addition counted as two, of matrix products and convolutions.
    """
    was_training = network.training
    network.eval()
    with FlopCounterMode(display=False) as counter:
        network(batch)
    network.train(was_training)
    parameters = list(network.parameters())
    return {
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "gflops": counter.get_total_flops() / len(batch["metadata"]) / 1e9,
    }
