"""Check the labels and scale the tables that the scikit-learn estimator is given. Imports no torch."""

import warnings
from typing import Any

import numpy as np

from ssgan.data.arrays import Labels, is_missing, label_array, split_labels
from ssgan.errors import UserError, counted

__all__ = ["TableScaler", "check_training_labels", "first_seed", "labels_to_score", "plain_labels"]

MOST_QUANTILES = 1000
SEED_LIMIT = 2**31 - 4096
LARGEST_VALUE = 1e100  # of a table
OUTERMOST = {"quantile": 3.0, "standard": 100.0}  # standard deviations to which a table is clipped


def check_training_labels(y: Any, count: int) -> Labels:
    """Return the labels of an estimator's ``fit`` for ``count`` rows, and warn about what they lack.

    Raises
    ------
    UserError
        If they are not of these rows, are continuous, or name fewer than two classes.
    """
    if y is None:
        raise UserError(
            "fit requires y to be passed, but the target y is None: give one label for each row, -1 if it has none."
        )
    from sklearn.utils.validation import column_or_1d

    y = column_or_1d(label_array(y), warn=True)
    if len(y) != count:
        raise UserError(f"y holds {counted(len(y), 'label')}, but there are {counted(count, 'row')} of X.")
    labels = split_labels(y)
    numbers = plain_labels(labels.classes)
    if numbers.dtype.kind == "f" and (numbers != np.rint(numbers)).any():
        raise UserError("Unknown label type: continuous. y holds fractions, but labels are integers or strings.")
    if labels.binary:
        warnings.warn(
            "y holds only -1 and 1, so both are classes and no row is unlabelled; to leave rows unlabelled number "
            "the classes from 0.",
            stacklevel=4,
        )
    if not len(labels.classes):
        raise UserError("Every label is -1 or missing, so there is no class to learn: label some rows.")
    if len(labels.classes) == 1:
        raise UserError(
            f"Every labelled row is of one class, {labels.classes.tolist()[0]!r}: a classifier needs rows of at "
            f"least 2 classes."
        )
    if (labels.indices >= 0).all() and not labels.binary:
        warnings.warn("y contains no unlabeled samples", stacklevel=4)
    return labels


def labels_to_score(y: Any, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels that predictions are compared with, [n], and a mask of the rows that have one, [N].

    None and NaN are missing, and so is -1 unless it is one of the classes.

    Raises
    ------
    UserError
        As :func:`split_labels`.
    """
    from sklearn.utils.validation import column_or_1d

    y = column_or_1d(label_array(y))
    split_labels(y)  # for what it refuses
    has_minus = -1 in classes.tolist()
    known = np.array([not is_missing(label) or (has_minus and label == -1) for label in y.tolist()], bool)
    return plain_labels(y[known]), known


def plain_labels(y: np.ndarray) -> np.ndarray:
    """Return labels of an array of objects in an array of their own type; other arrays unchanged."""
    return np.array(y.tolist()) if y.dtype.kind == "O" else y


def first_seed(random_state: Any) -> int:
    """Return the seed of the first model: an integer unchanged, or one drawn from a generator."""
    from sklearn.utils import check_random_state

    if isinstance(random_state, int | np.integer) and 0 <= random_state <= SEED_LIMIT:
        return int(random_state)
    return int(check_random_state(random_state).randint(SEED_LIMIT))


class TableScaler:
    """Scale the columns of a table to a standard deviation of about 1, and back; constant columns become 0.

    Parameters
    ----------
    kind : {"quantile", "standard"}
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def fit(self, X: np.ndarray) -> "TableScaler":
        """Fit it to rows [n, F]; raise a UserError for values whose squares would overflow."""
        if np.abs(X).max() > LARGEST_VALUE:
            raise UserError(f"X holds {np.abs(X).max():.3g}, which is too large to scale: divide it by a constant.")
        from sklearn.preprocessing import QuantileTransformer, StandardScaler

        self.quantiles = None
        if self.kind == "quantile":
            self.quantiles = QuantileTransformer(
                n_quantiles=min(len(X), MOST_QUANTILES), output_distribution="normal", random_state=0
            ).fit(X)
        self.standard = StandardScaler().fit(self._quantiles_of(X))
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Scale rows [n, F], clipped to 100 standard deviations."""
        return np.clip(self.standard.transform(self._quantiles_of(X)), -OUTERMOST["standard"], OUTERMOST["standard"])

    def inverse_transform(self, rows: np.ndarray) -> np.ndarray:
        """Return scaled rows [n, F] in the units of the table."""
        rows = self.standard.inverse_transform(rows)
        back: np.ndarray = rows if self.quantiles is None else self.quantiles.inverse_transform(rows)
        return back

    def _quantiles_of(self, X: np.ndarray) -> np.ndarray:
        return (
            X
            if self.quantiles is None
            else np.clip(self.quantiles.transform(X), -OUTERMOST["quantile"], OUTERMOST["quantile"])
        )
