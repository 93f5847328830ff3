"""Two torchrun processes train like one process on the joined batch, and resume after one of them is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import joined_batch
import pytest
import torch
from joined_batch import CASES, ROWS
from resumed_runs import differences, left_by, read_log
from running import RUN_FILES, status_of
from small_configs import tiny

import ssgan
from ssgan import distributed
from ssgan.cli import processes
from ssgan.cli.processes import Outcome
from ssgan.errors import UserError
from ssgan.settings.config import Config
from ssgan.training import interrupts, trainer
from ssgan.training.interrupts import Interrupts
from ssgan.training.setup import check_processes, follow

ROOT = Path(ssgan.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
ENVIRONMENT.pop("COLUMNS", None)  # it would break lines
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TRAIN = [
    *["train", "digits", "--labels", "20", "--device", "cpu", "--out", "run"],
    *["--set", "discriminator_widths=16,8", "--set", "generator_widths=16", "--set", "report_every_images=500"],
    *["--set", "checkpoint_every_seconds=0", "--set", "total_images=5000"],
]


def largest_difference(left: Any, right: Any) -> float:
    """The largest difference of two nested structures of the same form."""
    if isinstance(left, torch.Tensor):
        assert left.shape == right.shape
        return float((left.double() - right.double()).abs().max())
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        return max((largest_difference(left[key], right[key]) for key in left), default=0.0)
    if isinstance(left, list):
        return max((largest_difference(a, b) for a, b in zip(left, right, strict=True)), default=0.0)
    return float(abs(left - right))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have trained each case, and run the command that a later test kills."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, joined_batch.__file__, str(folder), *TRAIN]
    launched = {**ENVIRONMENT, "TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            command, cwd=folder, env={**launched, "RANK": rank}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for rank in ("0", "1")
    ]
    errors = [process.communicate(timeout=120)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0], "".join(errors)[-3000:]
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_on_the_joined_batch(case: str, two: Path) -> None:
    """Weights, moments and averages of D and G, the state of the noise and the means in the log, in float64."""
    one = joined_batch.trained(case)
    first, second = (torch.load(two / f"{[*CASES].index(case)}-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert one["logs"][0].keys() == first["logs"][0].keys()
    assert len(one["logs"]) >= 2
    for name in one:
        assert largest_difference(one[name], first[name]) <= 1e-10, name
    assert differences(first, second) == []


def test_processes_take_disjoint_rows_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shares of two processes together are the batch of one process, with the noise of its rows."""
    x = torch.arange(2.0 * ROWS)[:, None]
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "_count", 2)
        monkeypatch.setattr(distributed, "_rank", rank)
        with distributed.shares_of_batches(ROWS // 2):
            assert distributed.joined_like(x[:ROWS]).shape == x.shape
            shares.append(distributed.own_rows(x).flatten().tolist())
        assert distributed.own_rows(x) is x
        shares[-1] += list(range(100))[distributed.own_slice(ROWS)]
    half = ROWS // 2
    rows = [*range(half), *range(ROWS, ROWS + half), *range(half)]
    assert shares == [rows, [row + half for row in rows]]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"seeds": 2},
            "seeds is 2, but torchrun trains one model with 2 processes: omit seeds, or train without torchrun.",
        ),
        (
            {"folds": 3},
            "folds is 3, but torchrun trains one model with 2 processes: omit folds, or train without torchrun.",
        ),
        (
            {"minibatch_kernels": 4},
            "minibatch_kernels is 4, but minibatch discrimination compares every row of a batch with every other, and "
            "2 processes have a part of the rows each: set minibatch_kernels=0, or train without torchrun.",
        ),
        (
            {"batch_size": 15},
            "batch_size is 15, which 2 processes cannot share evenly: set batch_size to 14 or 16, or start another "
            "number of processes.",
        ),
        (
            {"seed_strategy": "vmap"},
            "seed_strategy is vmap, which is for several models: under torchrun set seed_strategy=auto.",
        ),
        (
            {"compile_losses": True},
            "compile_losses is true, but 2 processes exchange statistics within a loss, which cannot be compiled: set "
            "compile_losses=false.",
        ),
    ],
)
def test_settings_without_an_exact_parallel_form_are_refused(
    settings: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(**settings)
    check_processes(config)
    monkeypatch.setattr(distributed, "_count", 2)
    with pytest.raises(UserError) as refusal:
        check_processes(config)
    assert str(refusal.value) == sentence
    check_processes(tiny())


def test_each_process_gets_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from ssgan.devices import device_name, select

    monkeypatch.setattr(distributed, "_count", 2)
    monkeypatch.setattr(distributed, "_local_rank", 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select("auto").type == "cpu"
    assert device_name(torch.device("cpu")).startswith("2 x ")
    with pytest.raises(UserError, match=r"^device is cuda:0, but torchrun gives each process a GPU of its own"):
        select("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(select(name)) for name in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"^There are more processes than GPUs \(1\) on this machine"):
        select("auto")


def test_joint_outcome_is_the_first_error_with_a_reason() -> None:
    fine, lost = Outcome(0), processes._lost()
    error = Outcome(2, "ssgan: No.")
    assert processes._joint({0: fine, 1: fine}, 2) == fine
    assert processes._joint({0: lost, 1: error}, 2) == error
    assert processes._joint({1: fine, 0: error}, 2) == error
    assert processes._joint({0: lost}, 2) == lost
    assert processes._joint({1: fine}, 2) == lost  # the other was killed at the very end
    assert lost.text == "ssgan: A process of this training has ended unexpectedly: continue with --resume."


def test_only_a_restart_of_the_same_torchrun_resumes_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart after a refusal, because the folder holds another run, must not resume that run."""
    assert not processes.is_restart(None)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match=r"^Under torchrun, name the run folder with --out"):
        processes.is_restart(None)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert not processes.is_restart(tmp_path)
    processes.begin(tmp_path, trains=True)
    assert processes.is_restart(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert not processes.is_restart(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # that of every torchrun without an id
    assert not processes.is_restart(tmp_path)
    processes.begin(tmp_path, trains=True)
    assert processes.is_restart(tmp_path)
    processes.end(tmp_path)
    assert not processes.is_restart(tmp_path)


def test_signal_to_one_process_stops_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [interrupts.agree(wanted) for wanted in (True, False)] == [True, False]
    monkeypatch.setattr(distributed, "_count", 2)
    with interrupts.stop_between_steps(patient=True):
        stop = interrupts.current()
        assert isinstance(stop, Interrupts)
        for others, wanted, agreed, received in (
            (0, False, False, None),
            (1, False, True, None),
            (16, False, True, 15),
        ):
            monkeypatch.setattr(distributed, "largest", lambda own, others=others: max(own, others))
            assert interrupts.agree(wanted) is agreed
            assert stop.received == received


def test_process_without_access_to_the_run_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, config = joined_batch.data_of("images"), Config(labels=6)
    monkeypatch.setattr(trainer, "train", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(UserError, match=r"every machine must reach the same run folder"):
        follow(data, config, tmp_path)


def test_processes_with_other_settings_or_data_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with other seeds, which are not part of the configuration hash; only the device may differ."""
    data, config = joined_batch.data_of("images"), Config(labels=6)
    monkeypatch.setattr(processes, "are_launched", lambda: True)
    numbers: list[int] = []
    monkeypatch.setattr(distributed, "is_same_everywhere", lambda number: numbers.append(number) is None)

    def sent(data: Any, config: Config) -> tuple[int, ...]:
        numbers.clear()
        processes.check_same(data, config)
        return tuple(numbers)

    first = sent(data, config)
    assert len(first) == 2
    assert sent(data, config.replace(device="cpu")) == first
    for other in ({"seed": 1}, {"draw_seed": 1}, {"learning_rate_d": 0.01}, {"evaluate_every_images": 50}):
        assert sent(data, config.replace(**other))[1] != first[1], other
    assert sent(joined_batch.data_of("features"), config)[0] != first[0]
    for same, words in (
        ([False], "different data: give every machine the same files"),
        ([True, False], "different settings: start all of them with the same options"),
    ):
        answers = iter(same)
        monkeypatch.setattr(distributed, "is_same_everywhere", lambda number, answers=answers: next(answers))
        with pytest.raises(UserError, match=words):
            processes.check_same(data, config)


def workers(launcher: int) -> dict[int, int]:
    """The processes that a torchrun has started, by their ranks."""
    ranks = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "environ").read_bytes().split(b"\0") if parent == launcher else []
        except OSError:  # it has ended
            continue
        ranks |= {int(word[5:]): int(folder.name) for word in words if word.startswith(b"RANK=")}
    return ranks


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes of torchrun in /proc")
def test_all_processes_resume_to_the_same_bits_after_one_is_killed(two: Path, tmp_path: Path) -> None:
    """Only one process writes files and prints, before and after the restart."""
    command, run = [*TORCHRUN, "--max-restarts", "1", "-m", "ssgan", *TRAIN], tmp_path / "run"
    with (tmp_path / "errors").open("w+") as errors, (tmp_path / "printed").open("w+") as printed:
        launcher = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=printed, stderr=errors)
        while len(ranks := workers(launcher.pid)) < 2 and launcher.poll() is None:
            time.sleep(0.05)
        while not (run / "checkpoint").exists() and launcher.poll() is None:
            time.sleep(0.001)
        os.kill(ranks[1], signal.SIGKILL)
        assert not (run / "report.json").exists(), "it was over too soon to be killed"
        status = launcher.wait(timeout=120)
        error_text, output_text = (stream.seek(0) or stream.read() for stream in (errors, printed))
    assert status == 0, error_text[-3000:]
    ended = "ssgan: A process of this training has ended unexpectedly: torchrun starts all of them again."
    assert error_text.splitlines().count(ended) == 1
    assert error_text.count("100%") == output_text.count("Run folder: run") == 1
    assert output_text.count("on 2 x ") == 2  # also before the restart
    assert differences(left_by(run), left_by(two / "run")) == []
    assert {path.name for path in run.iterdir() if path.name != ".lock"} == RUN_FILES
    assert [line["step"] for line in read_log(run)] == list(range(5, 51, 5))


def test_refusal_is_printed_once_and_every_process_exits_with_its_status(tmp_path: Path) -> None:
    done = subprocess.run(
        [*TORCHRUN, "-m", "ssgan", *TRAIN, "--seeds", "2"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (1, "")
    ours = [line for line in done.stderr.splitlines() if line.startswith("ssgan: ")]
    assert ours == [
        "ssgan: seeds is 2, but torchrun trains one model with 2 processes: omit seeds, or train without torchrun."
    ]
    assert done.stderr.count("exitcode  : 2 ") == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_an_empty_folder")
def test_torchrun_command_of_the_page_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    """Its options for torchrun are those of the tests above; its options for ssgan are accepted."""
    page = (ROOT / "docs" / "several-processes.md").read_text(encoding="utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith("torchrun "))
    launcher, arguments = line.split(" -m ssgan ")
    assert launcher.split()[1:] == [*TORCHRUN[3:], "--max-restarts", "3"]
    assert status_of(*arguments.split(), "--dry-run") == 0
    assert "labels" in capsys.readouterr().out


def test_commands_other_than_train_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert processes.run_alike(lambda _: pytest.fail("it ran"), ["predict", "run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "ssgan: 2 processes run `ssgan train` and no other command: run it without torchrun."
