"""What the tests share: the parts of a tiny run."""

from types import SimpleNamespace

import pytest

from llm_compiler import (
    LLM,
    DatasetCompiler,
    DatasetSpec,
    OptimizerSpec,
    TokenizerCompiler,
    TokenizerSpec,
    TrainingSpec,
    compile_spec,
)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """A folder of the cache that is only for these tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("LLMC_CACHE", str(folder))
        yield folder


def tiny(**training):
    """Compiled parts of a tiny run; the arguments are fields of the training."""
    dataset = DatasetCompiler().compile(
        DatasetSpec(name="tiny", target_tokens=1_000, domains=["synthetic"], max_length=16)
    )
    tokenizer = TokenizerCompiler().compile(
        TokenizerSpec(type="bpe", vocab_size=32, dataset_hash=dataset.fingerprint())
    )
    model = compile_spec(
        LLM(
            vocab_size=32,
            context_length=16,
            num_layers=1,
            hidden_size=16,
            num_heads=2,
            intermediate_size=32,
        )
    )
    fields = {"batch_size": 4, "microbatch_size": 2, "max_steps": 6}
    fields.update(training)
    spec = TrainingSpec(
        model_hash=model.fingerprint(),
        dataset_hash=dataset.fingerprint(),
        tokenizer_hash=tokenizer.fingerprint(),
        optimizer=OptimizerSpec(type="adamw", lr=1e-3),
        **fields,
    )
    return SimpleNamespace(dataset=dataset, tokenizer=tokenizer, model=model, spec=spec)


def arguments(parts, output_root, **more):
    """Keyword arguments of `run_training`."""
    return dict(
        training_ir=parts.spec.compile(),
        model_ir=parts.model,
        dataset_ir=parts.dataset,
        tokenizer_ir=parts.tokenizer,
        output_root=output_root,
        **more,
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The result of a tiny run."""
    from llm_compiler import run_training

    return run_training(**arguments(tiny(), tmp_path_factory.mktemp("runs"), progress=False))
