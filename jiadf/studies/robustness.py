"""Robustness and fairness: damaged streams, slices, leakage.

Every lesion is asked about by networks that never saw it (the test fold of each run), intact and
with one thing wrong (:mod:`jiadf.explanation.perturbations`). Damage to the cached inputs is done
to all lesions; corrupted pictures go through the backbone once for all networks, for a
class-balanced sample.

The paper says that its gate "adjusts to the reliability of each modality". Measured here are the
change of the gate's weights when a modality is damaged, whether that change makes the damaged
prediction better than the weights of the intact lesion would, and how either compares with a fixed
average and with a network that was trained with modality dropout.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.config import make_parameters
from jiadf.data.batches import Inputs
from jiadf.data.image_cache import cache_images
from jiadf.data.metadata import MetadataEncoder
from jiadf.data.schema import CLASSES
from jiadf.data.split import assign_folds, split_lesions
from jiadf.evaluation.paired_tests import holm
from jiadf.explanation import perturbations as damage
from jiadf.explanation.corruptions import CORRUPTIONS
from jiadf.floor import linear_predictions
from jiadf.leakage import border_images, duplicates_of_lesions
from jiadf.reaction import INTACT, Answers, Damage, gate_reaction, reliability, score_changes
from jiadf.results import summarise_seeds
from jiadf.slices import compare_slices, slices_of
from jiadf.training.features import frozen_features
from jiadf.training.grid import Grid
from jiadf.training.inputs import image_encoder, resolve_device, targets
from jiadf.training.predict import predictor, run_inputs
from jiadf.training.run_folder import Run

PROBE_STRENGTHS = (1e-3,)  # one, chosen beforehand: a probe asks whether anything is there
SYSTEMS = ("ji-adf", "ji-mmfa", "modality-dropout")
Change = Callable[[Inputs, Sequence[str]], Inputs]


def table_damages(seed: int = 0) -> dict[Damage, Change]:
    """Return the damages that need no new features, with what makes them."""
    changes: dict[Damage, Change] = {}
    for stream, names in {
        "clinical": ["clinical"],
        "dermoscopic": ["dermoscopic"],
        "images": ["clinical", "dermoscopic"],
        "metadata": ["metadata"],
    }.items():
        changes[Damage(f"{stream} missing", stream, "missing")] = partial(_without, names=names)
    for field in damage.FIELDS:
        missing = Damage(f"{field} missing", "metadata", "field missing")
        changes[missing] = partial(damage.field_missing, field=field)
    for field in ("age", "site"):
        wrong = Damage(f"{field} wrong", "metadata", "wrong")
        changes[wrong] = partial(damage.field_wrong, field=field, seed=seed)
    for stream in ("clinical", "dermoscopic", "metadata"):
        swapped = Damage(f"{stream} of another lesion", stream, "swapped")
        changes[swapped] = partial(_of_another, name=stream, seed=seed)
    changes[Damage("images exchanged", "images", "swapped")] = _exchanged
    return changes


def _without(inputs: Inputs, columns: Sequence[str], names: list[str]) -> Inputs:
    return damage.without(inputs, names)


def _of_another(inputs: Inputs, columns: Sequence[str], name: str, seed: int) -> Inputs:
    return damage.of_another_lesion(inputs, name, seed)


def _exchanged(inputs: Inputs, columns: Sequence[str]) -> Inputs:
    return damage.exchanged(inputs)


def corrupted_pictures(
    parameters, lesions: pd.DataFrame, rows: np.ndarray, cache_dir, severities, seed: int = 0
) -> dict[Damage, np.ndarray]:
    """Damage the sample's pictures, one stream at a time: features, or pixels in `finetune`."""
    p = parameters
    result = {}
    for stream in ("clinical", "dermoscopic"):
        encoder = image_encoder(p, stream) if p.regime == "frozen" else None
        images = cache_images(lesions[f"{stream}_path"], p.image_size, cache_dir, progress=False)
        for kind in CORRUPTIONS:
            for severity in severities:
                what = Damage(f"{stream}: {kind} {severity}", stream, kind, severity)
                result[what] = damage.corrupted_images(
                    images, rows, kind, severity, encoder, cache_dir, seed=seed,
                    device=resolve_device(p.device),
                )  # fmt: skip
    return result


def ask(
    grid: Grid, folder: str | Path, lesions: pd.DataFrame, cache_dir, systems: Sequence[str],
    changes: Mapping[Damage, Change], rows: Sequence[int] = (),
    pictures: Mapping[Damage, np.ndarray] | None = None,
) -> tuple[dict, dict]:  # fmt: skip
    """Ask systems about every lesion, intact and damaged, by the runs that never saw it.

    Parameters
    ----------
    grid, folder, lesions, cache_dir
        As for :func:`study`.
    systems
        Those to ask; the ones that the grid lacks are left out.
    changes
        The damages to all lesions, of :func:`table_damages`.
    rows, pictures
        The lesions whose pictures are corrupted, and these, of :func:`corrupted_pictures`.

    Returns
    -------
    whole, sample : dict of system to dict of damage to Answers
        Over all lesions, and over the lesions of `rows` with corrupted `pictures`. Both have the
        intact lesions under :data:`INTACT`.
    """
    systems = [name for name in systems if name in grid.overrides()]
    rows, pictures = np.asarray(rows, dtype=int), pictures or {}
    whole: dict[str, dict] = {name: {} for name in systems}
    sample: dict[str, dict] = {name: {} for name in systems}
    shared: dict = {}
    for run in grid.runs(Path(folder)):
        if run.system not in systems:
            continue
        made, place = Run(run.path), grid.seeds.index(run.seed)
        inputs = run_inputs(made, lesions, cache_dir, progress=False, shared=shared)
        encoder = MetadataEncoder.from_json(made.text("encoder.json"), made.path / "encoder.json")
        parts = made.predictions["split"].loc[lesions.index].to_numpy()
        predict = predictor(made, inputs)
        test = np.flatnonzero(parts == "test")
        inside = np.flatnonzero(np.isin(rows, test))  # places in the sample

        def tell(table, what, target, size, said, run=run, place=place):
            answers = table[run.system].setdefault(
                what, Answers.empty(len(grid.seeds), size, len(said.logits))
            )
            answers.write(place, target, said)

        tell(whole, INTACT, test, len(lesions), predict(inputs, test))
        for what, change in changes.items():
            said = predict(change(inputs, encoder.columns), test)
            tell(whole, what, test, len(lesions), said)
        for what, images in pictures.items():
            changed = damage.corrupted(inputs, what.stream, rows[inside], images[inside])
            tell(sample, what, inside, len(rows), predict(changed))
    for name in systems:
        intact = whole[name][INTACT]
        sample[name][INTACT] = Answers(
            intact.posterior[:, rows], intact.branches[:, rows], intact.weights[:, rows]
        )
    return whole, sample


