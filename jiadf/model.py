"""A trained JI-ADF for anybody's lesions, one at a time or a table of them.

    >>> import jiadf
    >>> model = jiadf.load_model()  # doctest: +SKIP
    >>> model.predict("arm.jpg", "arm_dermoscope.jpg", age=62, sex="female")  # doctest: +SKIP
    >>> model.predict_table("lesions.csv")  # doctest: +SKIP

:func:`load_model` loads the network that the package brings, or any run of the `finetune` regime.
What a lesion lacks the network is told, as in training with ``modality_dropout``. Not a medical
device: for research and teaching only.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.data.batches import Inputs
from jiadf.data.metadata import MONET_COLUMNS
from jiadf.data.open_image import ImageSource
from jiadf.data.schema import LESION_COLUMNS
from jiadf.submission.lesion_prediction import (
    NOT_A_DEVICE,
    LesionPrediction,
    lesion_prediction,
)
from jiadf.submission.own_images import (
    InputError,
    OwnLesions,
    decode_all,
    make_lesions,
    read_own_images,
)
from jiadf.training.inputs import image_streams, targets
from jiadf.training.predict import Prediction, load_network, predict_inputs, prediction_table
from jiadf.training.run_folder import Run, RunError

PRETRAINED = Path(__file__).parent / "pretrained"
_told: set[str] = set()


def load_model(path: str | Path | None = None, device: str = "auto") -> "Model":
    """Load a trained network: the packaged one, or a finished run of the `finetune` regime.

    The device is ``cpu``, ``cuda``, or ``auto``: a GPU if there is one. A run that is not there or
    cannot take photographs is a `RunError`, a ValueError.
    """
    model = Model(path, device)
    if NOT_A_DEVICE not in _told:
        _told.add(NOT_A_DEVICE)
        print(NOT_A_DEVICE, file=sys.stderr)
    return model


class Model:
    """A trained network; see :func:`load_model`.

    It holds the ``run`` with its ``parameters`` and its metadata ``encoder``, and the ``network``
    in evaluation mode.
    """

    def __init__(self, path: str | Path | None = None, device: str = "auto") -> None:
        self.run = Run(PRETRAINED if path is None else Path(path))
        self.parameters = p = self.run.parameters
        if p.regime != "finetune" or not image_streams(p):
            raise RunError(
                f"{self.run.path}: a {p.regime} run on modalities {p.modalities} takes no "
                "photographs; give one that was trained end to end (regime=finetune) on images."
            )
        self.run.metrics  # noqa: B018 - an unfinished run has none, and is told
        self.encoder = self.run.encoder
        metadata = np.zeros((0, len(self.encoder.columns)), np.float32)
        self.network = load_network(self.run, Inputs({}, metadata, np.zeros(0, int)), device)

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

        The close-up and the dermoscopic image, of which one is enough, are the path of a JPEG or
        PNG, a PIL image, or an array uint8 (H, W, 3), RGB. A large JPEG file is decoded at a
        fraction of its size, as in training; an array of it is not, and can differ a little. The
        age is in years, ``sex`` female or male, ``site`` one of :data:`jiadf.data.schema.SITES`,
        ``skin_tone`` 0 very dark to 5 very light, and ``monet`` holds scores from 0 to 1 by their
        names in :data:`jiadf.data.metadata.MONET_COLUMNS`. A ValueError names every argument that
        cannot be used, and why.
        """
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

        The answer is indexed by ``lesion_id``: eleven probabilities and, if there are any, branch
        weights. What lesions lack is told in a line on standard error. An `InputError`, a
        ValueError, lists every fault of the table and its images.
        """
        own = read_own_images(table, self.parameters.image_size)
        inputs = self.own_inputs(own)
        if lacking := own.lacking():
            told = ", ".join(f"{name} {count}" for name, count in lacking.items())
            print(f"missing, of {len(own.lesions)} lesions: {told}", file=sys.stderr)
        return prediction_table(own.lesions, self.predict_inputs(inputs))

    def predict_lesions(self, lesions: pd.DataFrame) -> pd.DataFrame:
        """Predict a table of :func:`jiadf.data.read.read_lesions`, as :meth:`predict_table` does.

        No cache is read or written.
        """
        return prediction_table(lesions, self.predict_inputs(self.inputs(lesions)))

    def predict_inputs(self, inputs: Inputs) -> Prediction:
        """Run the network over inputs of :meth:`inputs`, or a change of them, in its precision."""
        return predict_inputs(self.network, inputs, self.parameters)

    def inputs(self, lesions: pd.DataFrame) -> Inputs:
        """Return what the network sees of a table of :func:`jiadf.data.read.read_lesions`.

        A lesion whose ``clinical_path`` or ``dermoscopic_path`` is NaN lacks that image.
        """
        sources = {
            name: [None if pd.isna(path) else path for path in lesions[f"{name}_path"]]
            for name in image_streams(self.parameters)
        }
        pixels, missing, failed = decode_all(sources, self.parameters.image_size)
        if failed:
            raise next(iter(failed.values()))
        return self.own_inputs(OwnLesions(lesions, pixels, missing))

    def own_inputs(self, own: OwnLesions) -> Inputs:
        """Return what the network sees of lesions of one's own.

        A ValueError if a lesion has no image that the network reads, or lacks what it cannot do
        without.
        """
        used = image_streams(self.parameters)
        pixels, missing = ({name: of[name] for name in used} for of in (own.pixels, own.missing))
        blind = np.all(list(missing.values()), axis=0)
        if blind.any():
            raise ValueError(
                f"{' and '.join(used)}: this network reads no other image, which {blind.sum()} "
                f"lesions lack, the first {own.lesions.index[blind][0]}; give it, or another run."
            )
        read = [*LESION_COLUMNS, *(MONET_COLUMNS if self.encoder.use_monet else ())]
        missing["metadata"] = own.lesions[read].isna().all(axis=1).to_numpy()
        lacking = [name for name, rows in missing.items() if rows.any()]
        if self.parameters.method != "ji-adf" and lacking:
            raise ValueError(
                f"{', '.join(lacking)}: some lesions lack this, and method "
                f"{self.parameters.method} cannot do without; give it, or a ji-adf run."
            )
        metadata = self.encoder.transform(own.lesions)
        return Inputs(pixels, metadata, targets(own.lesions), missing=missing)
