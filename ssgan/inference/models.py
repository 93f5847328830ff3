"""Open trained models and compute class probabilities, scores and samples for every seed: :class:`Models`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssgan import runs
from ssgan.data.feature_map import FeatureMap
from ssgan.data.image_io import FULL_DEPTH
from ssgan.data.splits import load as load_splits
from ssgan.devices import own_precision
from ssgan.errors import UserError
from ssgan.inference.checkpoints import check_models
from ssgan.inference.confidence import Confidence
from ssgan.inference.features import picture_features
from ssgan.inference.metrics import distance_to_normal, generated_probability, softmax
from ssgan.inference.scores import METRICS, finite_mask, score
from ssgan.nn.base import WIDTH_AXIS
from ssgan.nn.registry import BLOCK_LATENTS, NETWORK_PAIRS, draw_fixed_latents, draw_latents
from ssgan.nn.stack import EVALUATION_ROWS, Stack, finite_seeds
from ssgan.settings.catalog import NETWORKS
from ssgan.settings.config import Config

__all__ = ["Models", "open_checkpoint", "open_latest", "open_run"]


FEATURE_ROWS = 64  # vectors of features in one pass
LOGITS, FEATURES = 0, 1  # indices of the outputs of D
JUDGED_IMAGES, MEASURED_NUMBERS = 1000, 10_000  # generated images that D judges; numbers compared with a normal
DISTANCES = ("ks", "wasserstein", "generated_mean", "generated_std")


@dataclass(eq=False, repr=False)
class Models:
    """S trained pairs of D and G.

    Attributes
    ----------
    D, G : Stack
        G is None if the method trains no generator.
    averaged : dict of str to Tensor [S, ...]
        D's averaged parameters.
    scale : float
        The stored value of full intensity.
    image_shape : tuple of int
    classes : tuple of str
        Empty for a GAN without classes, whose only logit is that of real.
    seeds : list of int
    split_sha256 : list of str
        Hash of the labelled images of each model.
    feature_map : FeatureMap or None
        The map of models that take features of a backbone. They accept pictures as well as features.
    progress : str
        How far the run has come, as a sentence, if it has not finished.
    confidence : Confidence
        What predictions may say. It is empty for models that were just trained: it comes from the report of a run.
    """

    config: Config
    D: Stack
    G: Stack | None
    averaged: dict[str, Tensor]
    scale: float
    image_shape: tuple[int, ...]
    classes: tuple[str, ...]
    seeds: list[int]
    split_sha256: list[str]
    feature_map: FeatureMap | None = None
    progress: str = ""
    confidence: Confidence = field(default_factory=Confidence)

    def __post_init__(self) -> None:
        if self.config.unconditional:
            self.classes = ()

    def __repr__(self) -> str:
        nets = "D" if self.G is None else "D and G"
        return f"<Models of seeds {', '.join(map(str, self.seeds))}: {nets} of network {self.config.network}>"

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device) -> "Models":
        """Build the networks of a checkpoint and load all of their values.

        Raises
        ------
        UserError
            If something is missing, of another type or range, or does not fit the networks.
        """
        config, stacks, feature_map = check_models(state)
        saved = state["networks"]
        loaded = {
            name: stack.with_values(saved[name]["parameters"], saved[name]["buffers"], device)
            for name, stack in stacks.items()
        }
        sums, mass = state["average"]["sums"], state["average"]["mass"]
        return cls(
            config=config,
            D=loaded["D"],
            G=loaded.get("G"),
            averaged={name: sums[name].to(device) / mass for name in loaded["D"].parameters},
            scale=state["scale"],
            image_shape=tuple(state["image_shape"]),
            classes=tuple(state["classes"]),
            seeds=list(state["seeds"]),
            split_sha256=list(state["split_sha256"]),
            feature_map=feature_map,
        )

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return next(iter(self.averaged.values())).device

    @property
    def finite(self) -> list[bool]:
        """Whether every averaged parameter of each seed is finite; otherwise the model diverged."""
        return [bool(value) for value in finite_seeds(self.averaged.values())]

    def select(self, seeds: Sequence[int]) -> "Models":
        """Return the models of these seeds, in this order; ``config`` stays that of the whole run."""
        indices = [self.seeds.index(seed) for seed in seeds]
        return replace(
            self,
            D=self.D.select(indices),
            G=None if self.G is None else self.G.select(indices),
            averaged={name: value[indices] for name, value in self.averaged.items()},
            seeds=[self.seeds[index] for index in indices],
            split_sha256=[self.split_sha256[index] for index in indices],
            confidence=self.confidence.select(indices),
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image of a user: of a picture if the networks take features."""
        return self.image_shape if self.feature_map is None else self.feature_map.picture_shape

    @property
    def input_scale(self) -> float:
        """The value of full intensity of such images."""
        return self.scale if self.feature_map is None else self.feature_map.picture_scale

    @property
    def input_depth(self) -> int:
        """Bits of full intensity of 16-bit grey pictures."""
        return self.config.image_depth or FULL_DEPTH

    @property
    def bounded(self) -> bool:
        """Whether such images have values from 0 to full intensity."""
        return self.feature_map is not None or not NETWORKS[self.config.network].vectors

    @property
    def flags_outliers(self) -> bool:
        """Whether predictions say how likely an image is generated, and so of none of the classes."""
        return self.G is not None and (self.config.unconditional or not self.confidence.unflagged_reason)

    def logits(self, x: np.ndarray, averaged: bool = True) -> np.ndarray:
        """Compute logits [S, N, K] of stored images [N, ...], float64; those of a diverged seed are not finite.

        Models of features take pictures, whose features they compute, and features [N, D]. With ``averaged``, D's
        averaged parameters are used, otherwise the last ones. With the setting ``test_time_flip`` they are the mean of
        the logits of an image and of its mirror image.

        Raises
        ------
        UserError
            If the images are not of the type and shape that the models were trained on.
        """
        return self._outputs(x, averaged, LOGITS).double().numpy()

    def features(self, x: np.ndarray, averaged: bool = True) -> np.ndarray:
        """Compute the features [S, N, F] of D's last layer, float32, of images as :meth:`logits` takes them.

        They are those of the image itself, also with ``test_time_flip``.
        """
        return self._outputs(x, averaged, FEATURES).float().numpy()

    def _outputs(self, x: np.ndarray, averaged: bool, index: int) -> Tensor:
        """Compute the output of D at an index, [S, N, ...], on the CPU."""
        x = np.asarray(x)
        if self.feature_map is not None and x.shape[1:] != self.image_shape:
            x = picture_features(x, self.feature_map, str(self.device))
        kind = np.uint8 if len(self.image_shape) > 1 else np.float32
        if x.dtype != kind or x.shape[1:] != self.image_shape:
            raise UserError(
                f"The images are {x.dtype} of shape {list(x.shape)}, but these models accept {np.dtype(kind)} of shape "
                f"[N, {', '.join(map(str, self.image_shape))}]{f', 0 to {self.scale:g}' if self.bounded else ''}."
            )
        stored = torch.from_numpy(np.require(x, requirements=["C", "W"]))
        pair, dtype = NETWORK_PAIRS[self.config.network], getattr(torch, self.config.dtype)
        # Passes of features have one size, the last one padded: bits are the same alone and among others.
        has_features = self.feature_map is not None or self.config.network == "features"
        rows, outputs = FEATURE_ROWS if has_features else EVALUATION_ROWS, []
        for block in stored.split(rows):
            images = pair.to_input(block.to(self.device), self.scale, dtype)
            images = F.pad(images, (0, 0, 0, -len(block) % rows)) if has_features else images
            outputs.append(self.judge(images, averaged, index, rows)[:, : len(block)])
        return torch.cat(outputs, dim=1).cpu()

    def judge(self, x: Tensor, averaged: bool = True, index: int = LOGITS, rows: int = EVALUATION_ROWS) -> Tensor:
        """Compute logits [S, N, K], with flips, or features [S, N, F] for inputs of the networks [N, ...]."""
        parameters, pick = self.averaged if averaged else None, itemgetter(index)
        with own_precision(self.config.precision, self.device):
            output: Tensor = self.D.evaluate(x, parameters, rows, pick=pick)
            if self.config.flips_at_test and index == LOGITS:
                output = (output + self.D.evaluate(x.flip(WIDTH_AXIS), parameters, rows, pick=pick)) / 2
        return output

    def probabilities(self, x: np.ndarray, averaged: bool = True) -> np.ndarray:
        """Compute class probabilities [S, N, K] of stored images, given that they are real, without a temperature."""
        return softmax(self.logits(x, averaged))

    def generated_probability(self, x: np.ndarray, averaged: bool = True) -> np.ndarray:
        """Compute the probability [S, N] that stored images [N, ...] are generated, ``1 / (Z + 1)``.

        Raises
        ------
        UserError
            If the models never saw a generated image, so that the number would be meaningless.
        """
        if self.G is None:
            raise UserError(f"These models saw no generated image: {self.config.why_no_generator}.")
        return generated_probability(self.logits(x, averaged))

    def scores(
        self, x: np.ndarray, y: np.ndarray, averaged: bool = True, metrics: Sequence[str] = tuple(METRICS)
    ) -> dict[str, list[float | None]]:
        """Compute each metric of each seed on labelled images, as :func:`score` does.

        None if there are no images or no classes.
        """
        scorable = len(x) and not self.config.unconditional
        p_SNK = self.probabilities(x, averaged) if scorable else np.full((len(self.seeds), 0, 0), np.nan)
        return score(p_SNK, y, metrics)

    def judgements(
        self, x: np.ndarray, seed: int = 0, normal: tuple[float, float] | None = None
    ) -> dict[str, list[float | None]]:
        """Measure how well each D tells real from generated images, which replaces the error of a GAN without classes.

        ``accuracy_real`` is the fraction, 0 to 1, of stored images [N, ...] with p(real) above one half, None if there
        are none; ``accuracy_fake`` that of 1,000 images generated from the noise of ``seed`` with p(real) below one
        half. Both are for the averaged D, and with ``_raw`` for the last one.

        For data from a ``normal`` distribution of this mean and standard deviation, the result also has the distance
        of 10,000 generated numbers from it: see :func:`distance_to_normal`. All are None for a diverged model.
        """
        real = {a: self.logits(x, a) if len(x) else np.zeros((len(self.seeds), 0, 1)) for a in (True, False)}
        fake = self.generated_logits(JUDGED_IMAGES, seed)
        shares = {
            f"accuracy_{kind}{'' if averaged else '_raw'}": [_share(correct, logits_NK) for logits_NK in logits_SNK]
            for averaged in (True, False)
            for kind, correct, logits_SNK in (("real", np.greater, real[averaged]), ("fake", np.less, fake[averaged]))
        }
        if normal is not None:
            numbers = self.sample_batch(MEASURED_NUMBERS, seed).reshape(len(self.seeds), -1).astype(np.float64)
            distances = [distance_to_normal(x_N, *normal) if np.isfinite(x_N).all() else {} for x_N in numbers]
            shares |= {name: [distance.get(name) for distance in distances] for name in DISTANCES}
        finite = self.finite
        return {
            name: [value if ok else None for value, ok in zip(values, finite, strict=True)]
            for name, values in shares.items()
        }

    def generated_logits(self, count: int, seed: int = 0) -> dict[bool, np.ndarray]:
        """Compute the logits [S, count, K] of each D, averaged (True) and last (False), on images of its own G."""
        pair, like = NETWORK_PAIRS[self.config.network], next(iter(self.averaged.values()))
        x_SN = [pair.from_unit(torch.from_numpy(images).to(like)) for images in self.sample(count, seed)]
        models = [self.select([seed]) for seed in self.seeds]
        logits = {a: [one.judge(x, a) for one, x in zip(models, x_SN, strict=True)] for a in (True, False)}
        return {averaged: torch.cat(parts).cpu().double().numpy() for averaged, parts in logits.items()}

    def ensemble(self, p_SNK: np.ndarray) -> np.ndarray | None:
        """Average probabilities [S, N, K] to [N, K], without diverged models; None if all diverged.

        Raises
        ------
        UserError
            If the models learned from different labelled images, because together they have seen more labels
            than each. If there is only one model.
        """
        draws = len(set(self.split_sha256))
        if draws > 1:
            raise UserError(
                f"These {len(self.seeds)} models learned from {draws} different draws of labels, so together they have "
                f"seen more labels than each: train them with --draw-seed to make an ensemble."
            )
        if len(self.seeds) < 2:
            raise UserError("This is one model, and an ensemble needs two: train with --seeds 2 and one --draw-seed.")
        finite = finite_mask(p_SNK)
        return p_SNK[finite].mean(axis=0) if any(finite) else None

    def noise(self, count: int, seed: int = 0) -> Tensor:
        """Draw the first ``count`` latents [count, latent_size] of the fixed noise of ``seed``, on the CPU.

        They depend only on the seed and on the size and distribution of the latents.
        """
        return draw_fixed_latents(self.config, count, seed)

    def generate(self, z: Tensor, seed: int = 0) -> np.ndarray:
        """Generate images [S, N, ...] in [0, 1] from latents [N, latent_size].

        Each image depends only on its latent and ``seed``. If G couples rows at evaluation, by batch norm, the other
        rows of its batch are always the first 100 latents of the noise of ``seed``.

        Raises
        ------
        UserError
            If the method trained no generator.
        """
        if self.G is None:
            raise UserError(f"These models have no generator: {self.config.why_no_generator}.")
        G, rows, like = self.G, BLOCK_LATENTS, next(iter(self.averaged.values()))
        # Padded to whole batches, because the last bits of an image depend on the shape of its batch.
        batches = torch.cat([z, z.new_zeros(-len(z) % rows, z.shape[1])]).to(like).split(rows)
        if G.evaluation.couples_rows_at_evaluation:
            G = G.with_evaluation(G.evaluation.with_reference_rows(rows))  # type: ignore[operator]
            reference = self.noise(rows, seed).to(like)
            batches = tuple(torch.cat([reference, batch]) for batch in batches)
        with own_precision(self.config.precision, self.device):
            parts = [G.evaluate(batch, rows=len(batch))[:, -rows:] for batch in batches]
        return NETWORK_PAIRS[self.config.network].to_unit(torch.cat(parts, dim=1)[:, : len(z)]).cpu().numpy()

    def sample_batch(self, count: int, seed: int = 0) -> np.ndarray:
        """Generate images [S, count, ...] from one draw of latents of ``seed``; spread latents then leave no gaps."""
        return self.generate(draw_latents(self.config, count, generator=torch.Generator().manual_seed(seed)), seed)

    def sample(self, count: int, seed: int = 0) -> np.ndarray:
        """Generate images [S, count, ...] in [0, 1] from the fixed noise of ``seed``, the same for every model.

        Raises
        ------
        UserError
            If the method trained no generator.
        """
        return self.generate(self.noise(count, seed), seed)


