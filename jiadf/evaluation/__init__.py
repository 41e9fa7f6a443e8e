"""What predictions are worth: recorded ones, their scores, and the prevalence they are judged at.

:func:`load_predictions` is where a page starts::

    from jiadf.evaluation import load_predictions
    predictions = load_predictions("end_to_end", model="ji-adf")
    accuracy = (predictions.y_prob.argmax(1) == predictions.y_true).mean()
"""

from jiadf.evaluation.predictions import Predictions, load_predictions

__all__ = ["Predictions", "load_predictions"]
