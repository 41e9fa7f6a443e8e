"""A trained JI-ADF for anybody's lesions, one at a time or a table of them.

    >>> import jiadf
    >>> model = jiadf.load_model()  # doctest: +SKIP
    >>> model.predict("arm.jpg", "arm_dermoscope.jpg", age=62, sex="female")  # doctest: +SKIP
    >>> model.predict_table("lesions.csv")  # doctest: +SKIP

:func:`load_model` loads the network that the package brings, or any run of the `finetune` regime.
What a lesion lacks the network is told, as in training with ``modality_dropout``. Not a medical
device: for research and teaching only.
"""

import difflib
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import log_softmax, logsumexp

from jiadf.config import Parameters
from jiadf.data.batches import Inputs, LesionDataset
from jiadf.data.image_cache import decode
from jiadf.data.metadata import MONET_COLUMNS, MetadataEncoder
from jiadf.data.open_image import ImageSource
from jiadf.data.schema import LESION_COLUMNS
from jiadf.submission.ensemble import turned
from jiadf.submission.lesion_prediction import (
    NOT_A_DEVICE,
    LesionPrediction,
    lesion_prediction,
)
from jiadf.submission.own_images import InputError, OwnLesions, make_lesions, read_own_images
from jiadf.training.inputs import image_streams, resolve_device, resolve_precision, targets
from jiadf.training.network import build_network, load_weights
from jiadf.training.predict import Prediction, prediction_table
from jiadf.training.run_folder import Run, RunError

PRETRAINED = Path(__file__).parent / "pretrained"
_CHUNK = 256  # lesions whose images are decoded at a time
_told: set[str] = set()


def load_model(path: str | Path | None = None, device: str = "auto") -> "Model":
    """Load a trained network.

    Parameters
    ----------
    path
        Folder of a finished run of the `finetune` regime; the packaged one if None.
    device
        ``cpu``, ``cuda``, or ``auto``: a GPU if there is one.

    Raises
    ------
    jiadf.training.run_folder.RunError
        A ValueError, if there is no such run, or it cannot take photographs.
    """
    model = Model(path, device)
    if NOT_A_DEVICE not in _told:
        _told.add(NOT_A_DEVICE)
        print(NOT_A_DEVICE, file=sys.stderr)
    return model


def pretrained_path() -> Path:
    """Return the run folder that the package brings, or raise `run_folder.RunError`."""
    if not (Run(PRETRAINED).finished and (PRETRAINED / "model.safetensors").exists()):
        raise RunError(
            f"this installation of jiadf brings no trained model ({PRETRAINED}): install the "
            "package again, or name a run folder of your own, trained with regime=finetune."
        )
    return PRETRAINED


