"""Explanations are the libraries' own, of the run's own network, in both regimes."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from jiadf.cards import make_cards
from jiadf.data.image_cache import cache_images
from jiadf.data.schema import CLASSES
from jiadf.explanation.explain import (
    ExplanationError,
    average_lesion,
    by_field,
    contributions,
    feature_maps,
    field_of,
    grad_cam,
    open_network,
    upsample,
)
from jiadf.randomise import cascade, randomised
from jiadf.training.predict import run_inputs
from jiadf.training.trainer import train

SIZE = 64  # the last feature map has 2 x 2 cells


@pytest.fixture(scope="module")
def small(lesions):
    return lesions.groupby("label").head(3)


@pytest.fixture(scope="module")
def make_run(small, cache_dir, tiny_parameters, tmp_path_factory):
    made = {}

    def make(**changes):
        key = tuple(sorted(changes.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("runs") / "run"
            p = tiny_parameters(image_size=SIZE, feature_views=1, n_folds=2, **changes)
            made[key] = train(small, folder, p, cache_dir, progress=False)
        return made[key]

    return make


def opened(run, table, cache_dir, count=6):
    """A run's network and what it is asked about."""
    model = open_network(run)
    pictures = {
        name: cache_images(table[f"{name}_path"], SIZE, cache_dir, progress=False).pixels[:count]
        for name in model.streams
    }
    metadata = run_inputs(run, table, cache_dir, progress=False).metadata[:count]
    return model, pictures, metadata


REGIMES = [
    {},
    {"regime": "finetune", "epochs": 1},
    {"regime": "finetune", "epochs": 1, "share_backbone": True},
]


@pytest.mark.parametrize("changes", REGIMES, ids=["frozen", "finetune", "shared"])
def test_the_network_is_the_runs_own_from_the_pixels_on(make_run, small, cache_dir, changes):
    run = make_run(**changes)
    model, pictures, metadata = opened(run, small, cache_dir)
    batch = {name: torch.from_numpy(np.array(p)) for name, p in pictures.items()}
    with torch.no_grad():
        said = model(batch | {"metadata": torch.from_numpy(metadata)})
        steps = model.decide(
            model.features(feature_maps(model, pictures)), torch.from_numpy(metadata)
        )
    recorded = run.predictions.loc[small.index[:6], list(CLASSES)]
    np.testing.assert_allclose(said.log_posterior.exp(), recorded, atol=2e-4)
    torch.testing.assert_close(said.log_posterior, steps.log_posterior)


class PixelsToScores(torch.nn.Module):
    """The whole network in one piece, as the library would be used without this module."""

    def __init__(self, model, stream, pictures, metadata, output):
        super().__init__()
        self.model, self.stream, self.output = model, stream, output
        self.rest = pictures | {"metadata": metadata}

    def forward(self, pixels):
        said = self.model(self.rest | {self.stream: pixels})
        return said.log_posterior if self.output == "fused" else said.logits[self.output]


@pytest.mark.parametrize("changes", REGIMES[:2], ids=["frozen", "finetune"])
@pytest.mark.parametrize("output", ["fused", "image", "joint"])
def test_maps_are_the_librarys_of_the_whole_network(make_run, small, cache_dir, changes, output):
    model, pictures, metadata = opened(make_run(**changes), small, cache_dir)
    classes = [0, 1, 2, 8, 8, 10]
    ours = grad_cam(model, feature_maps(model, pictures), metadata, classes, output, SIZE)
    batch = {n: torch.from_numpy(np.array(p)).permute(0, 3, 1, 2) for n, p in pictures.items()}
    for stream in model.streams:
        if changes == {}:  # one backbone for both pictures: its last layer sees both
            encoder = model.backbones[stream]
            batch = {n: p.contiguous() for n, p in batch.items()}
            model.backbones[stream] = type(encoder)()
            model.backbones[stream].load_state_dict(encoder.state_dict())
            model.eval()
        whole = PixelsToScores(model, stream, batch, torch.from_numpy(metadata), output)
        layer = model.backbones[stream].backbone.bn2
        cam = GradCAM(whole, [layer])
        theirs = cam(batch[stream], [ClassifierOutputTarget(k) for k in classes])
        np.testing.assert_allclose(ours[stream], theirs, atol=2e-3)
    assert max(maps.max() for maps in ours.values()) > 0.99


