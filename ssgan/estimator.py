"""Train models as a scikit-learn estimator."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted, validate_data

from ssgan.data.arrays import images_to_uint8, to_array
from ssgan.data.dataset import Data
from ssgan.data.estimator_inputs import TableScaler, check_training_labels, first_seed, labels_to_score, plain_labels
from ssgan.data.views import views_for
from ssgan.devices import select
from ssgan.errors import UserError
from ssgan.inference.checkpoints import models_part
from ssgan.inference.models import Models
from ssgan.settings.catalog import METHOD_NAMES, is_picture_shape
from ssgan.settings.config import Config
from ssgan.settings.options import Options
from ssgan.settings.presets import default_preset, resolve
from ssgan.training.monitor import TrainingProgress
from ssgan.training.parent import Parent
from ssgan.training.trainer import train

__all__ = ["SSGANClassifier"]

TABLE_PRESET, SMALL_IMAGE_PRESET = "tables", "small-images"
# Settings that follow from the parameters of the estimator, from X and y, or that need files.
OWN_SETTINGS = {"device", "draw_seed", "folds", "frames_every_images", "labels", "method", "seed", "seeds"}
OWN_SETTINGS |= {"tensorboard", *Options.settings()} - {"image_size"}
WITHOUT_VIEWS = {"augmentation": "none", "weight_pseudo_label": 0.0}  # for images of neither 1 nor 3 channels
LARGEST_NUMBER = 1e6  # largest number in a scaled table


class SSGANClassifier(ClassifierMixin, BaseEstimator):
    """Classify from few labels and many unlabelled rows, by a GAN or another semi-supervised method.

    A table is scaled column by column on all rows, without labels, and learned by a small multilayer perceptron; images
    are learned as ``ssgan train`` does.

    Parameters
    ----------
    method : {"gan", "supervised", "pseudo-label", "pi", "mean-teacher", "vat", "fixmatch"}
        ``"fixmatch"`` needs views of images, which a table does not have.
    n_seeds : int
        Models that are trained from the same labels; the mean of their probabilities predicts.
    preset : str, optional
        The settings to begin from; by default ``"tables"``, ``"images-fast"``, ``"small-images"`` for images below
        17 pixels or with other than 1 or 3 channels, and ``"features"`` with a backbone.
    total_images : int, optional
        Length of training: unlabelled rows that each model sees. Default: that of the preset.
    settings : mapping, optional
        Further settings by name: see ``docs/settings.md``.
    scaling : {"standard", "quantile", None}
        Scaling of the columns of a table: to mean 0 and standard deviation 1; to normal quantiles; none.
    backbone : str, optional
        A frozen pretrained network whose features of images are learned from.
    scale : float, optional
        The value of full intensity of images; by default 255 for integers and 1 for floats.
    random_state : int, RandomState or None
        An integer is the seed of the first model; the others have the next ones.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    verbose : bool
        Print a line at every report.
    warm_start : bool
        Begin the next ``fit`` with the weights of the last one. Classes, columns and networks must be the same.
    callback : callable, optional
        Called with a :class:`~ssgan.training.monitor.TrainingProgress` at every report.

    Attributes
    ----------
    classes_ : ndarray, shape [K]
    transduction_ : ndarray, shape [n]
        The labels given to ``fit``, and for unlabelled rows the predicted ones.
    labeled_iter_ : ndarray of int, shape [n]
        0 for rows with a label, 1 for those that the trained models labelled, as in scikit-learn's
        ``SelfTrainingClassifier``.
    n_features_in_ : int
        Number of columns, or of values in one image.
    feature_names_in_ : ndarray
        Names of the columns, if X was a DataFrame.
    models_ : ssgan.inference.models.Models
        The trained networks that did not diverge.
    config_ : ssgan.settings.config.Config
        Every setting of the training.

    Notes
    -----
    The label -1 means unlabelled, in arrays of objects also None and NaN, in arrays of floats also NaN. If the only
    labels are -1 and 1, both are classes, with a warning.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> y[::2] = -1
    >>> SSGANClassifier(random_state=0, total_images=6400).fit(X, y).predict(X[:1])
    array([0])
    """

    _image_dtype: np.dtype[Any]

    def __init__(
        self,
        method: str = "gan",
        *,
        n_seeds: int = 1,
        preset: str | None = None,
        total_images: int | None = None,
        settings: Mapping[str, Any] | None = None,
        scaling: str | None = "standard",
        backbone: str | None = None,
        scale: float | None = None,
        random_state: Any = None,
        device: str = "auto",
        verbose: bool = False,
        warm_start: bool = False,
        callback: Callable[[TrainingProgress], None] | None = None,
    ) -> None:
        self.method = method
        self.n_seeds = n_seeds
        self.preset = preset
        self.total_images = total_images
        self.settings = settings
        self.scaling = scaling
        self.backbone = backbone
        self.scale = scale
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        self.warm_start = warm_start
        self.callback = callback

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def fit(self, X: Any, y: Any) -> "SSGANClassifier":
        """Train from the labelled and the unlabelled rows.

        Parameters
        ----------
        X : array-like, shape [n, n_features], or images [n, H, W] or [n, H, W, C]
        y : array-like, shape [n]
            Labels, with -1 for unlabelled rows.

        Raises
        ------
        UserError
            A ``ValueError``: if X or y cannot be learned from, or a parameter has an invalid value.
        """
        before = dict(self.__dict__)
        try:
            return self._fit(X, y)
        except BaseException:  # keep the previous fit
            self.__dict__ = before
            raise

    def _fit(self, X: Any, y: Any) -> "SSGANClassifier":
        """Fit, without restoring attributes after an error."""
        shape = getattr(self, "_row_shape", ())  # of the last fit
        X = self._check_rows(X, reset=True)
        labels = check_training_labels(y, len(X))
        warm = self.warm_start and hasattr(self, "models_")
        earlier = self._earlier_models(X, shape, labels.classes) if warm else None
        self.classes_ = labels.classes
        self._fit_scaling(X)
        stored = self._stored(X)
        # "-1" may be a class here. Equal labels of another type keep their names.
        names = earlier.classes if earlier else tuple(f"{k}: {label}" for k, label in enumerate(labels.classes))
        data = Data(stored, labels.indices, stored[:0], labels.indices[:0], names, unbounded=X.ndim == 2)
        self.config_ = self._config(data)
        start = None if earlier is None else Parent.of_models(earlier, self.config_.all_seeds)
        run = train(data, self.config_, on_report=self._on_report, start=start)
        self._keep(run)
        unlabeled = labels.indices < 0
        self.transduction_, self.labeled_iter_ = self.classes_[np.maximum(labels.indices, 0)], unlabeled.astype(int)
        if unlabeled.any():
            p_NK = self.models_.probabilities(stored[unlabeled]).mean(axis=0)
            self.transduction_[unlabeled] = self.classes_[p_NK.argmax(axis=1)]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each row, shape [n]."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the classes, shape [n, K], in the order of ``classes_``."""
        check_is_fitted(self)
        return self.models_.probabilities(self._stored(self._check_rows(X, reset=False))).mean(axis=0)

    def outlier_score(self, X: Any) -> np.ndarray:
        """Return the probability that each row is generated, shape [n]: high for rows unlike those of training.

        Raises
        ------
        UserError
            If the method trains no generator.
        """
        check_is_fitted(self)
        return self.models_.generated_probability(self._stored(self._check_rows(X, reset=False))).mean(axis=0)

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Generate rows in the units of X, or images of its type, shape [n_samples, ...].

        The models take turns, so that each gives an equal number of rows.

        Parameters
        ----------
        n_samples : int
        random_state : int, RandomState or None
            None: that of the training, so that the rows are the same at every call.

        Raises
        ------
        UserError
            If the method trains no generator, or it generates features of a backbone.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, int | np.integer) or n_samples < 1:
            raise UserError(f"n_samples is {n_samples!r}, but must be an integer, at least 1.")
        if (backbone := self.config_.backbone) is not None and self.models_.G is not None:
            raise UserError(f"The generator makes features of {backbone}, which are not images: set backbone=None.")
        seed = self.config_.seed if random_state is None else first_seed(random_state)
        images = self.models_.sample(-(-n_samples // len(self.models_.seeds)), seed)
        rows = images.swapaxes(0, 1).reshape(-1, *images.shape[2:])[:n_samples]
        if self._scaler is not None:
            return self._scaler.inverse_transform(rows.astype(np.float64))
        if rows.ndim == 2:
            return rows
        rows, dtype = rows * self._image_scale, self._image_dtype
        return (rows if self._float_images else np.rint(rows).clip(0, np.iinfo(dtype).max)).astype(dtype)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy over the rows that have a label, 0 to 1.

        Raises
        ------
        UserError
            If no row has a label.
        """
        check_is_fitted(self)
        check_consistent_length(X, y, sample_weight)
        given, known = labels_to_score(y, self.classes_)
        if not known.any():
            raise UserError("No row has a label to compare with: every label is -1 or missing.")
        weights = None if sample_weight is None else np.asarray(sample_weight)[known]
        predicted = plain_labels(self.predict(X)[known])
        return float(accuracy_score(given, predicted, sample_weight=weights))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "models_")

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("models_", None)  # the networks are built again from plain tensors, on any machine
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_state" in state:
            self.models_ = _open_models(self._state, self._finite_seeds, self.device)

    def _earlier_models(self, X: np.ndarray, shape: tuple[int, ...], classes: np.ndarray) -> Models:
        """Return the models of the last fit, if its rows [n, *shape] and classes are those of this one."""
        seeds = len(self._state["seeds"])
        last, now = (self.classes_.tolist(), list(shape), seeds), (classes.tolist(), list(X.shape[1:]), self.n_seeds)
        if last != now:
            raise UserError(
                "warm_start continues from the models of the last fit, of classes {}, rows of shape {} and n_seeds {}, "
                "but these are {}, {} and {}: fit with warm_start=False.".format(*last, *now)
            )
        return _open_models(self._state, self._state["seeds"], self.device)

    def _check_rows(self, X: Any, reset: bool) -> np.ndarray:
        """Return a table as float64 [n, F] or images [n, H, W(, C)], and record or compare its shape."""
        if issparse(X):
            raise UserError(f"X is a sparse {type(X).__name__}; sparse data is not supported: give X.toarray().")
        if not hasattr(X, "shape") or hasattr(X, "detach") or np.ma.is_masked(X):
            X = to_array(X, "X", allow_objects=True)
        if len(X.shape) not in (3, 4):
            X = validate_data(self, X, dtype=np.float64, reset=reset, ensure_min_samples=2 if reset else 1)
        else:
            X = self._check_images(np.asarray(X), reset)
        if reset:
            self._row_shape = X.shape[1:]
        elif X.shape[1:] != self._row_shape:
            raise UserError(
                f"X holds rows of shape {list(X.shape[1:])}, but fit saw {list(self._row_shape)}: give the same shape."
            )
        return X

    def _check_images(self, X: np.ndarray, reset: bool) -> np.ndarray:
        """Check images, and record or compare their type."""
        if X.dtype.kind not in "uif":
            raise UserError(f"X holds images of type {X.dtype}, but they must be integers or floats.")
        if not X.size:
            raise UserError(f"X, of shape {list(X.shape)}, has no pixels.")
        floats = X.dtype.kind == "f"
        if not reset:
            if self.scale is None and getattr(self, "_float_images", floats) != floats:
                raise UserError(
                    f"X holds images of {X.dtype}, but fit saw {self._image_dtype}: their full intensity would differ; "
                    f"give one type, or set scale."
                )
            return X
        if len(X) == 1:
            raise UserError("X holds one image, but at least 2 are needed.")
        self.n_features_in_ = int(np.prod(X.shape[1:]))
        self.__dict__.pop("feature_names_in_", None)
        self._float_images, self._image_dtype = floats, X.dtype
        self._image_scale = self._full_intensity(floats)
        return X

    def _full_intensity(self, floats: bool) -> float:
        """Return the value of full intensity of images."""
        if self.scale is None:
            return 1.0 if floats else 255.0
        if isinstance(self.scale, bool | str) or not np.isfinite(self.scale) or self.scale <= 0:
            raise UserError(f"scale is {self.scale!r}, but must be a finite number above 0.")
        return float(self.scale)

    def _config(self, data: Data) -> Config:
        """Resolve the parameters into every setting of the training."""
        if self.method not in METHOD_NAMES:
            raise UserError(f"method is {self.method!r}, but must be one of {', '.join(METHOD_NAMES)}.")
        if isinstance(self.n_seeds, bool) or not isinstance(self.n_seeds, int | np.integer) or self.n_seeds < 1:
            raise UserError(f"n_seeds is {self.n_seeds!r}, but must be an integer, at least 1.")
        if not isinstance(settings := self.settings or {}, Mapping):
            raise UserError(f"settings is {self.settings!r}, but must be a dict of settings by name, or None.")
        table, shape = data.unbounded, data.image_shape
        if table and self.backbone is not None:
            raise UserError(f"backbone is {self.backbone!r}, which accepts images, but X is a table [n, features].")
        if self.method == "fixmatch" and (table or not is_picture_shape(shape)):
            raise UserError(
                f"method 'fixmatch' compares views of images of 1 or 3 channels, but each row of X is of shape "
                f"{list(shape)}: choose another method."
            )
        overrides: dict[str, Any] = {"labels": None, "method": self.method, "device": self.device}
        overrides |= {"seeds": int(self.n_seeds), "seed": first_seed(self.random_state)}
        if self.total_images is not None:
            if "total_images" in settings:
                raise UserError("total_images and settings['total_images'] set the same length twice: omit one.")
            overrides["total_images"] = self.total_images
        if table:
            overrides["backbone"] = None
        elif self.backbone is not None:
            overrides |= {"backbone": self.backbone, **({"augmentation": "crops"} if self.method == "fixmatch" else {})}
        if own := sorted(OWN_SETTINGS & set(settings)):
            raise UserError(f"settings holds {own[0]}, which is a parameter, follows from y, or needs files: omit it.")
        default = TABLE_PRESET if table else default_preset("", shape, self.backbone)
        preset = self.preset or (SMALL_IMAGE_PRESET if default == "vectors" else default)
        if preset == SMALL_IMAGE_PRESET and not table and not is_picture_shape(shape):
            overrides |= WITHOUT_VIEWS
        overrides |= settings
        if (views := views_for(data, preset, overrides)) is not None:
            overrides["augmentation"] = views.augmentation
        config = resolve(preset, overrides)
        if config.image_size is not None and config.backbone is None:
            raise UserError("settings holds image_size, which has no effect without a backbone: leave it out.")
        return config

    def _fit_scaling(self, X: np.ndarray) -> None:
        """Fit the scaling of the columns of a table, without labels."""
        self._scaler: TableScaler | None = None
        if self.scaling not in ("standard", "quantile", None):
            raise UserError(f"scaling is {self.scaling!r}, but must be 'standard', 'quantile' or None.")
        if X.ndim == 2 and self.scaling is not None:
            self._scaler = TableScaler(self.scaling).fit(X)

    def _stored(self, X: np.ndarray) -> np.ndarray:
        """Return rows as the networks take them: scaled float32 [n, F], or uint8 images of full intensity 255."""
        if X.ndim == 2:
            rows = X if self._scaler is None else self._scaler.transform(X)
            if np.abs(rows).max() > LARGEST_NUMBER:
                raise UserError(f"X holds {np.abs(X).max():.3g}, which is too large: set scaling='standard'.")
            return rows.astype(np.float32)
        return images_to_uint8(X, self._image_scale, "X")

    def _on_report(self, progress: TrainingProgress) -> None:
        if self.verbose:
            step = f"step {progress.step:,} of {progress.steps:,}, {progress.seconds_left:.0f} s left"
            print(f"[SSGANClassifier] {step}", flush=True)
        if self.callback is not None:
            self.callback(progress)

    def _keep(self, run: Any) -> None:
        """Keep the models that did not diverge, and the plain tensors that they are made of."""
        is_whole = dict(zip(run.seeds, run.models.finite, strict=True))
        finite = [seed for seed in run.seeds if is_whole[seed] and seed not in run.diverged]
        if not finite:
            raise UserError(
                "Every model diverged, so there is none to predict with: set lower learning rates with "
                "settings={'learning_rate_d': ..., 'learning_rate_g': ...}."
            )
        if len(finite) < len(run.seeds):
            lost = ", ".join(str(seed) for seed in run.seeds if seed not in finite)
            warnings.warn(f"Diverged and left out: seed {lost}.", ConvergenceWarning, stacklevel=4)
        self._state = models_part(run.state())
        self._finite_seeds = finite
        self.models_ = run.models.select(finite)


def _open_models(state: Mapping[str, Any], seeds: list[int], device: str) -> Models:
    """Build models from plain tensors; on the CPU if the device of the training is not available."""
    try:
        place = select(device)
    except UserError:
        place = torch.device("cpu")
    return Models.from_state(dict(state), place).select(seeds)