class Model:
    """A trained network with its metadata encoder; see :func:`load_model`.

    Attributes
    ----------
    run
        The run folder.
    parameters
        The run's parameters.
    encoder
        Its fitted metadata encoder.
    network
        The network, in evaluation mode, on ``device``.
    device
        Where it computes.
    """

    def __init__(self, path: str | Path | None = None, device: str = "auto") -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device is {device!r}; it must be auto, cpu or cuda.")
        self.run = Run(pretrained_path() if path is None else Path(path))
        self.parameters: Parameters = self.run.parameters
        if self.parameters.regime != "finetune" or not image_streams(self.parameters):
            raise RunError(
                f"{self.run.path}: a {self.parameters.regime} run on modalities "
                f"{self.parameters.modalities} takes no photographs; give one that was trained "
                "end to end (regime=finetune) on images."
            )
        self.run.text("metrics.json")  # an unfinished run has none, and is told
        source = self.run.path / "encoder.json"
        self.encoder = MetadataEncoder.from_json(self.run.text("encoder.json"), source)
        self.device = torch.device(resolve_device(device))
        widths = Inputs({}, np.zeros((0, len(self.encoder.columns)), np.float32), np.zeros(0, int))
        network = build_network(self.parameters, widths, pretrained=False)
        load_weights(network, self.run.weights(), str(self.run.path))
        self.network = network.to(self.device).eval()

    def __repr__(self) -> str:
        return f"Model({self.run.path}: {self.description})"

    @property
    def description(self) -> str:
        """Method, backbone and resolution in words."""
        p = self.parameters
        return f"{p.method}, {p.backbone} at {p.image_size} pixels"

    def predict(
        self,
        clinical: ImageSource | None = None,
        dermoscopic: ImageSource | None = None,
        *,
        age: float | None = None,
        sex: str | None = None,
        site: str | None = None,
        skin_tone: int | None = None,
        monet: Mapping[str, float] | None = None,
    ) -> LesionPrediction:
        """Predict one lesion; whatever is not given is missing, which the network is told.

        Parameters
        ----------
        clinical, dermoscopic
            The close-up and the dermoscopic image, at least one of them: the path of a JPEG or
            PNG, a PIL image, or an array uint8 (H, W, 3), RGB. A large JPEG file is decoded at a
            fraction of its size, as in training; an array of it is not, and can differ a little.
        age
            In years.
        sex
            ``female`` or ``male``.
        site
            One of :data:`jiadf.data.schema.SITES`.
        skin_tone
            0 very dark to 5 very light.
        monet
            MONET scores by their names in :data:`jiadf.data.metadata.MONET_COLUMNS`, 0 to 1.

        Raises
        ------
        ValueError
            Naming every argument that cannot be used, and why.
        """
        if clinical is None and dermoscopic is None:
            raise ValueError("clinical and dermoscopic are both None; give at least one image.")
        for name in set(monet or {}) - set(MONET_COLUMNS):
            near = difflib.get_close_matches(str(name), MONET_COLUMNS, n=1, cutoff=0.0)[0]
            raise ValueError(f"monet: there is no score {name!r}; did you mean {near!r}?")
        cells = {"clinical": clinical, "dermoscopic": dermoscopic, "age": age, "sex": sex}
        cells |= {"site": site, "skin_tone": skin_tone, **(monet or {})}
        try:
            own = make_lesions({1: cells}, list(cells), self.parameters.image_size, "arguments")
            prediction = self.predict_inputs(self.own_inputs(own))
        except InputError as error:
            told = [f"{fault.message}. Remedy: {fault.remedy}." for fault in error.faults]
            raise ValueError("\n".join(told)) from None
        return lesion_prediction(prediction, 0, tuple(own.lacking()))

    def predict_table(self, table: str | os.PathLike | pd.DataFrame) -> pd.DataFrame:
        """Predict the lesions of a CSV or DataFrame, as `submission.own_images` describes it.

        What lesions lack is told in a line on standard error.

        Returns
        -------
        DataFrame
            Indexed by ``lesion_id``: eleven probabilities and, if there are any, branch weights.

        Raises
        ------
        jiadf.submission.own_images.InputError
            A ValueError with every fault of the table and its images.
        """
        own = read_own_images(table, self.parameters.image_size)
        inputs = self.own_inputs(own)
        if lacking := own.lacking():
            told = ", ".join(f"{name} {count}" for name, count in lacking.items())
            print(f"missing, of {len(own.lesions)} lesions: {told}", file=sys.stderr)
        return prediction_table(own.lesions, self.predict_inputs(inputs))

    def predict_lesions(self, lesions: pd.DataFrame) -> pd.DataFrame:
        """Predict a table of :func:`jiadf.data.read.read_lesions`; no cache is read or written.

        Returns
        -------
        DataFrame
            As of :meth:`predict_table`.
        """
        starts = range(0, len(lesions), _CHUNK)
        chunks = [lesions.iloc[start : start + _CHUNK] for start in starts]
        tables = [prediction_table(part, self.predict_inputs(self.inputs(part))) for part in chunks]
        return pd.concat(tables).set_axis(lesions.index)

    def inputs(self, lesions: pd.DataFrame) -> Inputs:
        """Return what the network sees of a table of :func:`jiadf.data.read.read_lesions`.

        A lesion whose ``clinical_path`` or ``dermoscopic_path`` is NaN lacks that image.
        """
        size = self.parameters.image_size
        pixels, missing = {}, {}
        with ThreadPoolExecutor() as pool:
            for name in image_streams(self.parameters):
                paths = lesions[f"{name}_path"]
                missing[name] = paths.isna().to_numpy()
                pixels[name] = np.zeros((len(paths), size, size, 3), np.uint8)
                decoded = pool.map(lambda path: decode(path, size), paths.dropna())
                for row, image in zip(np.flatnonzero(~missing[name]), decoded, strict=True):
                    pixels[name][row] = image
        return self._inputs(lesions, pixels, missing)

    def predict_inputs(self, inputs: Inputs) -> Prediction:
        """Run the network over inputs of :meth:`inputs`, or a change of them, in its precision.

        Returns
        -------
        jiadf.training.predict.Prediction
            Means over the run's ``prediction_views`` of the posterior, of each branch's posterior
            (as logits) and of the weights. Branches are those that the gate mixes, over their
            temperatures if it learned any.
        """
        views = [self._predict_view(inputs, v) for v in range(self.parameters.prediction_views)]
        if len(views) == 1:
            return views[0]

        def mean(logarithms: list[np.ndarray]) -> np.ndarray:
            return logsumexp(log_softmax(logarithms, axis=-1), axis=0) - np.log(len(views))

        return Prediction(
            mean([view.log_posterior for view in views]),
            {name: mean([view.logits[name] for view in views]) for name in views[0].logits},
            None if views[0].weights is None else np.mean([v.weights for v in views], axis=0),
        )

    @torch.inference_mode()
    def _predict_view(self, inputs: Inputs, view: int) -> Prediction:
        """Run the network over one turned view of all images."""
        if view:
            streams = {name: turned(array, view) for name, array in inputs.streams.items()}
            inputs = replace(inputs, streams=streams)
        precision = resolve_precision(self.parameters, self.device.type)
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        data = LesionDataset(inputs, np.arange(len(inputs)))
        parts: dict[str, list[torch.Tensor]] = {}
        for start in range(0, len(data), self.parameters.batch_size):
            items = list(range(start, min(start + self.parameters.batch_size, len(data))))
            batch = {name: t.to(self.device) for name, t in data.__getitems__(items).items()}
            with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
                output = self.network(batch)
            logits = output.logits
            if output.mixed is not None:
                logits = dict(zip(logits, output.mixed.unbind(1), strict=True))
            values = {"log_posterior": output.log_posterior, "weights": output.weights}
            for name, value in (values | {f"logits.{n}": v for n, v in logits.items()}).items():
                if value is not None:
                    parts.setdefault(name, []).append(value)
        whole = {name: torch.cat(values).float().cpu().numpy() for name, values in parts.items()}
        logits = {n.removeprefix("logits."): v for n, v in whole.items() if n.startswith("logits.")}
        return Prediction(whole["log_posterior"], logits, whole.get("weights"))

    def own_inputs(self, own: OwnLesions) -> Inputs:
        """Return what the network sees of lesions of one's own.

        Raises
        ------
        ValueError
            If a lesion has no image that the network reads, or lacks what it cannot do without.
        """
        used = image_streams(self.parameters)
        inputs = self._inputs(
            own.lesions,
            {name: own.pixels[name] for name in used},
            {name: own.missing[name] for name in used},
        )
        blind = np.all([own.missing[name] for name in used], axis=0)
        if blind.any():
            raise ValueError(
                f"{' and '.join(used)}: this network reads no other image, which {blind.sum()} "
                f"lesions lack, the first {own.lesions.index[blind][0]}; give it, or another run."
            )
        lacking = [name for name, rows in inputs.missing.items() if rows.any()]
        if self.parameters.method != "ji-adf" and lacking:
            raise ValueError(
                f"{', '.join(lacking)}: some lesions lack this, and method "
                f"{self.parameters.method} cannot do without; give it, or a ji-adf run."
            )
        return inputs

    def _inputs(
        self,
        lesions: pd.DataFrame,
        pixels: Mapping[str, np.ndarray],
        missing: Mapping[str, np.ndarray],
    ) -> Inputs:
        read = [*LESION_COLUMNS, *(MONET_COLUMNS if self.encoder.use_monet else ())]
        none = lesions[read].isna().all(axis=1).to_numpy()
        metadata = self.encoder.transform(lesions)
        return Inputs(pixels, metadata, targets(lesions), missing={**missing, "metadata": none})