def _share(correct: Callable[[Any, float], Any], logits_NK: np.ndarray) -> float | None:
    """Return the fraction of rows whose logsumexp compares correctly with 0; None without rows or finite logits."""
    if not len(logits_NK) or not np.isfinite(logits_NK).all():
        return None
    return float(correct(np.logaddexp.reduce(logits_NK, axis=1), 0.0).mean())


def open_checkpoint(run: Path, device: torch.device) -> tuple[Models, dict[str, Any]]:
    """Open the models of the last checkpoint of a run, finished or not; return them with its whole state.

    Raises
    ------
    UserError
        If ``run`` is not a run folder, has no checkpoint yet, or its files are damaged or of different runs.
    """
    config = runs.read_config(run)
    state = runs.load_checkpoint(run / "checkpoint")
    models = Models.from_state(state, device)
    if models.config.resume_conflicts(config):
        raise UserError(f"The checkpoint and config.json of {run} are not of the same run.")
    return models, state


def open_run(run: Path, device: torch.device) -> tuple[Models, dict[str, Any]]:
    """Open the models of a finished run; return them with its report.

    Raises
    ------
    UserError
        If ``run`` is not a run folder, did not finish, or its files are damaged or of different runs.
    """
    config, report = runs.read_config(run), runs.read_report(run)
    state = runs.load_checkpoint(run / "checkpoint")
    models = Models.from_state(state, device)
    splits = [row["split_sha256"] for row in report["rows"]]
    if (models.seeds, models.split_sha256) != (report["seeds"], splits) or models.config.resume_conflicts(config):
        raise UserError(f"The checkpoint, config.json and report.json of {run} are not of the same run.")
    models.confidence = Confidence.of_report(report)
    return models, report