def test_maps_do_not_depend_on_what_else_is_in_the_batch(make_run, small, cache_dir):
    model, pictures, metadata = opened(make_run(), small, cache_dir, count=3)
    maps = feature_maps(model, pictures)
    together = grad_cam(model, maps, metadata, [1, 2, 3])
    alone = grad_cam(model, {n: m[1:2] for n, m in maps.items()}, metadata[1:2], [2])
    for stream in model.streams:
        np.testing.assert_allclose(together[stream][1:2], alone[stream], atol=1e-4)


@pytest.mark.parametrize(
    ("modalities", "outputs", "streams"),
    [
        ("D", ("fused", "joint"), ("dermoscopic",)),
        ("CM", ("fused", "image", "metadata", "joint"), ("clinical",)),
        ("CD", ("fused", "clinical", "dermoscopic", "joint"), ("clinical", "dermoscopic")),
    ],
)
def test_runs_without_some_modality(make_run, small, cache_dir, modalities, outputs, streams):
    run = make_run(modalities=modalities)
    model, pictures, metadata = opened(run, small, cache_dir, count=2)
    assert model.outputs == outputs
    assert model.streams == streams
    maps = feature_maps(model, pictures)
    for output in model.picture_outputs:
        found = grad_cam(model, maps, metadata, [1, 8], output)
        assert tuple(found) == streams
        if output in streams and len(streams) > 1:  # a branch of one picture
            other = next(s for s in streams if s != output)
            assert not found[other].any()
    card = make_cards(run, small, [small.index[0]])[0]
    assert set(card.pictures) == set(streams)
    assert (card.weights is None) == (modalities == "D")
    assert bool(card.metadata) == ("M" in modalities)


def test_nothing_to_show_is_an_error_that_says_what_there_is(make_run, small, cache_dir):
    with pytest.raises(ExplanationError, match=r"sees no picture.*'M'"):
        open_network(make_run(modalities="M"))
    with pytest.raises(ExplanationError, match="explain a run with backbone_features pooled"):
        open_network(make_run(backbone_features="stages"))
    model, pictures, metadata = opened(make_run(), small, cache_dir, count=1)
    maps = feature_maps(model, pictures)
    with pytest.raises(ExplanationError, match="it has fused, image, metadata, joint"):
        grad_cam(model, maps, metadata, [0], "clinical")
    with pytest.raises(ExplanationError, match="sees no picture"):
        grad_cam(model, maps, metadata, [0], "metadata")
    with pytest.raises(ValueError, match="explained is 'WART'"):
        make_cards(make_run(), small, small.index[:1], explained="WART")


def test_a_backbone_without_feature_maps_is_refused(make_run, small, cache_dir):
    model, pictures, _ = opened(make_run(), small, cache_dir, count=1)
    model.backbones["clinical"].backbone.forward_features = lambda x: torch.zeros(len(x), 5, 8)
    with pytest.raises(ExplanationError, match="needs a convolutional backbone"):
        feature_maps(model, pictures)


