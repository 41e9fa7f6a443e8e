"""The loader of PanDerm on made checkpoints with the published names."""

import argparse
import math
import pickle

import pytest
import torch
from torch.nn import functional

from jiadf.models import weights as module
from jiadf.models.encoders import ImageEncoder, WeightsError
from jiadf.models.weights import PANDERM, rename_panderm_keys
from jiadf.training.trainer import train

WIDTH, DEPTH, HEADS = 16, 2, 2


@pytest.fixture
def tiny(monkeypatch):
    """Offer a PanDerm of two narrow blocks."""
    name, options = PANDERM["panderm_large"]
    small = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    monkeypatch.setitem(module.PANDERM, "panderm_tiny", (name, options | small))
    return "panderm_tiny"


@pytest.fixture
def published() -> dict[str, torch.Tensor]:
    """Random tensors under the names of the published encoder."""
    torch.manual_seed(0)
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 197, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 16, 16),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    for block in range(DEPTH):
        own = {
            "norm1.weight": (WIDTH,),
            "norm1.bias": (WIDTH,),
            "attn.qkv.weight": (3 * WIDTH, WIDTH),
            "attn.q_bias": (WIDTH,),
            "attn.v_bias": (WIDTH,),
            "attn.proj.weight": (WIDTH, WIDTH),
            "attn.proj.bias": (WIDTH,),
            "norm2.weight": (WIDTH,),
            "norm2.bias": (WIDTH,),
            "mlp.fc1.weight": (4 * WIDTH, WIDTH),
            "mlp.fc1.bias": (4 * WIDTH,),
            "mlp.fc2.weight": (WIDTH, 4 * WIDTH),
            "mlp.fc2.bias": (WIDTH,),
            "gamma_1": (WIDTH,),
            "gamma_2": (WIDTH,),
        }
        shapes |= {f"blocks.{block}.{name}": shape for name, shape in own.items()}
    return {name: 0.3 * torch.randn(shape) for name, shape in shapes.items()}


def checkpoint_of(state, path):
    """Save as the large checkpoint is: a prefix, what it was pretrained with, the arguments."""
    model = {f"encoder.{name}": value for name, value in state.items()}
    model |= {"teacher.visual.proj": torch.ones(3), "regressor.norm.weight": torch.ones(3)}
    model |= {"encoder.head.weight": torch.ones(2, WIDTH)}
    torch.save({"model": model, "epoch": 499, "args": argparse.Namespace(lr=1e-3)}, path)
    return path


