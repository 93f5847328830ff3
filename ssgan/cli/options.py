"""Options that several commands share: their types for Typer, and how their values are read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssgan import clusters
from ssgan.cli import terminal
from ssgan.cli.completion import among, complete_run, complete_setting
from ssgan.errors import UserError
from ssgan.settings.catalog import METHOD_NAMES
from ssgan.settings.config import Config
from ssgan.settings.fields import LARGEST_INTEGER
from ssgan.settings.options import BACKBONES, DEFAULT_BACKBONE, Options
from ssgan.settings.presets import PRESETS, parse

if TYPE_CHECKING:
    from ssgan.data.dataset import Data
    from ssgan.inference.features import FeatureEngine

__all__ = [
    "AnySetting",
    "Backbone",
    "DataArgument",
    "DataDir",
    "DataLocation",
    "DataOrRun",
    "DataSetting",
    "Device",
    "EarlierRun",
    "Engine",
    "EngineChoice",
    "Epochs",
    "ImageSize",
    "Json",
    "LabelsCsv",
    "Method",
    "NamedDevice",
    "ParentRun",
    "Preset",
    "RayAddress",
    "RunArgument",
    "Verbose",
    "check_epochs",
    "choose_backbone",
    "choose_views",
    "epochs_to_images",
    "parse_integer",
    "parse_settings",
    "say_without_generator",
]

DATA_NAMES = ("digits", "mnist", "fashion-mnist", "cifar10", "svhn", "gaussian")
DATA_HELP = f"{', '.join(DATA_NAMES)}, a folder or .zip of pictures, or an .npz file."
DEVICES = ("auto", "cpu", "cuda", "mps")
DEVICE_HELP = "auto, cpu, cuda, cuda:N or mps."

DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help=f"The data set: {DATA_HELP}", autocompletion=among(DATA_NAMES))
]
DataOrRun = Annotated[
    str,
    typer.Argument(
        metavar="DATA|RUN",
        help=f"A run folder, or a data set: {DATA_HELP}",
        autocompletion=lambda incomplete: [*among(DATA_NAMES)(incomplete), *complete_run(incomplete)],
    ),
]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder of `ssgan train`.", autocompletion=complete_run)
]
AnySetting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="K=V", help="Any other setting; repeatable.", autocompletion=complete_setting),
]
DataSetting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="K=V", help="image_mode, image_depth, label_words, test_share, ...; repeatable."),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of downloaded data sets. [default: SSGAN_DATA, or the user's cache]")
]
Backbone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"Learn from features of a pretrained network: {', '.join(BACKBONES)}, ...; none: from pixels.",
        autocompletion=among([*BACKBONES, "none"]),
    ),
]
Device = Annotated[str, typer.Option(help=DEVICE_HELP, autocompletion=among(DEVICES))]
#: For commands that train: the default is the device of the preset.
NamedDevice = Annotated[str | None, typer.Option(help=DEVICE_HELP, autocompletion=among(DEVICES))]
Engine = Annotated[
    str,
    typer.Option(
        help="local, or ray: on the processors of a Ray cluster (ssgan[ray]).", autocompletion=among(clusters.ENGINES)
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="A running Ray cluster. [default: RAY_ADDRESS, or one started here]"),
]
Epochs = Annotated[str | None, typer.Option(metavar="E", help="Length in passes over the pool.")]
ImageSize = Annotated[str | None, typer.Option(metavar="PX", help="Resize picture files to squares of PX pixels.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")]
LabelsCsv = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A table of file,label for a folder without class folders.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Also show calibration and diversity: ECE, NLL, ...")]
Preset = Annotated[
    str | None,
    typer.Option(help=f"One of {', '.join(PRESETS)}; default by data set.", autocompletion=among(PRESETS)),
]
Method = Annotated[
    str | None, typer.Option(help=f"One of {', '.join(METHOD_NAMES)}.", autocompletion=among(METHOD_NAMES))
]
EarlierRun = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Settings of an earlier run: its folder or config.json.", autocompletion=complete_run
    ),
]
ParentRun = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="RUN",
        help="Start from the weights and settings of a run.",
        autocompletion=complete_run,
    ),
]


@dataclass(frozen=True, kw_only=True)
class DataLocation:
    """The location of the data of a command.

    Attributes
    ----------
    data : str
        A named data set, a folder, a zip or an .npz file.
    labels_csv : Path or None
        A table of labels for a folder without class folders.
    data_dir : Path or None
        The folder of downloaded data sets; None for the default one.
    """

    data: str
    labels_csv: Path | None = None
    data_dir: Path | None = None

    def __post_init__(self) -> None:
        if self.data and not (self.data.startswith("~") or str(self.labels_csv).startswith("~")):
            return
        from ssgan.data.file_tree import expand_user, location_text

        object.__setattr__(self, "data", location_text(self.data))
        if self.labels_csv is not None:
            object.__setattr__(self, "labels_csv", expand_user(self.labels_csv))

    @property
    def is_named(self) -> bool:
        """Whether it is one of the named data sets, not a file of the user."""
        from ssgan.data.datasets import DATASETS

        return self.data in DATASETS

    def load(self, options: Options, quiet: bool) -> "Data":
        """Load the data, with progress on standard error unless ``quiet``."""
        from ssgan.data import datasets

        with terminal.reading_progress(quiet=quiet) as progress:
            return datasets.load(self.data, self.data_dir, options, progress)

    def holds(self, path: Path) -> bool:
        """Return whether a path lies in the user's folder of pictures, where it would be read as one of them."""
        return not self.is_named and path.resolve().is_relative_to(Path(self.data).resolve())

    def words(self) -> list[str]:
        """Return the options for the location of the data."""
        paths = {"--labels-csv": self.labels_csv, "--data-dir": self.data_dir}
        return [word for option, path in paths.items() if path is not None for word in (option, str(path))]

    def source(self) -> dict[str, str | None]:
        """Return the location with absolute paths, as a run folder keeps it for any locale."""
        from ssgan.data.datasets import source_entry

        return source_entry(self.data, self.data_dir, self.labels_csv)


