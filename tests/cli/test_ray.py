"""`--engine ray`: a cluster of two nodes that loses one gives the rows of the local engine."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import SETTINGS, grid_of, rows, timeless
from pictures_on_disk import grey, write
from running import ROOT, status_of

from ssgan import clusters, result_rows
from ssgan.compare import ray_engine, runner
from ssgan.compare.grid import Grid
from ssgan.data.dataset import Data
from ssgan.data.feature_cache import compute_features
from ssgan.errors import UserError

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ssgan[ray]")
LONG_SETTINGS = {**SETTINGS, "total_images": 2000, "checkpoint_every_seconds": 0.0}
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
FAST_HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 2,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with one processor each, connected by the address in Ray's environment variable."""
    pytest.importorskip("ray", reason="needs the extra ssgan[ray]")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # for the processes of the nodes
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        nodes = Cluster(
            initialize_head=True,
            head_node_args={**NODE, "include_dashboard": False, "_system_config": FAST_HEALTH_CHECKS},
        )
        nodes.other = nodes.add_node(**NODE)
        patch.setenv("RAY_ADDRESS", nodes.address)
        try:
            with clusters.connect():  # connect once, so that all tests share the node processes
                yield nodes
        finally:
            nodes.shutdown()


@pytest.fixture(scope="module")
def grid(few_digits: Data) -> Grid:
    return grid_of(few_digits, "gan,supervised,svm", settings=LONG_SETTINGS, draw_seed=1)


