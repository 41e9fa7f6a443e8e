"""The drawing of one lesion: reproducible, the same at any size, the same lesion in both views."""

from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image

from jiadf.data.appearance import PATIENTS, VARIANTS, Look, monet_scores, sample_lesion
from jiadf.data.draw import draw_lesion
from jiadf.data.schema import CLASSES, MONET, SEXES, SITES, SKIN_TONES

SMALL = (160, 120)
VIEWS = ("clinical", "dermoscopic")


def plain(label="NV", entropy=(0, 1), **traits):
    """A lesion without hair, bubbles, marks, blur or haze, and with the given traits only."""
    lesion = sample_lesion(label, entropy)
    scene = replace(
        lesion.scene, hair_clinical=0, hair_dermoscopic=0, bubbles=0, vignette=False, ruler=False,
        pen=False, blur_clinical=0, blur_dermoscopic=0, haze_clinical=0, haze_dermoscopic=0,
    )  # fmt: skip
    look = Look(radius=0.6, melanin=0.3, blood=0.2, elevation=0.2)
    return replace(lesion, scene=scene, looks=(replace(look, **traits),))


@pytest.mark.parametrize("label", CLASSES)
def test_same_seeds_give_the_same_picture_and_others_another(label):
    first = draw_lesion(sample_lesion(label, (3, 5)), SMALL)
    again = draw_lesion(sample_lesion(label, (3, 5)), SMALL)
    other = draw_lesion(sample_lesion(label, (3, 6)), SMALL)
    for view in VIEWS:
        np.testing.assert_array_equal(first[view].image, again[view].image)
        np.testing.assert_array_equal(first[view].mask, again[view].mask)
        assert np.abs(first[view].image.astype(int) - other[view].image).mean() > 3


@pytest.mark.parametrize("size", [(600, 450), (64, 64), (101, 77), (40, 90), (33, 32)])
def test_any_size(size):
    for drawing in draw_lesion(sample_lesion("MEL", (0, 4)), size).values():
        assert drawing.image.shape == (size[1], size[0], 3)
        assert drawing.image.dtype == np.uint8
        assert drawing.mask.shape == (size[1], size[0])
        assert drawing.mask.dtype == bool
        assert 0 < drawing.mask.mean() < 0.9


def test_too_small_a_picture_is_refused():
    with pytest.raises(ValueError, match="at least 32"):
        draw_lesion(sample_lesion("NV", (0, 0)), (600, 31))


@pytest.mark.parametrize("label", CLASSES)
def test_a_small_picture_shows_what_the_large_one_shows(label):
    lesion = sample_lesion(label, (1, 2))
    large, small = draw_lesion(lesion, (480, 360)), draw_lesion(lesion, SMALL)
    for view in VIEWS:
        reduced = np.asarray(Image.fromarray(large[view].image).resize(SMALL, Image.Resampling.BOX))
        difference = np.abs(reduced.astype(float) - small[view].image)
        assert difference.mean() < 7
        assert np.corrcoef(reduced.ravel(), small[view].image.ravel())[0, 1] > 0.9
        assert abs(large[view].mask.mean() - small[view].mask.mean()) < 0.01


