"""Runs: the documented program, hashes, determinism, threads, Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import arguments, tiny

from llm_compiler import CompileError, TokenizerCompiler, TokenizerSpec, run_training

PROGRAM = Path(__file__).with_name("debug_run.py")


@pytest.fixture
def ctrl_c():
    """Python's own handler of SIGINT, which a shell's background jobs start without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_documented_program_runs_as_it_stands(tmp_path):
    environment = dict(os.environ, PYTHONIOENCODING="utf-8")
    done = subprocess.run(
        [sys.executable, str(PROGRAM)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert "Model params: 2608\n" in done.stdout
    assert " complete\n" in done.stdout
    again = subprocess.run(
        [sys.executable, str(PROGRAM)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert " already_complete\n" in again.stdout


def test_a_result_names_what_is_there(trained):
    assert trained.status == "complete"
    assert len(trained.training_hash) == 64 and len(trained.weights_hash) == 64
    # What was asked, and the run that came of it with the text that was there.
    assert trained.training_hash == tiny().spec.compile().fingerprint()
    assert trained.run.name == trained.run_hash[:16] != trained.training_hash[:16]
    assert all(isinstance(path, Path) and path.exists() for path in trained.artifacts.values())
    assert {"weights", "report", "manifest", "tokenizer", "metrics"} <= set(trained.artifacts)
    metrics = trained.metrics
    assert metrics["steps"] == 6 and len(metrics["losses"]) == 6
    assert metrics["losses"][-1] == metrics["loss"]
    assert metrics["tokens"] > 0
    assert any(line.startswith("step 6: loss") for line in trained.logs)


@pytest.mark.parametrize("section", ["model", "dataset", "tokenizer"])
def test_a_hash_of_another_object_is_an_error(section, tmp_path):
    parts = tiny()
    parts.spec = replace(parts.spec, **{f"{section}_hash": "0" * 64})
    with pytest.raises(CompileError) as caught:
        run_training(**arguments(parts, tmp_path))
    codes = [d["code"] for d in caught.value.diagnostics]
    assert codes == ["spec::hash_mismatch"]
    assert f"training.{section}_hash" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_of_another_dataset_is_one_problem(tmp_path):
    parts = tiny()
    parts.tokenizer = TokenizerCompiler().compile(
        TokenizerSpec(type="bpe", vocab_size=32, dataset_hash="0" * 64)
    )
    parts.spec = replace(parts.spec, tokenizer_hash=parts.tokenizer.fingerprint())
    with pytest.raises(CompileError) as caught:
        run_training(**arguments(parts, tmp_path))
    [d] = caught.value.diagnostics
    assert (d["code"], d["field"]) == ("spec::hash_mismatch", "tokenizer.dataset_hash")
    assert parts.dataset.fingerprint() in d["message"]
    assert d["help"].startswith("pass the dataset") and "[" not in d["help"]


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_are_an_error(threads, tmp_path):
    with pytest.raises(ValueError, match=f"`threads` is {threads}, but must be at least 1"):
        run_training(**arguments(tiny(), tmp_path, threads=threads))


@pytest.mark.parametrize("threads, microbatch", [(1, 1), (2, 1), (2, 2), (1, 4)])
def test_no_thread_or_split_changes_the_weights(threads, microbatch, tmp_path, trained):
    parts = tiny(microbatch_size=microbatch)
    result = run_training(**arguments(parts, tmp_path, threads=threads))
    assert result.weights_hash == trained.weights_hash
    assert result.training_hash == trained.training_hash
    assert result.run_hash == trained.run_hash


def test_other_threads_go_on(tmp_path):
    count, stop = [0], threading.Event()

    def counting():
        while not stop.is_set():
            count[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=counting)
    thread.start()
    while not count[0]:
        time.sleep(0.001)
    try:
        before = count[0]
        run_training(**arguments(tiny(max_steps=300), tmp_path, progress=False, threads=1))
        # A call that held the lock would let the thread in at its two ends only.
        assert count[0] - before > 100
    finally:
        stop.set()
        thread.join()


def test_a_callback_gets_every_event(tmp_path):
    events = []
    run_training(**arguments(tiny(), tmp_path, progress=events.append))
    kinds = [event["event"] for event in events]
    assert kinds[:3] == ["stage"] * 3
    assert kinds.count("step") == 6 and kinds.count("start") == 1
    assert {"validation", "checkpoint"} <= set(kinds)
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == [1, 2, 3, 4, 5, 6]
    assert all(event["loss"] > 0 for event in steps)


@pytest.mark.parametrize("step", [2, 6])
def test_an_error_in_a_callback_stops_the_run_and_comes_out(step, tmp_path):
    def fail(event):
        if event["event"] == "step" and event["step"] == step:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run_training(**arguments(tiny(), tmp_path, progress=fail))
    result = run_training(**arguments(tiny(), tmp_path))
    assert result.status == ("already_complete" if step == 6 else "complete")


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to itself")
def test_ctrl_c_leaves_a_checkpoint_from_which_the_run_goes_on(ctrl_c, tmp_path, trained):
    def interrupt(event):
        if event["event"] == "step" and event["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="stopped after step 3"):
        run_training(**arguments(tiny(), tmp_path, progress=interrupt))
    result = run_training(**arguments(tiny(), tmp_path))
    assert result.status == "complete"
    assert result.weights_hash == trained.weights_hash


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to itself")
@pytest.mark.parametrize("stage", ["dataset", "tokenizer", "rows", "model"])
def test_ctrl_c_between_stages_stops_there(stage, ctrl_c, tmp_path):
    seen = []

    def interrupt(event):
        seen.append(event.get("name", event["event"]))
        if seen[-1] == stage:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match=f"after `{stage}`.*nothing was trained"):
        run_training(**arguments(tiny(), tmp_path, progress=interrupt))
    assert seen[-1] == stage
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_is_an_error_with_its_step(tmp_path):
    parts = tiny()
    parts.spec = replace(parts.spec, optimizer=replace(parts.spec.optimizer, lr=1e30))
    with pytest.raises(CompileError) as caught:
        run_training(**arguments(parts, tmp_path, progress=False))
    (found,) = caught.value.diagnostics
    assert found["code"] == "train::non_finite"
    assert "at step 2" in found["message"] and "documents: " in found["message"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to itself")
def test_ctrl_c_is_seen_without_a_callback(ctrl_c, tmp_path):
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt, match="goes on from there"):
        run_training(**arguments(tiny(max_steps=1_000_000), tmp_path, progress=False))
    timer.join()
