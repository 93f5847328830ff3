"""Train and use models from Python."""

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ssgan.data import datasets
from ssgan.data.dataset import Data, as_data
from ssgan.data.file_tree import expand_user, location_text
from ssgan.data.photographs import backbone_of_photographs
from ssgan.data.splits import Split
from ssgan.data.views import views_for
from ssgan.devices import select
from ssgan.errors import UserError, counted, did_you_mean
from ssgan.files import create_empty_folder
from ssgan.inference.confidence import Confidence
from ssgan.inference.evaluate import evaluate_models, evaluate_run, score_arrays
from ssgan.inference.metrics import generated_probability
from ssgan.inference.models import Models, open_latest
from ssgan.inference.predict import Prediction, choose_models, predict_sources
from ssgan.inference.scored_images import check_finite, list_images, read_images
from ssgan.settings.catalog import check_augmentation, check_image_shape
from ssgan.settings.config import FIELDS, Config
from ssgan.settings.fields import images_of_epochs
from ssgan.settings.options import Options
from ssgan.settings.presets import check_effects, default_preset, resolve, resolve_early, resolve_for_unknown_shape
from ssgan.training import trainer
from ssgan.training.callbacks import log_line
from ssgan.training.experiment import make_report, save_run
from ssgan.training.monitor import Run, TrainingProgress

__all__ = ["OpenedRun", "TrainedRun", "open_run", "train"]

OTHER_WORDS = ("test", "epochs", "data_dir", "labels_csv")  # keywords of `train` that are not settings


class _UsableRun:
    """Predict and evaluate with trained models: base class of :class:`TrainedRun` and :class:`OpenedRun`."""

    models: Models
    config: Config

    @property
    def _facts(self) -> dict[str, Any]:
        """The entries of the report that need no measurement."""
        raise NotImplementedError

    @property
    def name(self) -> Path:
        """The name of the run in messages."""
        raise NotImplementedError

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self.models.classes

    def predict(self, images: Any, seed: int | None = None) -> np.ndarray:
        """Return the name of the most probable class of each image, an array of strings [N].

        Parameters
        ----------
        images : ndarray [N, ...], path, or sequence of paths
            Arrays like those of training; floats from 0 to 1 are accepted too. A path names a picture, a folder or a
            ``.zip`` of pictures, in the order of their names, or an ``.npz``.
        seed : int, optional
            Use only the model of this seed. By default, the probabilities of all that learned from the same labels are
            averaged; if each has its own labels, the first one predicts.

        Raises
        ------
        UserError
            If images do not fit the models or a file cannot be read, and for a GAN without classes.
        """
        p_NK = self.predict_proba(images, seed)
        return np.array(self.classes)[p_NK.argmax(axis=1)]

    def predict_proba(self, images: Any, seed: int | None = None) -> np.ndarray:
        """Return the probabilities of the classes [N, K]; the parameters are those of :meth:`predict`."""
        if not self.classes:
            raise UserError(f"The models of {self.name} have no classes: they are a GAN without labels.")
        p_NK: np.ndarray = self.models.confidence.probabilities(self._logits(images, seed)).mean(axis=0)
        return p_NK

    def predict_files(
        self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], seed: int | None = None
    ) -> Iterator[Prediction]:
        """Predict the pictures of files, folders, zips and ``.npz`` files one by one, in the order of their names.

        A :class:`~ssgan.inference.predict.Prediction` has the fields ``file``, ``label``, ``probability``,
        ``p_generated``, ``note`` and ``probabilities``. For a picture that cannot be read all but ``file`` and ``note``
        are None, and ``note`` says why. ``seed`` and its errors are those of :meth:`predict`.
        """
        models = choose_models(self.models, self._facts["diverged"], self.name, seed).models
        return predict_sources(models, list_images([paths] if isinstance(paths, str | os.PathLike) else paths))

    def outlier_score(self, images: Any, seed: int | None = None) -> np.ndarray:
        """Return the probability that each image is generated, [N]: high for images of none of the classes.

        Raises
        ------
        UserError
            If the method trains no generator.
        """
        if self.models.G is None:
            raise UserError(f"The models of {self.name} have no generator: {self.config.why_no_generator}.")
        p_N: np.ndarray = generated_probability(self._logits(images, seed)).mean(axis=0)
        return p_N

    def _logits(self, images: Any, seed: int | None) -> np.ndarray:
        models = choose_models(self.models, self._facts["diverged"], self.name, seed).models
        return check_finite(models.logits(read_images(images, self.models)))

    def __repr__(self) -> str:
        facts = self._facts
        errors = [error for error in facts["errors"] if error is not None]
        count = len(facts["seeds"])
        words = [facts["method"], counted(facts["labels"], "label"), counted(count, "model")]
        words += [f"test error {np.mean(errors):.2f} %"] if errors else []
        return f"<{type(self).__name__} of {facts['dataset']}: {', '.join(words)}>"