@pytest.mark.parametrize("output", ["fused", "image", "metadata", "joint"])
def test_contributions_add_up(make_run, small, cache_dir, output):
    model, pictures, metadata = opened(make_run(), small, cache_dir)
    with torch.no_grad():
        features = model.features(feature_maps(model, pictures))
    baseline = average_lesion(model, features, metadata)
    classes = np.array([0, 1, 2, 8, 8, 10])
    given = contributions(model, features, metadata, baseline, classes, output)

    def score(*arguments):
        said = model.decide(*arguments)
        return said.log_posterior if output == "fused" else said.logits[output]

    with torch.no_grad():
        here = score(features, torch.from_numpy(metadata))
        start = score({n: baseline[n] for n in features}, baseline["metadata"])
    difference = (here - start)[np.arange(6), classes].numpy()
    total = sum(given[name] for name in model.streams) + given["metadata"].sum(1)
    np.testing.assert_allclose(total, difference, atol=2e-3)
    np.testing.assert_allclose(given["gap"], total - difference, atol=1e-5)
    if output == "metadata":
        assert not given["clinical"].any()
    if output == "image":
        assert not given["metadata"].any()


def test_fields_hold_all_columns(make_run, small, cache_dir):
    run = make_run()
    from jiadf.data.metadata import MetadataEncoder

    columns = MetadataEncoder.from_json(run.text("encoder.json")).columns
    values = np.random.default_rng(0).normal(size=(3, len(columns)))
    table = by_field(values, columns)
    np.testing.assert_allclose(table.sum(axis=1), values.sum(1))
    sites = [place for place, name in enumerate(columns) if name.startswith("site")]
    np.testing.assert_allclose(table["site"], values[:, sites].sum(1))
    assert field_of("dermoscopic_MONET_hair") == "hair (dermoscopic)"
    assert field_of("age_missing") == "age"
    assert field_of("skin_tone_class=3") == "skin tone"


def test_the_cascade_reaches_every_weight_and_each_stage_changes_more(make_run, small, cache_dir):
    model, _, _ = opened(make_run(), small, cache_dir, count=1)
    stages = cascade(model)
    assert list(stages)[:3] == ["gate", "heads", "whole fusion"]
    before = model.state_dict()
    changed = []
    for prefixes in stages.values():
        after = randomised(model, prefixes, seed=1).state_dict()
        assert after.keys() == before.keys()
        changed.append({name for name in before if not torch.equal(before[name], after[name])})
    for fewer, more in pairwise(changed):
        assert fewer < more
    assert all(name.startswith("network.") for name in changed[2])
    kept = [name for name in before if name not in changed[-1] and before[name].is_floating_point()]
    assert all(name.startswith("scalers.") for name in kept), kept
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())  # untouched


def test_random_weights_are_seeded_and_leave_torch_alone(make_run, small, cache_dir):
    model, _, _ = opened(make_run(), small, cache_dir, count=1)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (randomised(model, ["network.heads."], seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    heads = [m.network.heads["joint"].weight for m in (one, same, other)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    with pytest.raises(ExplanationError, match="no weights are named"):
        randomised(model, ["nothing"])


def test_cards_say_what_the_run_recorded(make_run, small, cache_dir):
    run = make_run()
    cards = make_cards(run, small, small.index[[4, 2]], "joint", explained="MEL")
    for card, lesion in zip(cards, small.index[[4, 2]], strict=True):
        recorded = run.predictions.loc[lesion]
        posterior = pd.Series(card.probability)
        np.testing.assert_allclose(posterior, recorded[list(CLASSES)].astype(float), atol=2e-4)
        weights = recorded[["weight_image", "weight_metadata", "weight_joint"]].astype(float)
        np.testing.assert_allclose(list(card.weights.values()), weights, atol=2e-4)
        assert card.explained == "MEL"
        assert card.truth == small.loc[lesion, "label"]
        np.testing.assert_allclose(
            sum(card.metadata.values()), card.sources["all metadata"], atol=1e-5
        )
        assert all(heat.shape == (SIZE, SIZE) for heat in card.maps.values())
    assert any(name.startswith("age: ") for name in cards[0].metadata)


def test_upsampling_keeps_zero_maps_zero():
    cells = np.stack([np.zeros((2, 2)), np.eye(2)]).astype(np.float32)
    scaled = upsample(cells, 8)
    assert scaled.shape == (2, 8, 8)
    assert not scaled[0].any()
    assert scaled[1].max() == pytest.approx(1, abs=1e-5)
