"""Feature maps as tokens, whatever the family of the backbone."""

import pytest
import torch

from jiadf.models.encoders import ImageEncoder


@pytest.mark.parametrize(
    ("backbone", "side", "count"),
    [
        ("tf_efficientnet_lite0", 96, 9),
        ("resnet18", 64, 4),
        ("vit_tiny_patch16_224", 224, 197),
        ("swin_tiny_patch4_window7_224", 224, 49),
    ],
)
def test_tokens_go_with_the_pooled_features(backbone, side, count):
    torch.manual_seed(0)
    encoder = ImageEncoder(backbone, "random").eval()
    images = torch.randn(1, 3, side, side)
    with torch.no_grad():
        pooled, tokens = encoder.tokens(images)
        torch.testing.assert_close(pooled, encoder(images))
    assert tokens.shape == (1, count, encoder.num_features)


def test_a_backbone_of_two_widths_is_refused():
    encoder = ImageEncoder("mobilenetv3_small_050", "random").eval()
    with pytest.raises(ValueError, match="set backbone to one whose pooled features"):
        encoder.tokens(torch.randn(1, 3, 64, 64))