@pytest.fixture(scope="module")
def local_rows(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    with result_rows.open_row_file(tmp_path_factory.mktemp("local") / "rows.jsonl") as held:
        runner.compare(grid, held)
        return sorted_rows(held.rows)


def sorted_rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows without times, sorted, because tasks finish in any order."""
    return sorted(timeless(found), key=lambda row: (row["method"], row.get("ablation") or "", row["seed"]))


@needs_ray
def test_address_without_cluster_is_refused() -> None:
    """Ray itself would retry for minutes."""
    words = r"^--ray-address is 127\.0\.0\.1:9, but no Ray cluster answers there \("
    with pytest.raises(UserError, match=words), clusters.connect("127.0.0.1:9"):
        pass


@needs_ray
def test_auto_address_without_ray_explains_how_to_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's message names options that ssgan lacks. The test raises it itself: another test may have started Ray."""
    import ray

    def find_none(*_: Any, **__: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance. Please specify it by the --address flag.")

    monkeypatch.setattr(ray, "init", find_none)
    words = r"^--ray-address is auto, but Ray is not running on this machine: start it with `ray start --head`, or name"
    with pytest.raises(UserError, match=words), clusters.connect("auto"):
        pass


@pytest.mark.slow
def test_a_grid_that_loses_a_node_has_the_rows_of_the_local_engine(
    cluster: Any, grid: Grid, local_rows: list[dict[str, Any]]
) -> None:
    """The node is killed while both train; its stack of seeds continues from the checkpoint on the other node."""
    updates: list[Any] = []
    killed: list[int] = []

    def kill() -> None:
        until = time.monotonic() + 60
        while len(list(Path("rows.cells").glob("*/checkpoint"))) < 2 and time.monotonic() < until:
            time.sleep(0.005)
        cluster.remove_node(cluster.other, allow_graceful=False)
        killed.append(len(rows()))

    thread = threading.Thread(target=kill)
    thread.start()
    with result_rows.open_row_file(Path("rows.jsonl")) as held:
        ray_engine.compare_on_ray(grid, held, updates.append)
        thread.join()
        cluster.other = cluster.add_node(**NODE)
        assert sorted_rows(held.rows) == local_rows
        assert runner.plan(grid, held.rows) == []
    assert killed == [0]
    done = [progress for progress in updates if progress.result]
    assert [progress.number for progress in done] == list(range(1, 1 + len(runner.plan(grid, []))))
    assert {path.suffix for path in Path().iterdir()} == {".jsonl", ".cells", ""}  # the token file is removed
    assert all((Path() / row["run"]).is_dir() for row in rows() if "run" in row)


def test_node_without_shared_folder_returns_run_folders_and_samples(
    cluster: Any, few_digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    grid = grid_of(few_digits, "gan", ablate=True)
    with result_rows.open_row_file(Path("local.jsonl")) as held:
        runner.compare(grid, held)
    monkeypatch.setattr(ray_engine, "_token_beside", lambda path: nullcontext(".no-such-file"))
    with result_rows.open_row_file(Path("rows.jsonl")) as held:
        ray_engine.compare_on_ray(grid, held)
    expected = [{k: v.replace("local", "rows", 1) if k in ("run", "samples") else v for k, v in row.items()}
                for row in rows("local.jsonl")]  # fmt: skip
    assert sorted_rows(rows()) == sorted_rows(expected)
    for folder in ("cells", "samples"):
        files = [{str(p.relative_to(f"{name}{folder}")) for p in Path(f"{name}{folder}").rglob("*")}
                 for name in (("local.", "rows.") if folder == "cells" else ("local-", "rows-"))]  # fmt: skip
        assert files[0] == files[1] != set()


def test_failed_cells_and_lost_processes_become_rows(
    cluster: Any, few_digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures are a refused cell, a damaged run folder, and a process that exits."""
    grid = grid_of(few_digits, "gan,supervised,knn", settings={**SETTINGS, "weight_feature_matching": 0.0})
    folder = runner.run_folder(grid, runner.plan(grid, [])[1].config, Path("rows.jsonl"))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{")
    with result_rows.open_row_file(Path("rows.jsonl")) as held:
        ray_engine.compare_on_ray(grid, held)
        failed = {row["method"]: row["failed"] for row in held.rows if row.get("failed")}
        assert failed["gan"].startswith("Every objective of the generator has weight 0")
        assert failed["supervised"].endswith(f"(delete {folder.resolve()} to train it from the beginning).")
        assert [row.get("failed") for row in held.rows if row["method"] == "knn"] == [None] * 2

    def end(data: Data, job: Any) -> None:
        os._exit(1)

    end.__module__ = "__main__"  # so that it is pickled by value
    monkeypatch.setattr(ray_engine, "run_job", end)
    monkeypatch.setattr(ray_engine, "RETRIES", 0)
    with result_rows.open_row_file(Path("lost.jsonl")) as held:
        ray_engine.compare_on_ray(grid_of(few_digits, "knn", settings={}), held)
        assert {row["failed"] for row in held.rows} == {"Its node or process was lost 1 time (WorkerCrashedError)."}


@pytest.mark.slow
def test_ctrl_c_stops_at_a_checkpoint_and_the_same_command_goes_on(cluster: Any, few_digits: Data) -> None:
    settings = {**SETTINGS, "total_images": 200_000, "report_every_images": 3_000, "checkpoint_every_seconds": 0.0}
    grid = grid_of(few_digits, "knn,gan", settings=settings, seeds=[0])
    for path in (Path(f"rows-{attempt}.jsonl") for attempt in range(3)):
        cells = path.with_suffix(".cells")

        def stop(progress: Any, cells: Path = cells) -> None:
            if progress.result:
                until = time.monotonic() + 30
                while not any(cells.glob("gan-*/checkpoint")) and time.monotonic() < until:
                    time.sleep(0.005)
                raise KeyboardInterrupt

        with result_rows.open_row_file(path) as held:
            with pytest.raises(KeyboardInterrupt):
                ray_engine.compare_on_ray(grid, held, stop)
            if len(held.rows) == 2:
                continue  # on a busy machine the training may finish before it is stopped: try again
            assert [row["method"] for row in held.rows] == ["knn"]
            (log,) = cells.glob("gan-*/log.jsonl")
            begun = log.read_bytes()
            ray_engine.compare_on_ray(grid, held)
            assert [row["method"] for row in held.rows] == ["knn", "gan"]
            assert log.read_bytes().startswith(begun)
            return
    pytest.fail("three trainings were over before they were stopped")


@pytest.mark.slow
def test_predictions_are_those_of_the_local_engine(
    cluster: Any, few_digits: Data, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte and in the same order, with unreadable files and an archive among the inputs."""
    small = [f"--set={name}={value}" for name, value in (("total_images", 400), ("batch_size", 20))]
    assert status_of("train", "digits", "--labels", "20", "--device", "cpu", *small, "--out", "run") == 0
    names = [f"pictures/{i:02d}.png" for i in range(40)]
    write(Path(), {name: b"no picture" if i == 3 else grey(i) for i, name in enumerate(names)})
    np.savez("x.npz", x=few_digits.x_test[:30])
    monkeypatch.setattr("ssgan.inference.predict.BATCH_IMAGES", 16)
    command = ["predict", "run", "pictures", "x.npz", "gone.png", names[0], "--probabilities"]
    assert status_of(*command, "--out", "local.csv", "--device", "cpu") == 0
    capsys.readouterr()
    assert status_of(*command, "--out", "ray.csv", "--engine", "ray") == 0
    assert Path("ray.csv").read_bytes() == Path("local.csv").read_bytes()
    assert len(Path("ray.csv").read_text().splitlines()) == 1 + len(names) + 30 + 2
    assert capsys.readouterr().err.count("\n") < 8


@pytest.mark.slow
def test_features_are_those_of_the_local_engine(cluster: Any) -> None:
    from ssgan.inference import features, ray_data

    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra ssgan[pretrained]")
    images = np.random.default_rng(0).integers(0, 256, (150, 40, 40, 3)).astype(np.uint8)
    backbone = features.open_backbone("efficientnet-lite0", 32, "cpu")
    expected = compute_features(images, backbone.features, None, backbone.width)

    def refuse(images: np.ndarray) -> np.ndarray:
        raise AssertionError("computed here")

    updates: list[tuple[int, int]] = []
    compute = ray_data.feature_engine()(backbone, 255.0)
    found = compute_features(images, refuse, None, backbone.width, lambda *n: updates.append(n), remote=compute)
    assert found.tobytes() == expected.tobytes()
    assert updates == [(0, 150), (64, 150), (128, 150), (150, 150)]


def test_node_with_another_version_is_refused(cluster: Any, few_digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssgan.__version__", "0.0.1")
    with result_rows.open_row_file(Path("rows.jsonl")) as held, pytest.raises(UserError) as raised:
        ray_engine.compare_on_ray(grid_of(few_digits, "knn", settings={}), held)
    assert str(raised.value).endswith(
        "but this is ssgan 0.0.1: install the same version on every node of the Ray cluster."
    )
    assert held.rows == []


def test_missing_ray_extra_prints_install_command(mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "find_spec", lambda name: None if name == "ray" else object())
    words = "--engine ray needs ray, which is not installed: pip install 'ssgan[ray]'."
    for command in (["compare", "digits", "--out", "rows.jsonl"], ["predict", "run", "."], ["train", "digits"]):
        assert mistake(*command, "--engine", "ray") == words


def test_invalid_engine_options_are_refused(mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    compare = ["compare", "digits", "--out", "rows.jsonl"]
    assert mistake(*compare, "--engine", "rai") == "--engine is rai, but must be one of local, ray. Did you mean 'ray'?"
    assert mistake(*compare, "--ray-address", "auto") == (
        "--ray-address auto has no effect without --engine ray: add it, or omit --ray-address."
    )
    monkeypatch.setattr(clusters, "find_spec", lambda name: object())
    assert mistake(*compare, "--engine", "ray", "--ray-address", "ray://a:1") == (
        "--ray-address is ray://a:1, but must be HOST:PORT, such as 10.0.0.1:6379, or auto."
    )
    assert mistake("train", "digits", "--engine", "ray", "--out", "run") == (
        "--engine ray computes features of a backbone, and this training has none: omit it, or choose one with "
        "--backbone."
    )


def test_gpus_for_matches_gpus_of_cluster() -> None:
    """``auto`` uses a GPU if the cluster has one; a specific GPU cannot be chosen."""
    few, many = (type("Ray", (), {"cluster_resources": staticmethod(lambda n=n: {"GPU": n})}) for n in (0, 4))
    needed = [[clusters.gpus_for(ray, device) for device in ("cpu", "auto")] for ray in (few, many)]
    assert needed == [[0, 0], [0, 1]]
    assert clusters.gpus_for(many, "cuda") == 1
    with pytest.raises(UserError, match=r"^device is 'cuda', but the Ray cluster has no GPU: choose auto or cpu\.$"):
        clusters.gpus_for(few, "cuda")
    with pytest.raises(UserError, match=r"^device is 'cuda:1', but Ray gives each task its GPU: choose cuda\.$"):
        clusters.gpus_for(many, "cuda:1")
