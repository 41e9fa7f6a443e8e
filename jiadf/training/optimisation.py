"""How weights move: the groups and the schedule of AdamW, and mixup."""

from typing import Any

import torch

from jiadf.config import Parameters


def parameter_groups(network: torch.nn.Module, parameters: Parameters) -> list[dict[str, Any]]:
    """Return AdamW's groups: what is trained of the backbones, if anything, and everything else."""
    groups: dict[float, list[torch.nn.Parameter]] = {}
    for name, weight in network.named_parameters():
        of_backbone = name.startswith("image_encoders.") and parameters.backbone_learning_rate
        rate = of_backbone or parameters.learning_rate
        if weight.requires_grad:
            groups.setdefault(rate, []).append(weight)
    return [{"params": weights, "lr": rate} for rate, weights in groups.items()]


def make_scheduler(
    optimizer: torch.optim.Optimizer, parameters: Parameters, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Make the schedule of a run with this many steps an epoch.

    ``one-cycle`` is that of Smith and Topin (*Super-convergence*, 2018) without its cycle of
    momentum: a cosine's rise from a 25th of the highest rate, then its fall to almost zero.
    """
    p = parameters
    if p.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="min", factor=p.scheduler_factor, patience=p.scheduler_patience
        )
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=p.epochs * steps,
        pct_start=p.warmup,
        cycle_momentum=False,
    )


def mixed_up(
    batch: dict[str, torch.Tensor], alpha: float
) -> tuple[dict[str, torch.Tensor], float, torch.Tensor | None]:
    """Mix each lesion of a batch with another one (Zhang et al., *mixup*, ICLR 2018).

    Returns the batch, the share that is each lesion's own, drawn from a beta distribution with both
    parameters ``alpha``, and each one's partner (B,); None where ``alpha`` is 0.
    """
    if not alpha:
        return batch, 1.0, None
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partners = torch.randperm(len(batch["target"])).to(batch["target"].device)
    mixed = dict(batch)
    for name in batch.keys() & {"clinical", "dermoscopic", "metadata"}:
        own = batch[name]
        values = torch.lerp(own[partners].float(), own.float(), share)
        mixed[name] = (values.round() if own.dtype == torch.uint8 else values).to(own.dtype)
    return mixed, share, partners
