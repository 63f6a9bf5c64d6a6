"""Using a run: arrays in and out, tokenizer, generated text."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import arguments, tiny
from llm_compiler import CompileError, load_run, load_tokenizer, run_training


@pytest.fixture(scope="module")
def run(trained):
    return load_run(trained.run)


def test_weights_are_float32_arrays(run, trained):
    weights = run.weights
    assert all(w.dtype == np.float32 and w.flags.writeable for w in weights.values())
    assert sum(w.size for w in weights.values()) == trained.metrics["parameters"]
    again = load_run(trained.artifacts["run"]).weights
    assert all(np.array_equal(w, again[name]) for name, w in weights.items())


def test_text_survives_the_tokenizer(run, trained):
    text = run.tokenizer.decode(run.tokenizer.encode("the"))
    assert text == "the"
    loaded = load_tokenizer(trained.artifacts["tokenizer"].parent)
    assert loaded.encode("the") == run.tokenizer.encode("the")
    assert loaded.vocab_size == len(loaded) <= 32


def test_logits_are_causal_rows(run):
    ids = np.array([1, 5, 9, 3], dtype=np.int64)
    logits = run.logits(ids)
    assert logits.shape == (4, 32) and logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert np.array_equal(run.logits([1, 5]), logits[:2])
    changed = run.logits(np.array([1, 5, 9, 7], dtype=np.int32))
    assert np.array_equal(changed[:3], logits[:3])
    assert not np.array_equal(changed[3], logits[3])


@pytest.mark.parametrize("ids", [[], [32], [0] * 17, [[1, 2]]])
def test_ids_that_do_not_fit_are_refused(run, ids):
    with pytest.raises(ValueError):
        run.logits(np.array(ids, dtype=np.int64))


def test_generation_is_a_function_of_its_arguments(run):
    first = run.generate("the", tokens=12, seed=3)
    assert first == run.generate("the", tokens=12, seed=3)
    greedy = run.generate("the", tokens=12, temperature=0.0)
    assert greedy == run.generate("the", tokens=12, temperature=0.0, seed=9)


def test_the_best_checkpoint_is_loaded(tmp_path):
    more = {"eval_interval": 1, "keep_checkpoints": 1}
    parts = tiny(max_steps=40, schedule={"type": "constant"}, extra=more)
    parts.spec = replace(parts.spec, optimizer=replace(parts.spec.optimizer, lr=1.0))
    losses = {}

    def note(event):
        if event["event"] == "validation":
            losses[event["step"]] = event["loss"]

    result = run_training(**arguments(parts, tmp_path, progress=note))
    best, last = load_run(result.run, best=True), load_run(result.run)
    assert last.step == 40
    assert best.step == min(losses, key=losses.get) < 40
    assert any(not np.array_equal(w, last.weights[name]) for name, w in best.weights.items())


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(CompileError):
        load_run(tmp_path)
