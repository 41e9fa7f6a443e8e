"""What a network says of one lesion, as text and as a table in a notebook."""

from dataclasses import dataclass
from html import escape

import pandas as pd
from scipy.special import softmax

from jiadf.data.schema import CLASS_NAMES, CLASSES
from jiadf.training.predict import Prediction

NOT_A_DEVICE = "Not a medical device: for research and teaching only."


@dataclass(frozen=True, repr=False, eq=False)
class LesionPrediction:
    """What the network says of one lesion.

    ``probabilities`` by class code are the paper's equation (6), ``branches`` those of each branch,
    a row a branch, and ``weights`` the gate's, equation (5), None where one head decides;
    ``missing`` is what the lesion lacks, in words.
    """

    probabilities: pd.Series
    branches: pd.DataFrame
    weights: pd.Series | None
    missing: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Code of the most probable class."""
        return str(self.probabilities.idxmax())

    def __repr__(self) -> str:
        first, *others = self.probabilities.sort_values(ascending=False).head(3).items()
        top = f"{first[0]} ({CLASS_NAMES[first[0]]}) {first[1]:.2f}"
        then = ", ".join(f"{code} {value:.2f}" for code, value in others)
        return "\n".join([f"{top}, then {then}", *self._notes()])

    def _repr_html_(self) -> str:
        bar = "display:inline-block;height:.7em;background:currentColor;opacity:.5;width:"
        left = "<td style='text-align:left;min-width:9em'>"
        rows = "".join(
            f"<tr><td><b>{code}</b></td>{left}{escape(CLASS_NAMES[code])}</td>"
            f"<td>{value:.2f}</td>{left}"
            f"<span style='{bar}{8 * value:.2f}em'></span></td></tr>"
            for code, value in self.probabilities.sort_values(ascending=False).items()
        )
        head = "<tr><th></th><th>class</th><th>probability</th><th></th></tr>"
        notes = "<br>".join(map(escape, [*self._notes(), NOT_A_DEVICE]))
        return f"<table>{head}{rows}</table><p>{notes}</p>"

    def _notes(self) -> list[str]:
        """Say the branch weights, and what is missing."""
        notes = []
        if self.weights is not None:
            told = ", ".join(f"{name} {value:.2f}" for name, value in self.weights.items())
            notes.append(f"branch weights: {told}")
        if self.missing:
            notes.append(f"missing: {', '.join(self.missing)}")
        return notes


def lesion_prediction(
    prediction: Prediction, row: int, missing: tuple[str, ...] = ()
) -> LesionPrediction:
    """Take one lesion's row out of a prediction of many."""
    names = list(CLASSES)
    branches = {name: softmax(z[row].astype(float)) for name, z in prediction.logits.items()}
    weights = None
    if prediction.weights is not None:
        weights = pd.Series(prediction.weights[row], list(branches), name="weight")
    posterior = pd.Series(prediction.posterior[row], names, name="probability")
    return LesionPrediction(posterior, pd.DataFrame(branches, names).T, weights, missing)