@pytest.mark.parametrize("number", range(4))
def test_both_views_show_the_same_lesion(number):
    lesion = plain("MEL", (2, number), irregularity=0.2)
    drawn = draw_lesion(lesion, (320, 240))
    close = drawn["dermoscopic"].mask
    zoom = lesion.scene.zoom
    reduced = Image.fromarray(close).resize((round(320 * zoom), round(240 * zoom)))
    turned = np.asarray(reduced.rotate(lesion.scene.turn))
    rows, columns = np.nonzero(turned)
    expected = turned[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    rows, columns = np.nonzero(drawn["clinical"].mask)
    seen = drawn["clinical"].mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert np.abs(np.subtract(seen.shape, expected.shape)).max() <= 3
    height, width = np.minimum(seen.shape, expected.shape)
    seen, expected = seen[:height, :width], expected[:height, :width]
    assert (seen & expected).sum() / (seen | expected).sum() > 0.85


@pytest.mark.parametrize("view", VIEWS)
def test_mask_covers_the_dark_spot(view):
    drawing = draw_lesion(plain(melanin=1.5), (240, 180))[view]
    brightness = drawing.image.mean(axis=2)
    dark = brightness < (brightness[drawing.mask].mean() + brightness[~drawing.mask].mean()) / 2
    assert (dark & drawing.mask).sum() / (dark | drawing.mask).sum() > 0.8


@pytest.mark.parametrize("view", VIEWS)
def test_skin_gets_lighter_with_its_tone_class(view):
    lesion = plain()
    brightness = []
    for tone in SKIN_TONES:
        drawn = draw_lesion(replace(lesion, patient=replace(lesion.patient, skin_tone=tone)), SMALL)
        brightness.append(drawn[view].image[~drawn[view].mask].mean())
    assert np.all(np.diff(brightness) > 2)


@pytest.mark.parametrize("trait", [field.name for field in fields(Look)])
def test_every_trait_can_be_seen(trait):
    shape = ("radius", "elongation", "edge")
    on_brown = {
        name: {"melanin": 1.0} for name in ("asymmetry", "edge", "mottle", "network", "ridges")
    }
    companions = on_brown | {"thrombosed": {"lacunae": 1.0}, "gloss": {"elevation": 1.0}}
    companion = companions.get(trait, {})
    low, high = (0.3, 0.8) if trait in shape else (0.0, 1.0)
    if trait == "elongation":
        low, high = 1.0, 1.6
    view = "clinical" if trait in ("elevation", "gloss") else "dermoscopic"
    before, after = (
        draw_lesion(plain(**companion, **{trait: amount}), SMALL)[view].image.astype(int)
        for amount in (low, high)
    )
    assert np.abs(after - before).max() > 20


@pytest.mark.parametrize(
    ("trait", "channel", "sign"),
    [("melanin", 2, -1), ("blood", 1, -1), ("blue", 0, -1), ("yellow", 2, -1), ("scar", 2, 1)],
)
def test_colours_are_what_they_stand_for(trait, channel, sign):
    """Brown and yellow take blue light, blood takes green, deep pigment red; a scar is white."""
    without = draw_lesion(plain(melanin=0.4), SMALL)["dermoscopic"]
    drawn = draw_lesion(plain(**({"melanin": 0.4} | {trait: 1.0})), SMALL)["dermoscopic"]
    change = (drawn.image.astype(float) - without.image)[without.mask].mean(axis=0)
    assert sign * change[channel] > 5
    assert np.abs(change).argmax() == channel


@pytest.mark.parametrize(
    ("flag", "view"),
    [({"vignette": True}, "dermoscopic"), ({"ruler": True}, "dermoscopic"),
     ({"pen": True}, "clinical"), ({"pen": True}, "dermoscopic"),
     ({"bubbles": 1.0}, "dermoscopic"),
     ({"hair_clinical": 0.8}, "clinical"), ({"hair_dermoscopic": 0.8}, "dermoscopic")],
)  # fmt: skip
def test_the_scene_can_be_seen(flag, view):
    lesion = plain()
    changed = replace(lesion, scene=replace(lesion.scene, **flag))
    before, after = draw_lesion(lesion, SMALL)[view], draw_lesion(changed, SMALL)[view]
    assert (np.abs(before.image.astype(int) - after.image).max(axis=2) > 25).mean() > 0.003
    np.testing.assert_array_equal(before.mask, after.mask)


def test_every_class_has_looks_and_patients():
    assert set(VARIANTS) == set(PATIENTS) == set(CLASSES)
    for kinds in VARIANTS.values():
        assert sum(share for share, _, _ in kinds) == pytest.approx(1)
    for _, _, men, sites, tones in PATIENTS.values():
        assert 0 < men < 1
        assert len(sites) == len(SITES)
        assert len(tones) == len(SKIN_TONES)


def test_scores_follow_what_is_drawn():
    def mean_score(name, view, **traits):
        lesions = [plain(entropy=(0, index), **traits) for index in range(60)]
        return np.mean([monet_scores(lesion, view)[name] for lesion in lesions])

    for view in VIEWS:
        assert mean_score("MONET_pigmented", view, melanin=1.5) > mean_score(
            "MONET_pigmented", view, melanin=0.1
        )
        assert mean_score("MONET_ulceration_crust", view, ulcer=1.0) > mean_score(
            "MONET_ulceration_crust", view
        )
    scores = monet_scores(plain(), "clinical")
    assert tuple(scores) == MONET
    assert all(0 <= score <= 1 for score in scores.values())
    assert sample_lesion("BCC", (0, 0)).patient.sex in SEXES
