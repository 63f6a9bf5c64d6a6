from pathlib import Path
import time
from llm_compiler import (DatasetSpec, DatasetCompiler, TokenizerSpec, TokenizerCompiler, LLM, compile_spec,
                          OptimizerSpec, TrainingSpec, run_training)
dataset_ir = DatasetCompiler().compile(DatasetSpec(name="debug_dataset", target_tokens=1_000, languages={"en": 1.0},
                                                   domains=["synthetic"], min_length=4, max_length=16))
tokenizer_ir = TokenizerCompiler().compile(TokenizerSpec(name="debug_tokenizer", type="bpe", vocab_size=32,
                                                         dataset_hash=dataset_ir.fingerprint()))
model_ir = compile_spec(LLM(name="debug-2k-transformer", template="decoder_only", vocab_size=32, context_length=16, num_layers=1,
                            hidden_size=16, num_heads=2, intermediate_size=32, activation="relu", norm="rmsnorm", tie_embeddings=True))
print("Model params:", model_ir.parameter_count)
training_ir = TrainingSpec(name="debug_run", model_hash=model_ir.fingerprint(), dataset_hash=dataset_ir.fingerprint(),
                           tokenizer_hash=tokenizer_ir.fingerprint(), optimizer=OptimizerSpec(type="adamw", lr=1e-3, weight_decay=0.0),
                           batch_size=2, microbatch_size=1, max_steps=10).compile()
t0 = time.perf_counter()
result = run_training(training_ir=training_ir, model_ir=model_ir, dataset_ir=dataset_ir, tokenizer_ir=tokenizer_ir, output_root=Path("runs"))
print(f"{(time.perf_counter() - t0) * 1000:.2f} ms", result.training_hash, result.status)
for k, v in result.artifacts.items(): print(" ", k, "→", v)
print(result.metrics)
for line in result.logs: print(" ", line)