@dataclass(frozen=True)
class EngineChoice:
    """Where to compute: in this process, or on a Ray cluster; checked on creation.

    Attributes
    ----------
    name : str
        ``local`` or ``ray``.
    address : str or None
        Address of the cluster.

    Raises
    ------
    UserError
        As :func:`ssgan.clusters.check_engine` does.
    """

    name: str = "local"
    address: str | None = None

    def __post_init__(self) -> None:
        clusters.check_engine(self.name, self.address)

    @property
    def is_ray(self) -> bool:
        """Whether it is a Ray cluster."""
        return self.name == "ray"

    def for_features(self) -> "FeatureEngine | None":
        """Return the engine that computes features of a backbone on the cluster; None if this process does."""
        if not self.is_ray:
            return None
        from ssgan.inference import ray_data

        return ray_data.feature_engine(self.address)

    def check_backbone(self, backbone: str | None) -> None:
        """Check the choice for a command that computes only features on a cluster.

        Raises
        ------
        UserError
            If there is no backbone, so that the cluster would have nothing to do.
        """
        if self.is_ray and backbone is None:
            raise UserError(
                "--engine ray computes features of a backbone, and this training has none: omit it, or choose "
                "one with --backbone."
            )


def parse_settings(assignments: Iterable[str] | None, **flags: str | None) -> dict[str, Any]:
    """Parse the values of ``--set`` and of the options that set a setting.

    Parameters
    ----------
    assignments : iterable of str, optional
        Each ``field=value``.
    **flags : str or None
        Text by the name of the setting; None if the option was not given.

    Raises
    ------
    UserError
        For an unknown setting, a value that cannot be read, and a setting that is given twice.
    """
    named = [f"{name}={text}" for name, text in flags.items() if text is not None]
    settings: dict[str, Any] = {}
    for assignment in [*named, *(assignments or [])]:
        name, value = parse(assignment)
        if name in settings:
            raise UserError(f"{name} is set twice, the second time by {assignment}: omit one of the two.")
        settings[name] = value
    return settings


