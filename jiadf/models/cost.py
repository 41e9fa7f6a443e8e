"""What a network costs: parameters, and floating-point operations a lesion or picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_gflops(call: Callable[[], object]) -> float:
    """Count the floating-point operations of a call, in billions.

    A multiplication and an addition are two. Matrix products and convolutions are counted, the
    rest, a small share, is not.
    """
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


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
        none); ``gflops``, those of :func:`count_gflops` a lesion.
    """
    was_training = network.training
    network.eval()
    gflops = count_gflops(lambda: network(batch))
    network.train(was_training)
    parameters = list(network.parameters())
    return {
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "gflops": gflops / len(batch["metadata"]),
    }