def open_latest(run: Path, device: torch.device) -> tuple[Models, dict[str, Any]]:
    """Open the models of a run as :func:`open_run` does; if it has not finished, those of its last checkpoint.

    The models then have ``progress``, and the report holds only the few entries that are known.

    Raises
    ------
    UserError
        If ``run`` is not a run folder, has no checkpoint yet, or its files are damaged or of different runs.
    """
    if (run / "report.json").exists():
        return open_run(run, device)
    models, state = open_checkpoint(run, device)
    config = models.config
    images, total = (steps * config.images_per_step for steps in (state["steps_done"], config.steps))
    models.progress = f"{run} has not finished: these are its models after {images:,} of {total:,} images."
    splits = load_splits(run / "split.json")
    if [split.sha256 for split in splits] != models.split_sha256:
        raise UserError(f"The checkpoint and split.json of {run} are not of the same run.")
    report = {
        "dataset": state["dataset"]["name"],
        "dataset_sha256": state["dataset"]["sha256"],
        "labels": len(splits[0].indices),
        "method": config.method,
        "preset": config.preset,
        "seeds": models.seeds,
        "rows": [{"draw_seed": seed} for seed in config.recorded_draw_seeds],
    }
    if (parent := runs.read_parent(run)) is not None:
        report["parent"] = runs.parent_entry(parent)
    models.confidence = Confidence.of_report(report)
    return models, report