def shortcut_probes(grid: Grid, lesions: pd.DataFrame, cache_dir, size: int) -> pd.DataFrame:
    """Score linear classifiers that see no lesion: metadata alone, and the frame of the picture.

    The frames are read at ``size`` pixels. Folds are the grid's; so is what is scored.
    """
    base = make_parameters(grid.base)
    streams = {}
    for stream in ("clinical", "dermoscopic"):
        encoder = image_encoder(base, stream)
        images = border_images(lesions[f"{stream}_path"], size, cache_dir)
        streams[stream] = frozen_features(
            images, encoder, cache_dir=cache_dir, progress=False, device=resolve_device(base.device)
        )
    probes = {
        "metadata": ("M", True), "metadata without MONET": ("M", False),
        "frame of the clinical image": ("C", False), "frame of the dermoscopic image": ("D", False),
    }  # fmt: skip
    truth, said = targets(lesions), {}
    for folds in grid.folds():
        chosen = {"val_fold": folds["val_fold"], "test_fold": folds["test_fold"]}
        parts = split_lesions(lesions["label"], base.n_folds, seed=base.split_seed, **chosen)
        parts = parts.to_numpy()
        for name, (letters, use_monet) in probes.items():
            encoded = MetadataEncoder.fit(lesions[parts == "train"], use_monet).transform(lesions)
            inputs = Inputs(streams, encoded, truth)
            probabilities, _ = linear_predictions(inputs, parts, letters, PROBE_STRENGTHS)
            array = said.setdefault(name, np.full((len(truth), len(CLASSES)), np.nan))
            array[parts == "test"] = probabilities[parts == "test"]
    tables = [summarise_seeds(name, "out-of-fold", truth, [p], 100) for name, p in said.items()]
    table = pd.concat(tables, ignore_index=True)
    return table[(table["label"] == "mean") & table["metric"].isin(["macro_auc", "macro_f1"])]


def study(
    grid: Grid, folder: str | Path, lesions: pd.DataFrame, cache_dir: str | Path | None = None,
    *, seed: int = 0, severities: Sequence[int] = (1, 3, 5), sample: int = 300, n: int = 100,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Ask everything of this module; see the functions for what the tables hold.

    Parameters
    ----------
    grid, folder
        An out-of-fold grid with the system ji-adf and, of :data:`SYSTEMS`, those wanted; its runs.
    lesions, cache_dir
        The table that the runs were trained on, and where caches lie.
    seed
        Of the damage and of the resamples.
    severities, sample
        Of the corruptions, and how many lesions' pictures are corrupted.
    n
        Resamples.

    Returns
    -------
    dict of DataFrame
        ``gate``, ``scores``, ``comparisons``, ``reliability``, ``slices``, ``duplicates`` and
        ``probes``.
    """
    grid.require(["ji-adf"])
    base, truth = make_parameters(grid.base), targets(lesions)
    rows = damage.balanced_rows(truth, sample, seed)
    pictures = corrupted_pictures(base, lesions, rows, cache_dir, severities, seed)
    whole, part = ask(
        grid, folder, lesions, cache_dir, SYSTEMS, table_damages(seed), rows, pictures
    )
    groups = ((whole, truth, "all"), (part, truth[rows], "sample"))
    gate = pd.concat([gate_reaction(a, t, name, n, seed) for a, t, name in groups])
    gate["p_holm"] = gate.groupby(["system", "branch"])["p"].transform(holm)
    changed = [score_changes(a, t, name, n, seed) for a, t, name in groups]
    scores, comparisons = (pd.concat(tables) for tables in zip(*changed, strict=True))
    scores["p_holm"] = scores.groupby(["system", "metric"])["p"].transform(holm)
    by_pair = comparisons.groupby(["system", "reference", "metric"])
    comparisons["p_holm"] = by_pair["p"].transform(holm)
    folds = assign_folds(lesions["label"], base.n_folds, base.split_seed).to_numpy()
    return {
        "gate": gate,
        "scores": scores,
        "comparisons": comparisons,
        "reliability": reliability(whole, truth),
        "slices": compare_slices(truth, whole["ji-adf"][INTACT].posterior, slices_of(lesions), n),
        "duplicates": duplicates_of_lesions(lesions, folds),
        "probes": shortcut_probes(grid, lesions, cache_dir, max(32, base.image_size // 2)),
    }