def choose_backbone(
    location: DataLocation,
    settings: Mapping[str, Any],
    quiet: bool,
    subject: str = "the classifier",
    verb: str = "learns from",
) -> dict[str, Any]:
    """Return settings with a backbone for a user's colour photographs, and print it; other settings are unchanged.

    Only called without a preset. A backbone that is set, also ``none``, is unchanged, and so are settings that do not
    work on features, which a line names. If the extra is not installed, a line says what it would improve. ``subject``
    and ``verb`` describe in the message what is done with features.
    """
    if location.is_named:
        return dict(settings)
    from ssgan.data.photographs import backbone_of_photographs

    choice = backbone_of_photographs(Path(location.data), settings)
    words = {
        "": "",
        "not installed": "These are colour photographs. With `pip install 'ssgan[pretrained]'` the classifier would "
        "learn from features of a pretrained network, with far fewer errors.",
        "small": f"These are colour photographs, but at {choice.image_size} px the classifier learns from pixels; "
        f"--image-size 64 or more learns from features of {DEFAULT_BACKBONE}, with far fewer errors.",
        "incompatible": f"These are colour photographs, but {' and '.join(choice.incompatible)} cannot be set "
        f"for features of a pretrained network, so {subject} {verb} pixels.",
        "chosen": f"These are colour photographs, so {subject} {verb} features of {DEFAULT_BACKBONE} at "
        f"{choice.image_size} px; --backbone none {verb} pixels.",
    }[choice.reason]
    if words and not quiet:
        terminal.say(words)
    return choice.settings


def choose_views(
    data: "Data", preset: str, settings: Mapping[str, Any], earlier: Mapping[str, Any], quiet: bool
) -> dict[str, Any]:
    """Return settings with the augmentation that suits the images, and print it; other settings are unchanged.

    Only with a preset for a user's pictures, and if neither these nor the settings of an earlier run name an
    augmentation.
    """
    from ssgan.data.views import views_for

    chosen = views_for(data, preset, {**earlier, **settings})
    if chosen is None:
        return dict(settings)
    if not quiet:
        terminal.say(f"Views: {chosen.augmentation}, for {chosen.kind}; --set augmentation=NAME sets others")
    return {**settings, "augmentation": chosen.augmentation}


def say_without_generator(configs: Iterable[Config | None]) -> None:
    """Print once if the method ``gan`` trains no generator because of the preset for a user's pictures."""
    for config in configs:
        if config is not None and config.preset == "images-fast" and config.method == "gan":
            if not config.trains_generator:
                terminal.say("No generator, which would double the time; --preset images trains one")
            return


def check_epochs(epochs: str | None, settings: Mapping[str, Any]) -> None:
    """Check that ``--epochs`` and ``total_images`` do not both set the length."""
    if epochs is not None and "total_images" in settings:
        images = settings["total_images"]
        raise UserError(f"total_images={images} and --epochs set the same length twice: omit one.")


def epochs_to_images(epochs: str, pool_size: int) -> int:
    """Convert a number of passes over the pool to a number of images."""
    try:
        count = float(epochs) * pool_size
    except ValueError:
        count = float("nan")
    if not 0 < count < float("inf"):
        raise UserError(f"--epochs is {epochs}, but must be a number above 0.")
    if count > LARGEST_INTEGER:
        raise UserError(f"--epochs is {epochs}, which is more images than can be counted: choose fewer.")
    return max(1, round(count))


def parse_integer(option: str, text: str) -> int:
    """Parse the integer that was given to an option."""
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{option} is {text}, but must be an integer.") from None
