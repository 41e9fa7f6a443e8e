"""Multi-modal fusion attention against a transcription of equations (8) to (11)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from jiadf.models.mmfa import MMFA


def build(widths=(6, 3), paths="both", **options) -> MMFA:
    torch.manual_seed(1)
    return MMFA(widths, **({"num_heads": 3, "head_dim": 4, "out_dim": 5} | options), paths=paths)


def tokens_of(widths, batch=4, scale=1.0) -> list[torch.Tensor]:
    return [torch.randn(batch, width) * scale for width in widths]


@torch.no_grad()
def transcription(module: MMFA, tokens: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Equations (8) to (11), one sample, head and token at a time."""
    heads, width, n = module.num_heads, module.head_dim, len(tokens)
    joint, attentions = [], []
    for sample in range(len(tokens[0])):
        features = [token[sample] for token in tokens]
        mixed_rows, sample_attention = [], []
        for head in range(heads):
            query, key, value = [], [], []
            for i in range(n):
                maps = module.qkv[i].weight.reshape(3, heads, width, -1)
                query.append(maps[0, head] @ features[i])  # (8)
                key.append(maps[1, head] @ features[i])
                value.append(maps[2, head] @ features[i])
            head_attention = []
            for i in range(n):
                scores = [float(query[i] @ key[j]) / math.sqrt(width) for j in range(n)]  # (9)
                exponentials = [math.exp(score - max(scores)) for score in scores]
                row = [value / sum(exponentials) for value in exponentials]
                head_attention.append(row)
                mixed_rows.append(sum(row[j] * value[j] for j in range(n)))  # (10)
            sample_attention.append(head_attention)
        attended = functional.gelu(module.attention_out(torch.cat(mixed_rows)))
        kept = functional.gelu(module.skip_out(torch.cat(features)))
        joint.append(attended + kept)  # (11)
        attentions.append(sample_attention)
    return torch.stack(joint), torch.tensor(attentions)


@pytest.mark.parametrize("widths", [(6, 3), (4, 4), (6, 3, 2), (2, 3, 4, 5)])
def test_equals_the_transcription_of_equations_8_to_11(widths):
    module, tokens = build(widths), tokens_of(widths)
    joint, attention = module(tokens, return_attention=True)
    expected_joint, expected_attention = transcription(module, tokens)
    assert attention.shape == (4, 3, len(widths), len(widths))
    torch.testing.assert_close(attention, expected_attention, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(joint, expected_joint, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(module(tokens), joint)


def test_both_paths_are_the_sum_of_the_two_alone():
    both, tokens = build(), tokens_of((6, 3))
    attention, skip = build(paths="attention"), build(paths="skip")
    assert {name.split(".")[0] for name in attention.state_dict()} == {"qkv", "attention_out"}
    assert {name.split(".")[0] for name in skip.state_dict()} == {"skip_out"}
    attention.load_state_dict({k: v for k, v in both.state_dict().items() if "skip" not in k})
    skip.load_state_dict({k: v for k, v in both.state_dict().items() if "skip" in k})
    torch.testing.assert_close(both(tokens), attention(tokens) + skip(tokens))
    assert skip(tokens, return_attention=True)[1] is None
    assert attention(tokens, return_attention=True)[1] is not None


@settings(deadline=None, max_examples=25)
@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    scale=st.sampled_from([0.0, 1e-4, 1.0, 1e2, 1e4]),
    paths=st.sampled_from(["both", "attention", "skip"]),
)
def test_attention_rows_are_on_the_simplex_and_all_is_finite_both_ways(widths, scale, paths):
    module = build(tuple(widths), paths)
    tokens = [token.requires_grad_() for token in tokens_of(widths, scale=scale)]
    joint, attention = module(tokens, return_attention=True)
    if attention is not None:
        assert (attention >= 0).all()
        torch.testing.assert_close(attention.sum(-1), torch.ones(4, 3, len(widths)))
    joint.sum().backward()
    gradients = [tensor.grad for tensor in (*tokens, *module.parameters())]
    assert torch.isfinite(joint).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(5)))
def test_permuting_samples_permutes_outputs(order):
    module, tokens = build(), tokens_of((6, 3), batch=5)
    joint, attention = module(tokens, return_attention=True)
    moved, moved_attention = module([token[order] for token in tokens], return_attention=True)
    torch.testing.assert_close(moved, joint[order])
    torch.testing.assert_close(moved_attention, attention[order])


def test_permuting_modalities_with_their_maps_leaves_the_attention_path_equivariant():
    module, tokens = build(paths="attention"), tokens_of((6, 3))
    _, attention = module(tokens, return_attention=True)
    swapped = build((3, 6), paths="attention")
    for new, old in zip(swapped.qkv, reversed(module.qkv), strict=True):
        new.load_state_dict(old.state_dict())
    _, swapped_attention = swapped(tokens[::-1], return_attention=True)
    torch.testing.assert_close(swapped_attention, attention.flip(-1, -2))


@pytest.mark.parametrize("paths", ["both", "attention", "skip"])
def test_gradient_reaches_every_token_and_every_head(paths):
    module = build(paths=paths)
    tokens = [token.requires_grad_() for token in tokens_of((6, 3))]
    module(tokens).sum().backward()
    assert all(token.grad.abs().sum() > 0 for token in tokens)
    for name, parameter in module.named_parameters():
        if name.startswith("qkv"):
            per_head = parameter.grad.reshape(3, 3, 4, -1).abs().sum(dim=(2, 3))  # (qkv, head)
            assert (per_head > 0).all(), name
        else:
            assert parameter.grad.abs().sum() > 0, name


def test_each_modality_changes_the_joint_features():
    module, tokens = build(paths="attention"), tokens_of((6, 3))
    for i in range(2):
        other = list(tokens)
        other[i] = other[i] + 1
        assert not torch.allclose(module(other), module(tokens))


def test_attention_is_float32_and_finite_under_autocast():
    module, tokens = build(), tokens_of((6, 3), scale=300.0)
    with torch.autocast("cpu", dtype=torch.float16):
        joint, attention = module(tokens, return_attention=True)
    assert attention.dtype == torch.float32
    assert torch.isfinite(joint).all()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"token_dims": (4,)}, "token_dims"),
        ({"token_dims": (4, 4), "paths": "neither"}, "paths"),
    ],
)
def test_impossible_settings_are_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=named):
        MMFA(**arguments)
