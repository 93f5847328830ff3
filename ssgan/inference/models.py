"""Trained models at work: class probabilities, scores and samples of every seed of a stack."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssgan import runs
from ssgan.devices import float32_precision
from ssgan.errors import UserError
from ssgan.inference.metrics import (
    distance_to_normal,
    error_percent,
    expected_calibration_error,
    generated_probability,
    negative_log_likelihood,
    softmax,
)
from ssgan.nn.registry import MODELS, latent
from ssgan.nn.stack import Stack
from ssgan.settings.config import Config

__all__ = ["METRICS", "Models", "open_checkpoint", "open_run", "score", "usable"]


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "error": error_percent,
    "nll": negative_log_likelihood,
    "ece": expected_calibration_error,
}


GRID_ROWS = 100
JUDGED_IMAGES, MEASURED_NUMBERS = 1000, 10_000
DISTANCES = ("ks", "wasserstein", "generated_mean", "generated_std")


@dataclass(eq=False)
class Models:
    """S trained pairs, ready to use.

    Attributes
    ----------
    D, G : Stack
        G is None where the method trains no generator.
    averaged : dict of str to Tensor [S, ...]
        D's averaged parameters.
    scale : float
        The stored value of full intensity.
    image_shape : tuple of int
    classes : tuple of str
        None where the GAN has none: its one logit is that of real.
    seeds : list of int
    split_sha256 : list of str
        Hash of the labelled images that each model learned from.
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

    def __post_init__(self) -> None:
        if self.config.unconditional:
            self.classes = ()

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device) -> "Models":
        """Rebuild the networks of a checkpoint and fill in their values, every one of them.

        Raises
        ------
        UserError
            Where something is missing or the tensors are not those of the networks.
        """
        try:
            return cls._from_state(state, device)
        except (KeyError, TypeError, AttributeError) as cause:
            raise UserError(f"The checkpoint holds no trained models ({type(cause).__name__}: {cause}).") from cause

    @classmethod
    def _from_state(cls, state: dict[str, Any], device: torch.device) -> "Models":
        config, image_shape = Config.from_dict(state["config"]), tuple(state["image_shape"])
        pair, classes = MODELS[config.network], tuple(state["classes"])
        with torch.random.fork_rng(devices=[]):
            modules: dict[str, Any] = {"D": pair.discriminator(config, image_shape, config.outputs(len(classes)))}
            if "G" in state["networks"]:
                modules["G"] = pair.generator(config, image_shape)
        stacks, dtype = {}, getattr(torch, config.dtype)
        for name, module in modules.items():
            stacks[name] = Stack([module.to(dtype)] * len(state["seeds"]), device)
            stacks[name].fill(state["networks"][name]["parameters"], state["networks"][name]["buffers"])
        averaged = {k: v.to(device) / state["average"]["mass"] for k, v in state["average"]["sums"].items()}
        if {k: v.shape for k, v in averaged.items()} != {k: v.shape for k, v in stacks["D"].parameters.items()}:
            raise UserError("The averaged parameters of the checkpoint are not those of its discriminator.")
        return cls(
            config=config,
            D=stacks["D"],
            G=stacks.get("G"),
            averaged=averaged,
            scale=state["scale"],
            image_shape=image_shape,
            classes=classes,
            seeds=list(state["seeds"]),
            split_sha256=list(state["split_sha256"]),
        )

    @property
    def finite(self) -> list[bool]:
        """Whether every averaged parameter of each seed is finite: where not, the model diverged."""
        each = torch.stack([v.isfinite().flatten(1).all(dim=1) for v in self.averaged.values()])
        finite: list[bool] = each.all(dim=0).tolist()
        return finite

    def only(self, seeds: Sequence[int]) -> "Models":
        """The models of these seeds, in this order; ``config`` stays that of the whole run."""
        places = [self.seeds.index(seed) for seed in seeds]
        return replace(
            self,
            D=self.D.only(places),
            G=None if self.G is None else self.G.only(places),
            averaged={name: value[places] for name, value in self.averaged.items()},
            seeds=[self.seeds[place] for place in places],
            split_sha256=[self.split_sha256[place] for place in places],
        )

    def logits(self, x: np.ndarray, averaged: bool = True) -> np.ndarray:
        """Logits [S, N, K] of stored images [N, ...], float64; those of a diverged seed are not finite.

        ``averaged`` takes D's averaged parameters, else the last ones.

        Raises
        ------
        UserError
            Where the images are not of the type and shape that the models were trained on.
        """
        kind = np.uint8 if len(self.image_shape) > 1 else np.float32
        x = np.asarray(x)
        if x.dtype != kind or x.shape[1:] != self.image_shape:
            raise UserError(
                f"The images are {x.dtype} of shape {list(x.shape)}, but these models take {np.dtype(kind)} of shape "
                f"[N, {', '.join(map(str, self.image_shape))}], 0 to {self.scale:g}."
            )
        stored = torch.from_numpy(np.require(x, requirements=["C", "W"])).to(next(iter(self.averaged.values())).device)
        images = MODELS[self.config.network].to_input(stored, self.scale, getattr(torch, self.config.dtype))
        with float32_precision(self.config.precision, images.device):
            logits_SNK = self.D.evaluate(images, self.averaged if averaged else None, pick=itemgetter(0))
        return logits_SNK.cpu().double().numpy()

    def probabilities(self, x: np.ndarray, averaged: bool = True) -> np.ndarray:
        """Class probabilities [S, N, K] of stored images [N, ...], given that they are real: see :meth:`logits`."""
        return softmax(self.logits(x, averaged))

    def generated_probability(self, x: np.ndarray, averaged: bool = True) -> np.ndarray:
        """Probability [S, N] that stored images [N, ...] are generated, ``1 / (Z + 1)``: see :meth:`logits`.

        Raises
        ------
        UserError
            Where the models never saw a generated image, so that the number would mean nothing.
        """
        if self.G is None:
            raise UserError(f"These models saw no generated image: method {self.config.method!r} trains no generator.")
        return generated_probability(self.logits(x, averaged))

    def scores(
        self, x: np.ndarray, y: np.ndarray, averaged: bool = True, metrics: Sequence[str] = tuple(METRICS)
    ) -> dict[str, list[float | None]]:
        """Each metric of each seed on labelled images, as :func:`score` gives them.

        None where there are no images, or no classes.
        """
        known = len(x) and not self.config.unconditional
        p_SNK = self.probabilities(x, averaged) if known else np.full((len(self.seeds), 0, 0), np.nan)
        return score(p_SNK, y, metrics)

    def judgements(
        self, x: np.ndarray, seed: int = 0, normal: tuple[float, float] | None = None
    ) -> dict[str, list[float | None]]:
        """How well each D tells real from generated images, as shares from 0 to 1: what stands for an error at K = 1.

        ``accuracy_real`` is the share of stored images [N, ...] with p(real) above one half, None where there are
        none; ``accuracy_fake`` that of 1,000 generated ones, of the noise of ``seed``, with p(real) below it. Those of
        the D that is evaluated, the average, and with ``_raw`` those of the last one.

        Where the data are numbers of a ``normal`` distribution, of this mean and deviation, also how far 10,000
        generated ones are from it, see :func:`distance_to_normal`. All None where a model diverged.
        """
        real = {a: self.logits(x, a) if len(x) else np.zeros((len(self.seeds), 0, 1)) for a in (True, False)}
        fake = self.logits_of_generated(JUDGED_IMAGES, seed)
        shares = {
            f"accuracy_{kind}{'' if averaged else '_raw'}": [_share(right, one) for one in logits_SNK]
            for averaged in (True, False)
            for kind, right, logits_SNK in (("real", np.greater, real[averaged]), ("fake", np.less, fake[averaged]))
        }
        if normal is not None:
            numbers = self.draws(MEASURED_NUMBERS, seed).reshape(len(self.seeds), -1).astype(np.float64)
            found_of = [distance_to_normal(one, *normal) if np.isfinite(one).all() else {} for one in numbers]
            shares |= {name: [found.get(name) for found in found_of] for name in DISTANCES}
        fine = self.finite
        return {name: [s if ok else None for s, ok in zip(found, fine, strict=True)] for name, found in shares.items()}

    def logits_of_generated(self, count: int, seed: int = 0) -> dict[bool, np.ndarray]:
        """Logits [S, count, K] that each D gives the images of its own G, averaged (True) and as it is now (False)."""
        images = self.sample(count, seed)
        found: dict[bool, list[np.ndarray]] = {True: [], False: []}
        for place in range(len(self.seeds)):
            one = self.only(self.seeds[place : place + 1])
            like = next(iter(one.averaged.values()))
            x = MODELS[self.config.network].from_unit(torch.from_numpy(images[place]).to(like))
            with float32_precision(self.config.precision, x.device):
                for averaged, logits in found.items():
                    parameters = one.averaged if averaged else None
                    logits.append(one.D.evaluate(x, parameters, pick=itemgetter(0))[0].cpu().double().numpy())
        return {averaged: np.stack(logits) for averaged, logits in found.items()}

    def ensemble(self, p_SNK: np.ndarray) -> np.ndarray | None:
        """The mean [N, K] of what :meth:`probabilities` gave, without diverged models; None where all diverged.

        Raises
        ------
        UserError
            Where the models have not all learned from the same labelled images: together they would
            have seen more labels than each. Where there is one model only.
        """
        draws = len(set(self.split_sha256))
        if draws > 1:
            raise UserError(
                f"These {len(self.seeds)} models learned from {draws} different draws of labels, so together they have "
                f"seen more labels than each: train them with --draw-seed to make an ensemble."
            )
        if len(self.seeds) < 2:
            raise UserError("This is one model, and an ensemble needs two: train with --seeds 2 or more, --draw-seed.")
        fine = usable(p_SNK)
        return p_SNK[fine].mean(axis=0) if any(fine) else None

    def noise(self, count: int, seed: int = 0) -> Tensor:
        """The first ``count`` latents [count, latent_size] of the fixed noise of ``seed``, on the CPU.

        They are a function of the seed and of size and distribution of the latents alone.
        """
        blocks, generator = -(-count // GRID_ROWS), torch.Generator().manual_seed(seed)
        return torch.cat([latent(self.config, GRID_ROWS, generator=generator) for _ in range(blocks)])[:count]

    def generate(self, z: Tensor, seed: int = 0) -> np.ndarray:
        """Images [S, N, ...] in [0, 1] of latents [N, latent_size], each a function of its latent and ``seed`` alone.

        With batch norm an image depends on its batch-mates: these are then the first 100 latents of the noise of
        ``seed``.

        Raises
        ------
        UserError
            Where the method trained no generator.
        """
        if self.G is None:
            raise UserError(f"These models have no generator: method {self.config.method!r} trains none.")
        G, rows, like = self.G, GRID_ROWS, next(iter(self.averaged.values()))
        # Filled up to whole batches: in another shape of batch the last bits of an image would be others.
        batches = torch.cat([z, z.new_zeros(-len(z) % rows, z.shape[1])]).to(like).split(rows)
        if G.evaluation.needs_mates:
            G, mates = G.with_evaluation(G.evaluation.normed_by_first(rows)), self.noise(rows, seed).to(like)  # type: ignore[operator]
            batches = tuple(torch.cat([mates, batch]) for batch in batches)
        images = torch.cat([G.evaluate(batch, rows=len(batch))[:, -rows:] for batch in batches], dim=1)[:, : len(z)]
        return MODELS[self.config.network].to_unit(images).cpu().numpy()

    def draws(self, count: int, seed: int = 0) -> np.ndarray:
        """Images [S, count, ...] of one batch of so much noise of ``seed``: spread noise then leaves no gaps."""
        return self.generate(latent(self.config, count, generator=torch.Generator().manual_seed(seed)), seed)

    def sample(self, count: int, seed: int = 0) -> np.ndarray:
        """Images [S, count, ...] in [0, 1] of the fixed noise of ``seed``, the same for every model.

        Raises
        ------
        UserError
            Where the method trained no generator.
        """
        return self.generate(self.noise(count, seed), seed)


def _share(right: Callable[[Any, float], Any], logits_NK: np.ndarray) -> float | None:
    """The share of rows whose logsumexp is on the right side of 0; None where there are none, or one is not finite."""
    if not len(logits_NK) or not np.isfinite(logits_NK).all():
        return None
    return float(right(np.logaddexp.reduce(logits_NK, axis=1), 0.0).mean())


def usable(p_SNK: np.ndarray) -> list[bool]:
    """Whether each seed has finite probabilities: a model that diverged has not, nor has one without images."""
    return [len(p_NK) > 0 and bool(np.isfinite(p_NK).all()) for p_NK in p_SNK]


def score(p_SNK: np.ndarray, y_N: np.ndarray, metrics: Sequence[str] = tuple(METRICS)) -> dict[str, list[float | None]]:
    """Each metric of each seed's probabilities; None where they are not usable.

    ``error`` in percent, ``nll`` in nats, ``ece`` from 0 to 1.
    """
    fine = usable(p_SNK)
    return {
        name: [METRICS[name](p, y_N) if ok else None for p, ok in zip(p_SNK, fine, strict=True)] for name in metrics
    }


def open_checkpoint(run: Path, device: torch.device) -> tuple[Models, dict[str, Any]]:
    """The models of the last checkpoint of a run, finished or not, and its whole state.

    Raises
    ------
    UserError
        Where ``run`` is no run folder, has no checkpoint yet, or its files are damaged or not of one run.
    """
    config = runs.read_config(run)
    state = runs.load_checkpoint(run / "checkpoint")
    models = Models.from_state(state, device)
    if models.config.resume_conflicts(config):
        raise UserError(f"The checkpoint and config.json of {run} are not of the same run.")
    return models, state


def open_run(run: Path, device: torch.device) -> tuple[Models, dict[str, Any]]:
    """The models and the report of a finished run.

    Raises
    ------
    UserError
        Where ``run`` is no run folder, did not finish, or its files are damaged or not of one run.
    """
    config, report = runs.read_config(run), runs.read_report(run)
    state = runs.load_checkpoint(run / "checkpoint")
    models = Models.from_state(state, device)
    splits = [row["split_sha256"] for row in report["rows"]]
    if (models.seeds, models.split_sha256) != (report["seeds"], splits) or models.config.resume_conflicts(config):
        raise UserError(f"The checkpoint, config.json and report.json of {run} are not of the same run.")
    return models, report