def transcription(state, images):
    """Run the published network slowly: biases for queries and values only, two layer scales."""
    patches = functional.conv2d(
        images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16
    )
    tokens = patches.flatten(2).mT  # (B, 196, W)
    tokens = torch.cat([state["cls_token"].expand(len(images), -1, -1), tokens], 1)
    tokens = tokens + state["pos_embed"]

    def norm(name, value):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return functional.layer_norm(value, (WIDTH,), weight, bias, eps=1e-6)

    for block in range(DEPTH):
        own = {k.removeprefix(f"blocks.{block}."): v for k, v in state.items()}
        inside = norm(f"blocks.{block}.norm1", tokens)
        query, key, value = (inside @ own["attn.qkv.weight"].T).chunk(3, dim=-1)
        query, value = query + own["attn.q_bias"], value + own["attn.v_bias"]
        heads = []
        for q, k, v in zip(*(x.chunk(HEADS, -1) for x in (query, key, value)), strict=True):
            heads.append((q @ k.mT / math.sqrt(WIDTH // HEADS)).softmax(-1) @ v)
        mixed = torch.cat(heads, -1) @ own["attn.proj.weight"].T + own["attn.proj.bias"]
        tokens = tokens + own["gamma_1"] * mixed
        inside = norm(f"blocks.{block}.norm2", tokens)
        inside = functional.gelu(inside @ own["mlp.fc1.weight"].T + own["mlp.fc1.bias"])
        inside = inside @ own["mlp.fc2.weight"].T + own["mlp.fc2.bias"]
        tokens = tokens + own["gamma_2"] * inside
    return norm("norm", tokens)[:, 0]


@pytest.mark.parametrize("form", ["large", "base"])
def test_a_published_checkpoint_gives_the_published_outputs(form, tiny, published, tmp_path):
    path = tmp_path / "checkpoint.pth"
    if form == "large":
        checkpoint_of(published, path)
    else:
        torch.save(published, path)  # bare, without a prefix
    encoder = ImageEncoder(tiny, path).eval()
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(
            encoder(images), transcription(published, images), rtol=1e-4, atol=1e-4
        )
    assert encoder.backbone.pretrained_cfg["mean"] == (0.485, 0.456, 0.406)


def test_positions_that_a_file_lacks_are_the_fixed_ones(published):
    del published["pos_embed"]
    positions = rename_panderm_keys(published)["pos_embed"]
    assert positions.shape == (1, 197, WIDTH)
    assert not positions[0, 0].any()
    quarter = WIDTH // 4
    for row, column in ((0, 0), (3, 5), (13, 2)):
        vector = positions[0, 1 + 14 * row + column]
        for k in range(quarter):
            frequency = 10000 ** (-k / quarter)
            expected = [
                f(place * frequency) for place in (row, column) for f in (math.sin, math.cos)
            ]
            torch.testing.assert_close(vector[k::quarter], torch.tensor(expected))


def test_the_sizes_are_those_of_the_published_networks():
    import timm

    for name, (width, depth) in {"panderm_large": (1024, 24), "panderm_base": (768, 12)}.items():
        kind, options = PANDERM[name]
        with torch.device("meta"):
            network = timm.create_model(kind, num_classes=0, **options)
        assert (network.num_features, len(network.blocks)) == (width, depth)
        assert network.patch_embed.patch_size == (16, 16)


def test_weights_are_never_replaced(tiny, published, tmp_path):
    with pytest.raises(WeightsError, match="set backbone_weights to the path of the checkpoint"):
        ImageEncoder(tiny, "auto")
    with pytest.raises(WeightsError, match="does not exist"):
        ImageEncoder(tiny, tmp_path / "none.pth")
    del published["blocks.1.gamma_2"]
    with pytest.raises(WeightsError, match="of another network"):
        ImageEncoder(tiny, checkpoint_of(published, tmp_path / "part.pth"))


class Harmful:
    """What a checkpoint of unknown origin may hold."""

    def __reduce__(self):
        return print, ("unpickled",)


def test_objects_in_a_checkpoint_are_not_unpickled(tiny, published, tmp_path, capsys):
    path = tmp_path / "harmful.pth"
    torch.save({"model": published, "args": Harmful()}, path)
    with pytest.raises(WeightsError, match="holds more than tensors"):
        ImageEncoder(tiny, path)
    assert "unpickled" not in capsys.readouterr().out
    assert issubclass(pickle.UnpicklingError, Exception)


@pytest.mark.parametrize("regime", ["frozen", "finetune"])
def test_the_row_runs_with_its_file(
    regime, tiny, published, lesions, cache_dir, tiny_parameters, tmp_path
):
    path = checkpoint_of(published, tmp_path / "checkpoint.pth")
    parameters = tiny_parameters(
        method="panderm", backbone=tiny, backbone_weights=str(path), epochs=1, regime=regime
    )
    small = lesions.groupby("label").head(3)
    run = train(small, tmp_path / "run", parameters, cache_dir, progress=False)
    assert run.finished
    assert any("blocks.0" in name for name in run.weights()) == (regime == "finetune")


def test_the_row_does_not_run_without_its_file(lesions, cache_dir, tiny_parameters, tmp_path):
    parameters = tiny_parameters(
        method="panderm", backbone="panderm_large", backbone_weights=str(tmp_path / "none.pth")
    )
    with pytest.raises(WeightsError, match="does not exist: get the checkpoint of"):
        train(lesions, tmp_path / "run", parameters, cache_dir, progress=False)