class TrainedRun(_UsableRun, Run):
    """A training that has finished: a :class:`~ssgan.training.monitor.Run` that predicts, evaluates and saves.

    Attributes
    ----------
    source : dict or None
        Source of the data; None for arrays.
    log : list of dict
        The lines of ``log.jsonl``; of a training from a ``state``, those since then.
    """

    source: dict[str, str | None] | None
    log: list[dict[str, Any]]

    @classmethod
    def of(cls, run: Run, source: Mapping[str, str | None] | None, log: Sequence[dict[str, Any]]) -> "TrainedRun":
        """Create one from a run."""
        trained = cls(**{field.name: getattr(run, field.name) for field in dataclasses.fields(run)})
        trained.source, trained.log = None if source is None else dict(source), list(log)
        return trained

    @property
    def name(self) -> Path:
        """The name of the run in messages."""
        return Path("this run")

    @property
    def _facts(self) -> dict[str, Any]:
        """The entries of the report that need no measurement."""
        return {
            "dataset": self.data.name,
            "dataset_sha256": self.data.sha256,
            "labels": len(self.splits[0].indices),
            "method": self.config.method,
            "preset": self.config.preset,
            "seeds": self.seeds,
            "errors": self.errors,
            "diverged": sorted(self.diverged),
            "rows": [{"draw_seed": seed} for seed in self.config.recorded_draw_seeds],
            "source": self.source,
        }

    @cached_property
    def report(self) -> dict[str, Any]:
        """The report of the run as plain types, as ``report.json`` holds it."""
        return make_report(self, self.name, self.source)

    def predict_files(
        self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], seed: int | None = None
    ) -> Iterator[Prediction]:
        """Predict the pictures of files as :class:`OpenedRun` does; the first call measures :attr:`report`."""
        self.models.confidence = Confidence.of_report(self.report)
        return super().predict_files(paths, seed)

    def evaluate(self, data: Any = None, *, ensemble: bool = False) -> dict[str, Any]:
        """Score the models on the test set, or on other data.

        Parameters
        ----------
        data : Data, (images, labels), name or path, optional
            For :class:`Data`, the test set is scored; for a path without one, every labelled picture outside the pool.
        ensemble : bool
            Score the mean of the models' probabilities too.

        Returns
        -------
        dict
            As in :func:`ssgan.inference.evaluate.evaluate_run`.

        Raises
        ------
        UserError
            If there is nothing to score, or it does not fit.
        """
        if isinstance(data, str | os.PathLike):
            pool = self.data.source.x_train
            return evaluate_models(self.models, self._facts, self.name, location_text(data), None, ensemble, pool=pool)
        data = self.data if data is None else data
        return score_arrays(self.models, self._facts, self.name, data, ensemble)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write a run folder, which :func:`open_run` and every command of ``ssgan`` take; return its path.

        Raises
        ------
        UserError
            If the folder exists already and is not empty.
        """
        path = create_empty_folder(expand_user(folder))
        save_run(self, path, self.source, self.log)
        return path


class OpenedRun(_UsableRun):
    """The models of a run folder.

    Attributes
    ----------
    folder : Path
    models : Models
    config : Config
        Every setting of the training.
    seeds : list of int
    errors : list of float or None
        Test error of each model in percent.
    report : dict
        What ``report.json`` holds; for a run that has not finished, the few entries that are known.
    """

    def __init__(self, folder: Path, models: Models, report: dict[str, Any]) -> None:
        self.folder, self.models, self.config, self.report = folder, models, models.config, report
        self.seeds: list[int] = report["seeds"]
        self.errors: list[float | None] = report.get("errors") or [None] * len(self.seeds)

    @property
    def name(self) -> Path:
        """The name of the run in messages."""
        return self.folder

    @property
    def _facts(self) -> dict[str, Any]:
        """The entries of the report that need no measurement."""
        return {"diverged": [], **self.report, "errors": self.errors}

    def evaluate(self, data: Any = None, *, ensemble: bool = False) -> dict[str, Any]:
        """Score the models on the test set of the run's data, or on other data, as :meth:`TrainedRun.evaluate`."""
        if data is None or isinstance(data, str | os.PathLike):
            device = str(self.models.device)
            return evaluate_run(self.folder, None if data is None else location_text(data), None, ensemble, device)
        return score_arrays(self.models, self._facts, self.name, data, ensemble)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Copy the run folder; return the path of the copy.

        Raises
        ------
        UserError
            If the folder exists already and is not empty.
        """
        if expand_user(folder).resolve().is_relative_to(Path(self.folder).resolve()):
            raise UserError(f"{folder} lies in the run {self.folder}: choose a folder elsewhere.")
        if not self.folder.is_dir():
            raise UserError(f"There is no run folder {self.folder} any more.")
        path = create_empty_folder(expand_user(folder))
        shutil.copytree(self.folder, path, dirs_exist_ok=True)
        return path


def train(
    data: Any,
    config: Config | None = None,
    splits: Sequence[Split] | None = None,
    on_report: Callable[[TrainingProgress], None] | None = None,
    state: dict[str, Any] | None = None,
    *,
    test: Any = None,
    preset: str | None = None,
    epochs: float | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    labels_csv: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> TrainedRun:
    """Train a classifier from few labels and many images.

    Parameters
    ----------
    data : str, Path, Data, Dataset or (images, labels)
        A name or path for :func:`ssgan.load`; arrays as :class:`Data` takes them, with -1, None or NaN for unlabelled;
        or a torch ``Dataset`` whose items are (image, label).
    config : Config, optional
        Every setting, instead of a preset; ``settings`` change it.
    splits, on_report, state
        As for :func:`ssgan.training.trainer.train`.
    test : Dataset or (images, labels), optional
        The test set of arrays or of a ``Dataset``.
    preset : str, optional
        The settings to begin from; by default those of ``ssgan train``.
    epochs : float, optional
        Length in passes over the pool, instead of ``total_images``.
    data_dir, labels_csv : path, optional
        Folder of downloaded data sets; a table of labels for a folder without class folders.
    **settings
        Settings by name, such as ``labels=50, seeds=3, method="supervised"``: see ``docs/settings.md``.

    Returns
    -------
    TrainedRun

    Raises
    ------
    UserError
        For an unknown setting, with the closest known one, and if data and settings do not fit.

    Examples
    --------
    >>> import ssgan
    >>> run = ssgan.train("digits", labels=50, total_images=4000, device="cpu")
    >>> run.predict(run.data.x_test[:3]).shape, len(run.classes)
    ((3,), 10)
    """
    if config is not None and not isinstance(config, Config):
        raise UserError(f"config is {config!r}, but must be a Config; give a preset and settings by their names.")
    written = {} if config is None else {"folds": config.folds, "tensorboard": config.tensorboard}
    for word, value in {**written, **settings}.items():
        if word in ("folds", "frames_every_images", "tensorboard") and value:
            raise UserError(f"{word}={value!r} writes into a run folder during training: use `ssgan train --out DIR`.")
        if word not in FIELDS:
            raise UserError(f"Unknown setting {word!r}.{did_you_mean(word, [*FIELDS, *OTHER_WORDS])}")
    if config is not None and preset is not None:
        raise UserError(f"preset={preset!r} cannot be combined with config, which has every setting: omit one of them.")
    if epochs is not None and "total_images" in settings:
        raise UserError("epochs and total_images set the same length twice: omit one.")
    source, named, has_settings = None, None, True
    if isinstance(data, str | os.PathLike):
        if test is not None:
            raise UserError(f"test is for arrays, but {os.fspath(data)} has its own test set: omit test.")
        named, table = location_text(data), None if labels_csv is None else Path(labels_csv)
        if config is None and preset is None and named not in datasets.DATASETS:
            settings = backbone_of_photographs(Path(named), settings).settings
        early = config.replace(**settings) if config is not None else _resolve_early(preset, named, settings)
        data = datasets.load(named, data_dir if data_dir is None else Path(data_dir), Options.of(early, table))
        source = datasets.source_entry(named, data_dir, labels_csv)
    elif data_dir is not None or labels_csv is not None:
        raise UserError("data_dir and labels_csv are for names and paths of data, but data are arrays: omit them.")
    else:
        has_settings = isinstance(data, Data)  # that were used to load it
        data = as_data(data, test)
    if epochs is not None:
        settings["total_images"] = images_of_epochs(epochs, len(data.x_train))
    if config is None:
        backbone = settings.get("backbone")
        own = "tables" if data.unbounded else default_preset(named or data.name, data.image_shape, backbone)
        if (views := views_for(data, preset or own, settings)) is not None:
            settings["augmentation"] = views.augmentation
        config = resolve(preset or own, settings)
    elif settings:
        config = config.replace(**settings)
        check_effects(config, settings)
    if not has_settings:
        # A config of a run on deep pictures has their depth.
        options = Options.of(config if "image_depth" in settings else config.replace(image_depth=None))
        options.refuse_all("the data")
        options.refuse_gaussian("the data")
    if data.image_depth is not None:
        config = config.replace(image_depth=data.image_depth)
    if config.backbone is None:
        check_image_shape(config.network, data.image_shape)
        check_augmentation(config.augmentation, data.image_shape)
    log: list[dict[str, Any]] = []

    def keep_log(progress: TrainingProgress) -> None:
        log.append(log_line(progress))
        if on_report is not None:
            on_report(progress)

    return TrainedRun.of(trainer.train(data, config, splits, keep_log, state), source, log)


def open_run(folder: str | os.PathLike[str], device: str = "auto") -> OpenedRun:
    """Open a run folder of ``ssgan train`` or :meth:`TrainedRun.save`.

    ``config.json``, ``checkpoint`` and ``report.json`` are enough to predict. Of a run that has not finished, without
    ``report.json``, the models of its last checkpoint are used, with ``split.json``.

    Raises
    ------
    UserError
        If it is not a run folder, or its files are damaged or of different runs.

    Examples
    --------
    >>> import ssgan, tempfile
    >>> folder = ssgan.train("digits", labels=20, total_images=200, device="cpu").save(tempfile.mkdtemp())
    >>> ssgan.open_run(folder).config.labels
    20
    """
    path = expand_user(folder).absolute()  # also after the working directory changes
    return OpenedRun(path, *open_latest(path, select(device)))


def _resolve_early(preset: str | None, name: str, settings: Mapping[str, Any]) -> Config:
    """Resolve the settings as far as possible before the data are read: the shape of the images is not known yet."""
    if preset is not None:
        return resolve_early(preset, settings)
    backbone = settings.get("backbone")
    return resolve_for_unknown_shape(lambda shape: resolve_early(default_preset(name, shape, backbone), settings))
