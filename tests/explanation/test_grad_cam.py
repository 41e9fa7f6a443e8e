"""Heat maps are the library's own, of the whole network, and Grad-CAM's equation."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from jiadf.explanation.grad_cam import grad_cam, upsample
from jiadf.explanation.network import ExplanationError


class PixelsToScores(torch.nn.Module):
    """The whole network in one piece, as the library would be used without this module."""

    def __init__(self, network, stream, images, metadata, output):
        super().__init__()
        self.network, self.stream, self.output = network, stream, output
        self.images, self.metadata = images, metadata

    def forward(self, pixels):
        other = {n: maps for n, maps in self.images.items() if n != self.stream}
        maps = other | self.network.maps({self.stream: pixels})
        return self.network.scores(self.network.features(maps), self.metadata, self.output)


@pytest.mark.parametrize("output", ["fused", "image", "joint"])
def test_maps_are_the_librarys_of_the_whole_network(packaged, inputs, classes, output):
    ours = grad_cam(packaged.network, packaged.maps, packaged.metadata, classes, output)
    for stream, maps in ours.items():
        whole = PixelsToScores(
            packaged.network, stream, packaged.maps, torch.from_numpy(packaged.metadata), output
        )
        pixels = torch.from_numpy(inputs.streams[stream]).permute(0, 3, 1, 2)
        encoder = packaged.network.backbones[stream]
        encoder.requires_grad_(True)
        with GradCAM(whole, [encoder.backbone.bn2]) as cam:
            theirs = cam(pixels, [ClassifierOutputTarget(int(k)) for k in classes])
        encoder.requires_grad_(False)
        shown = scale_cam_image(upsample(maps, pixels.shape[-1]))  # as the library ends
        np.testing.assert_allclose(shown, theirs, atol=2e-3)
        np.testing.assert_allclose(maps.max((1, 2)), 1)


def test_maps_do_not_depend_on_what_else_is_in_the_batch(packaged, classes):
    whole = grad_cam(packaged.network, packaged.maps, packaged.metadata, classes)
    one = {name: maps[1:2] for name, maps in packaged.maps.items()}
    alone = grad_cam(packaged.network, one, packaged.metadata[1:2], classes[1:2])
    for stream, maps in alone.items():
        np.testing.assert_allclose(whole[stream][1:2], maps, atol=1e-4)


def test_an_images_own_branch_has_no_map_on_the_other_image(untrained):
    case = untrained(modalities="CD")
    assert case.network.outputs == ("fused", "clinical", "dermoscopic", "joint")
    maps = grad_cam(case.network, case.maps, case.metadata, [0] * 6, "clinical")
    assert not maps["dermoscopic"].any()


@pytest.mark.parametrize("modalities", ["D", "CM"])
def test_designs_without_a_modality(untrained, modalities):
    case = untrained(modalities=modalities)
    maps = grad_cam(case.network, case.maps, case.metadata, [0] * 6)
    assert set(maps) == set(case.network.streams)


def test_outputs_without_a_map_are_refused(packaged):
    with pytest.raises(ExplanationError, match="sees no image"):
        grad_cam(packaged.network, packaged.maps, packaged.metadata, [0] * 6, "metadata")
    with pytest.raises(ExplanationError, match="it has fused, image, metadata, joint"):
        grad_cam(packaged.network, packaged.maps, packaged.metadata, [0] * 6, "clinical")


def test_upsampling_keeps_zero_maps_zero():
    scaled = upsample(np.stack([np.zeros((2, 2)), np.eye(2)]).astype(np.float32), 8)
    assert scaled.shape == (2, 8, 8)
    assert not scaled[0].any()
    assert scaled[1].max() == pytest.approx(1, abs=0.1)
