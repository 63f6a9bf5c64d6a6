"""Using a run: arrays in and out, tokenizer, generated text."""

import pickle
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


def test_every_sampling_option_acts(run):
    plain = run.generate("the", tokens=16, seed=3, temperature=1.0, top_k=0)
    greedy = run.generate("the", tokens=16, temperature=0.0)

    def text(**options):
        return run.generate("the", tokens=16, seed=3, temperature=1.0, top_k=0, **options)

    # These two leave only the most likely token.
    assert text(min_p=1.0) == greedy
    assert text(top_p=1e-6) == greedy
    neutral = dict(min_p=0.0, typical_p=1.0, repetition_penalty=1.0, frequency_penalty=0.0)
    assert text(**neutral, presence_penalty=0.0, logit_bias={}) == plain
    # A weight of a thousand decides alone.
    [token] = run.tokenizer.encode("the")[:1]
    piece = run.tokenizer.decode([token])
    assert text(logit_bias={token: 1000.0}) == piece * 16
    assert piece not in text(logit_bias={token: -1000.0}).replace("<unk>", "")
    for name, value in [
        ("typical_p", 0.05),
        ("repetition_penalty", 50.0),
        ("frequency_penalty", 50.0),
        ("presence_penalty", 50.0),
    ]:
        assert text(**{name: value}) != plain, name


@pytest.mark.parametrize(
    "name, value",
    [
        ("temperature", -1.0),
        ("top_p", 0.0),
        ("min_p", 1.5),
        ("typical_p", 0.0),
        ("repetition_penalty", 0.0),
        ("frequency_penalty", float("inf")),
        ("presence_penalty", float("nan")),
        ("logit_bias", {3: float("nan")}),
    ],
)
def test_a_sampling_option_out_of_range_is_named(run, name, value):
    with pytest.raises(CompileError) as caught:
        run.generate("the", tokens=1, **{name: value})
    assert [d["code"] for d in caught.value.diagnostics] == [f"sampling::{name}"]
    assert caught.value.diagnostics[0]["help"]


def test_what_stands_for_files_says_how_to_pass_it_on(run, trained):
    for thing, way in [(run, "load_run"), (run.tokenizer, "load_tokenizer"), (trained, "result.run")]:
        with pytest.raises(TypeError, match=f"cannot be pickled or copied; .*{way}"):
            pickle.dumps(thing)


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(CompileError):
        load_run(tmp_path)


def test_the_average_of_the_weights_is_a_choice(tmp_path, run, trained):
    spec = {"ema": 0.5, "early_stopping": {"patience": 50}, "skip_spikes": {"factor": 1e6}}
    events = []
    averaged = run_training(**arguments(tiny(extra=spec), tmp_path, progress=events.append))
    plain, average = load_run(averaged.run), load_run(averaged.run, ema=True)
    assert all(np.array_equal(w, run.weights[name]) for name, w in plain.weights.items())
    assert any(not np.array_equal(w, average.weights[name]) for name, w in plain.weights.items())
    validations = [e for e in events if e["event"] == "validation"]
    assert validations and all(e["ema_loss"] > 0 for e in validations)
    assert not any(e["is_skipped"] for e in events if e["event"] == "step")
    with pytest.raises(CompileError, match="keeps no moving average"):
        load_run(trained.run, ema=True)
