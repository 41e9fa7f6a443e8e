"""Networks with weights drawn anew, for the sanity checks of explanations (Adebayo et al. 2018).

A map that claims to show what a trained network looks at must change when what was trained is
thrown away. :func:`cascade` names what goes, stage by stage from the output down to the pixels, and
:func:`randomised` copies a network without it.

In the `frozen` regime training touched the fusion alone. Drawing it anew takes away all that was
learned from lesions, but leaves the backbone's feature maps, of which Grad-CAM is a weighted sum:
what is left of the likeness then is the backbone's own sense of what stands out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch

from jiadf.explanation.explain import ExplainableNetwork, ExplanationError
from jiadf.models.encoders import ImageEncoder
from jiadf.models.network import JIADF


def randomised(
    model: ExplainableNetwork, prefixes: Iterable[str], seed: int = 0
) -> ExplainableNetwork:
    """Copy a network with the weights under some names drawn anew, as before any training.

    Parameters
    ----------
    model
        From :func:`open_network`; stays as it is.
    prefixes
        Beginnings of names in the network's state, such as those of :func:`cascade`.
    seed
        Of the new weights; torch's global state is kept.
    """
    prefixes = tuple(prefixes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = JIADF(model.network.config)
        backbones = {}
        for name, encoder in model.backbones.items():
            same = next((n for n in backbones if model.backbones[n] is encoder), None)
            fresh = backbones[same] if same else ImageEncoder(encoder.backbone_name, "random")
            backbones[name] = fresh
    state = ExplainableNetwork(network, backbones, model.scalers).state_dict()
    chosen = {name: value for name, value in state.items() if name.startswith(prefixes)}
    if not chosen:
        raise ExplanationError(f"no weights are named {', '.join(prefixes)}…")
    copied = copy.deepcopy(model)
    copied.load_state_dict(chosen, strict=False)
    return copied.eval()


def cascade(model: ExplainableNetwork) -> dict[str, tuple[str, ...]]:
    """Name the stages of a cascading randomisation, from the output down to the pixels.

    Returns
    -------
    dict
        Stage in words to the prefixes of all weights that are random by then, each stage's
        holding the one's before: the gate, the heads, all fusion weights, then the backbone from
        its last layers to the whole.
    """
    from timm.models import group_parameters

    stages: dict[str, tuple[str, ...]] = {}
    done: tuple[str, ...] = ()
    present = {name.split(".")[0] for name, _ in model.network.named_parameters()}
    for stage, modules in (
        ("gate", {"adf"}),
        ("heads", {"heads"}),
        ("whole fusion", {"fusion", "metadata_encoder"}),
    ):
        if modules & present:
            done += tuple(f"network.{name}." for name in sorted(modules & present))
            stages[stage] = done
    encoder = model.backbones[model.streams[0]].backbone
    groups = group_parameters(encoder, encoder.group_matcher(coarse=True))
    ordered = [groups[key] for key in sorted(groups, reverse=True)]
    cuts = {"backbone's last stage": 1, "half the backbone": (len(ordered) + 1) // 2}
    cuts["whole backbone"] = len(ordered)
    for stage, count in cuts.items():
        modules = {name.rpartition(".")[0] for group in ordered[:count] for name in group}
        below = [f"backbones.{s}.backbone.{m}." for s in model.streams for m in sorted(modules)]
        stages[stage] = (*done, *below)
    return stages
