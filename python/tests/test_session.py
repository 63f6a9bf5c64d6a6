"""Sessions: tokens as they come, forks, files."""

import threading

import numpy as np
import pytest

from conftest import arguments, tiny
from llm_compiler import CompileError, load_run, run_training


@pytest.fixture(scope="module")
def run(trained):
    return load_run(trained.run)


def test_a_stream_is_the_text_that_run_generates(run):
    expected = run.generate("the", tokens=30, seed=3)
    session = run.session("the")
    stream = session.generate(30, seed=3)
    tokens = list(stream)
    assert "".join(token.text for token in tokens) == expected == stream.text
    assert stream.finish in ("length", "end_of_text")
    assert [token.id for token in tokens] == session.ids[-len(tokens) :]
    assert session.text.endswith(expected) and len(session) == len(session.ids)


def test_leaving_the_loop_keeps_what_came_and_the_session_goes_on(run):
    whole = run.session("the")
    expected = [token.id for token in whole.generate(12, temperature=0.0)]
    session = run.session("the")
    start = len(session)
    for n, _ in enumerate(session.generate(12, temperature=0.0), start=1):
        if n == 5:
            break
    assert session.ids[start:] == expected[:5]
    rest = [token.id for token in session.generate(len(expected) - 5, temperature=0.0)]
    assert expected[:5] + rest == expected


def test_cancel_ends_a_stream_between_tokens(run):
    session = run.session("the")
    stream = session.generate(10_000, temperature=1.0, logit_bias={0: -100.0, 1: -100.0})
    next(stream)
    threading.Thread(target=session.cancel).start()
    n = sum(1 for _ in stream)
    assert n < 9_999 and stream.finish == "cancelled"
    # The next one is not cancelled.
    assert len(list(session.generate(2, logit_bias={0: -100.0, 1: -100.0}))) == 2


def test_many_prompts_at_once_are_what_each_is_alone(run):
    prompts = ["the", "", "a", "and so", "the w"]
    alone = [run.generate(prompt, tokens=12, seed=5) for prompt in prompts]
    for batch in (1, 2, 8):
        assert run.generate_all(prompts, 12, batch=batch, seed=5) == alone
    assert run.generate_all([]) == []


def test_sessions_do_not_see_each_other(run):
    def alone(prompt):
        return [token.id for token in run.session(prompt).generate(8, temperature=0.0)]

    prompts = ["the", "a", "and so"]
    expected = [alone(prompt) for prompt in prompts]
    streams = [run.session(prompt).generate(8, temperature=0.0) for prompt in prompts]
    found = [[], [], []]
    for _ in range(8):
        for ids, stream in zip(found, streams):
            ids.extend(token.id for token in [next(stream, None)] if token)
    assert found == expected


def test_a_fork_goes_its_own_way(run):
    session = run.session("the")
    list(session.generate(3, temperature=0.0))
    fork = session.fork()
    assert fork.ids == session.ids
    fork.append(" a")
    assert fork.ids != session.ids
    before = session.logits()
    assert not np.array_equal(fork.logits(), before)
    assert np.array_equal(session.logits(), before)
    assert np.array_equal(session.logits(), run.logits(session.ids)[-1])


def test_a_saved_session_goes_on_to_the_bit(run, trained, tmp_path):
    session = run.session("the")
    list(session.generate(4, seed=1))
    path = tmp_path / "a.session"
    session.save(path)
    expected = session.logits()
    ids = [token.id for token in session.fork().generate(8, seed=2)]

    other = load_run(trained.run).load_session(path)
    assert other.ids == session.ids
    assert np.array_equal(other.logits(), expected)
    assert [token.id for token in other.generate(8, seed=2)] == ids
    other_path = tmp_path / "b.session"
    run.load_session(path).save(other_path)
    assert other_path.read_bytes() == path.read_bytes()


def test_a_wrong_model_and_a_torn_file_are_named(run, tmp_path):
    path = tmp_path / "a.session"
    run.session("the").save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CompileError, match="torn"):
        run.load_session(path)
    path.write_bytes(b"something else")
    with pytest.raises(CompileError, match="no saved session"):
        run.load_session(path)
    path.write_bytes(whole)
    longer = run_training(**arguments(tiny(max_steps=7), tmp_path / "runs", progress=False))
    with pytest.raises(CompileError, match="saved with the model"):
        load_run(longer.run).load_session(path)


def test_what_is_wrong_is_said(run):
    with pytest.raises(TypeError, match="warmth"):
        run.session("the").generate(3, warmth=1.0)
    with pytest.raises(CompileError):
        run.session("the").generate(3, temperature=-1.0)
    session = run.session("the")
    stream = session.generate(3)
    session.append("x")
    with pytest.raises(RuntimeError, match="elsewhere"):
        next(stream)


def test_a_narrow_cache_is_one_of_its_own(run, tmp_path):
    logits = []
    for dtype in ("f32", "bf16", "int8"):
        session = run.session("the way of", kv_cache_dtype=dtype)
        assert session.kv_cache_dtype == dtype
        expected = [token.id for token in session.generate(9, temperature=0.0)]
        # A fork, a file, and the calls that name no session.
        assert np.array_equal(session.fork().logits(), session.logits())
        session.save(tmp_path / "a.session")
        again = run.load_session(tmp_path / "a.session", kv_cache_dtype=dtype)
        assert np.array_equal(again.logits(), session.logits())
        text = run.generate("the way of", 9, temperature=0.0, kv_cache_dtype=dtype)
        assert run.tokenizer.decode(expected) == text
        assert run.generate_all(["the way of"], 9, temperature=0.0, kv_cache_dtype=dtype) == [text]
        logits.append(run.session("the way of", kv_cache_dtype=dtype).logits())
    wide, half, byte = logits
    assert not np.array_equal(wide, half) and not np.array_equal(half, byte)
    assert np.allclose(wide, half, atol=0.05) and np.allclose(wide, byte, atol=0.05)
    with pytest.raises(CompileError, match="KV cache"):
        run.load_session(tmp_path / "a.session")
    with pytest.raises(ValueError, match="'int8'"):
        run.session(kv_cache_dtype="q8_0")


def test_weights_are_mapped_from_the_cache_or_not_with_the_same_bits(trained, cache):
    mapped, own = load_run(trained.run), load_run(trained.run, mmap=False)
    assert np.array_equal(mapped.session("the").logits(), own.session("the").logits())
    assert mapped.generate_all(["the", "a"], 5) == own.generate_all(["the", "a"], 5)
    assert len(list((cache / "weights").glob("*/block.bin"))) >= 1
    for path, array in own.weights.items():
        assert np.array_equal(mapped.weights[path], array)
