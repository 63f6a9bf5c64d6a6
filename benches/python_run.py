"""How long `run_training` takes on the ten-step run of 2,608 parameters, in milliseconds.

    python benches/python_run.py [REPEATS]

Every repeat is a whole run in a new folder: data, tokenizer, training, checkpoint, report.
The bar is a median of 20 ms on an idle machine; above it the exit status is 1.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from llm_compiler import (
    LLM,
    DatasetCompiler,
    DatasetSpec,
    OptimizerSpec,
    TokenizerCompiler,
    TokenizerSpec,
    TrainingSpec,
    compile_spec,
    run_training,
)


BAR_MS = 20


def main() -> None:
    """Prints the median, the fastest and the slowest."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    dataset = DatasetCompiler().compile(
        DatasetSpec(
            target_tokens=1_000,
            languages={"en": 1.0},
            domains=["synthetic"],
            min_length=4,
            max_length=16,
        )
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
            activation="relu",
        )
    )
    training = TrainingSpec(
        optimizer=OptimizerSpec(type="adamw", lr=1e-3, weight_decay=0.0),
        batch_size=2,
        microbatch_size=1,
        max_steps=10,
    ).compile()
    times_ms = []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for i in range(repeats):
            begin = time.perf_counter()
            result = run_training(
                training, model, dataset, tokenizer, Path(folder) / str(i), progress=False
            )
            times_ms.append((time.perf_counter() - begin) * 1e3)
            assert result.status == "complete"
    median = statistics.median(times_ms)
    print(
        f"run_training, {model.parameter_count} parameters, 10 steps, {repeats} runs: "
        f"median {median:.2f} ms (bar {BAR_MS}), "
        f"fastest {min(times_ms):.2f} ms, slowest {max(times_ms):.2f} ms"
    )
    sys.exit(median > BAR_MS)


if __name__ == "__main__":
    main()
