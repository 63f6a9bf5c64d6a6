"""llm_compiler: one spec becomes a solved, trained, re-executable language model.

Specs are dataclasses (:class:`LLM`, :class:`DatasetSpec`, :class:`TokenizerSpec`,
:class:`OptimizerSpec`, :class:`TrainingSpec`). Compiling one checks it and gives an object with a
``fingerprint()``; :func:`run_training` puts four of them together into a run directory, and
:func:`load_run` reads one, or an export: weights as NumPy arrays, logits, generated text, sessions.

    >>> from llm_compiler import LLM, compile_spec
    >>> model = compile_spec(LLM(target_params="1M", vocab_size=256, context_length=64))
    >>> model.parameter_count  # doctest: +SKIP

What is wrong raises :class:`CompileError`, which holds every problem found.
"""

from collections.abc import Mapping as _Mapping

from . import _native
from ._native import (
    DatasetIR,
    Graph,
    ModelIR,
    Run,
    Session,
    Token,
    Tokenizer,
    TokenizerIR,
    TokenStream,
    TrainingIR,
    TrainingResult,
    load_run,
    load_tokenizer,
)
from .enums import (
    ActivationType,
    AttentionType,
    BackendTarget,
    NormType,
    OptimizerType,
    PositionalEncodingType,
    TokenizerType,
    WeightFormat,
)
from .errors import CompileError, UnknownFieldError
from .specs import (
    LLM,
    DatasetCompiler,
    DatasetSpec,
    OptimizerSpec,
    TokenizerCompiler,
    TokenizerSpec,
    TrainingSpec,
    compile_spec,
)
from .training import run_training

__version__: str = _native.__version__

_Mapping.register(ModelIR)

__all__ = [
    "LLM",
    "ActivationType",
    "AttentionType",
    "BackendTarget",
    "CompileError",
    "DatasetCompiler",
    "DatasetIR",
    "DatasetSpec",
    "Graph",
    "ModelIR",
    "NormType",
    "OptimizerSpec",
    "OptimizerType",
    "PositionalEncodingType",
    "Run",
    "Session",
    "Token",
    "TokenStream",
    "Tokenizer",
    "TokenizerCompiler",
    "TokenizerIR",
    "TokenizerSpec",
    "TokenizerType",
    "TrainingIR",
    "TrainingResult",
    "TrainingSpec",
    "UnknownFieldError",
    "WeightFormat",
    "__version__",
    "compile_spec",
    "load_run",
    "load_tokenizer",
    "run_training",
]
