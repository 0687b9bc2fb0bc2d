"""Linear probe: how well classes can be read off the mean of an encoder's patch tokens."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def linear_probe(
    train: NDArray[np.float64],
    train_labels: NDArray[np.int64],
    test: NDArray[np.float64],
    test_labels: NDArray[np.int64],
    c: float,
    max_iter: int,
) -> tuple[float, bool]:
    """Multinomial logistic regression on standardised features (images, dim).

    Returns held-out accuracy in [0, 1] and whether the optimiser converged. ``c`` is the inverse of the L2 penalty.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=max_iter))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, train_labels)
    converged = bool(model[-1].n_iter_.max() < max_iter)
    return float(model.score(test, test_labels)), converged
