"""Specs: what is asked for, as dataclasses.

A field that stays ``None`` is not written into the spec; the compiler then chooses its value and
records the rule (``solution.json``). Names and meanings are those of the TOML spec (docs/spec.md).
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from enum import Enum
from typing import Any, Dict, List, Mapping, Optional, Sequence, Type, TypeVar, Union

from . import _native
from .errors import UnknownFieldError

#: A dimension: a number, or bounds such as ``{"min": 512, "multiple_of": 64}``.
Dim = Union[int, Mapping[str, int]]


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "__fspath__"):
        return value.__fspath__()
    return value


def _fields(spec: Any) -> Dict[str, Any]:
    """The fields that were written, as plain data; ``extra`` is merged in."""
    out: Dict[str, Any] = {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if field.name == "extra":
            out.update(_plain(value or {}))
        elif value is not None:
            out[field.name] = _plain(value)
    return out


class _Spec:
    """What all specs share."""

    def to_dict(self) -> Dict[str, Any]:
        """The written fields as plain data."""
        return _fields(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Any:
        """The spec from plain data; fields without an attribute of their own go to ``extra``."""
        names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        known = {key: value for key, value in data.items() if key in names and key != "extra"}
        extra = {key: value for key, value in data.items() if key not in names}
        return cls(**known, extra=extra or None)  # type: ignore[call-arg]


_T = TypeVar("_T")


def _checked(cls: Type[_T]) -> Type[_T]:
    """The dataclass with an ``__init__`` that answers an unknown keyword with the nearest name."""
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    init = cls.__init__

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **fields: Any) -> None:
        unknown = [name for name in fields if name not in names]
        if unknown:
            raise UnknownFieldError([_unknown(cls.__name__, name, names) for name in unknown])
        init(self, *args, **fields)

    cls.__init__ = checked  # type: ignore[method-assign]
    return cls


def _unknown(kind: str, name: str, names: List[str]) -> Dict[str, Any]:
    near = _native.nearest(name, names)
    return {
        "code": "spec::unknown_key",
        "severity": "error",
        "message": f"`{kind}` has no field `{name}`",
        "file": None,
        "line": None,
        "column": None,
        "help": f"did you mean `{near}`?"
        if near
        else f"its fields are {', '.join(names)}; other fields of the spec (docs/spec.md) go into `extra`",
        "field": None,
        "labels": [],
    }


def _expect(spec: Any, kind: type, caller: str) -> None:
    if isinstance(spec, kind):
        return
    name = kind.__name__
    hint = f"; make one with `{name}.from_dict(...)`" if isinstance(spec, Mapping) else ""
    raise TypeError(f"{caller} takes a {name}, not {type(spec).__name__}{hint}")


@_checked
@dataclass
class LLM(_Spec):
    """A model: architecture and dimensions, explicit, bounded or free with ``target_params``."""

    name: Optional[str] = None
    template: Optional[str] = None
    target_params: Optional[Union[int, str]] = None
    explicit_dims: Optional[Mapping[str, int]] = None
    vocab_size: Optional[Dim] = None
    context_length: Optional[Dim] = None
    num_layers: Optional[Dim] = None
    hidden_size: Optional[Dim] = None
    num_heads: Optional[Dim] = None
    num_kv_heads: Optional[Dim] = None
    head_dim: Optional[Dim] = None
    intermediate_size: Optional[Dim] = None
    attention: Optional[str] = None
    sliding_window_size: Optional[int] = None
    norm: Optional[str] = None
    norm_eps: Optional[float] = None
    activation: Optional[str] = None
    positional_encoding: Optional[str] = None
    rope_theta: Optional[float] = None
    rope_scaling: Optional[Mapping[str, Any]] = None
    tie_embeddings: Optional[bool] = None
    bias: Optional[Union[bool, Mapping[str, bool]]] = None
    dropout: Optional[Union[float, Mapping[str, float]]] = None
    precision: Optional[str] = None
    extra: Optional[Mapping[str, Any]] = None


@_checked
@dataclass
class DatasetSpec(_Spec):
    """A dataset: files, or a generated corpus."""

    name: Optional[str] = None
    paths: Optional[Sequence[Any]] = None
    target_tokens: Optional[int] = None
    languages: Optional[Mapping[str, float]] = None
    domains: Optional[Sequence[str]] = None
    min_length: Optional[int] = None
    max_length: Optional[int] = None
    deduplicate: Optional[str] = None
    validation_fraction: Optional[float] = None
    seed: Optional[int] = None
    extra: Optional[Mapping[str, Any]] = None


@_checked
@dataclass
class TokenizerSpec(_Spec):
    """A tokenizer, trained on the dataset of this fingerprint."""

    name: Optional[str] = None
    type: Optional[str] = None
    vocab_size: Optional[int] = None
    dataset_hash: Optional[str] = None
    min_frequency: Optional[int] = None
    special_tokens: Optional[Mapping[str, Any]] = None
    extra: Optional[Mapping[str, Any]] = None


@_checked
@dataclass
class OptimizerSpec(_Spec):
    """An optimizer."""

    type: Optional[str] = None
    lr: Optional[float] = None
    weight_decay: Optional[float] = None
    beta1: Optional[float] = None
    beta2: Optional[float] = None
    eps: Optional[float] = None
    momentum: Optional[float] = None
    ns_steps: Optional[int] = None
    max_grad_norm: Optional[float] = None
    extra: Optional[Mapping[str, Any]] = None


@_checked
@dataclass
class TrainingSpec(_Spec):
    """A training run over a model, a dataset and a tokenizer, named by their fingerprints."""

    name: Optional[str] = None
    model_hash: Optional[str] = None
    dataset_hash: Optional[str] = None
    tokenizer_hash: Optional[str] = None
    optimizer: Optional[OptimizerSpec] = None
    batch_size: Optional[int] = None
    microbatch_size: Optional[int] = None
    sequence_length: Optional[int] = None
    max_steps: Optional[int] = None
    schedule: Optional[Mapping[str, Any]] = None
    seed: Optional[int] = None
    threads: Optional[int] = None
    extra: Optional[Mapping[str, Any]] = None

    def compile(self) -> "_native.TrainingIR":
        """Checks every field. Raises :class:`CompileError` with all diagnostics."""
        fields = self.to_dict()
        optimizer = fields.pop("optimizer", {})
        return _native.compile_training(fields, optimizer)


class DatasetCompiler:
    """Checks a dataset spec; the text itself is built when something needs it."""

    def compile(self, spec: DatasetSpec) -> "_native.DatasetIR":
        """Raises :class:`CompileError` with all diagnostics."""
        _expect(spec, DatasetSpec, "DatasetCompiler.compile")
        return _native.compile_dataset(spec.to_dict())


class TokenizerCompiler:
    """Checks a tokenizer spec; it is trained when a dataset is there."""

    def compile(self, spec: TokenizerSpec) -> "_native.TokenizerIR":
        """Raises :class:`CompileError` with all diagnostics."""
        _expect(spec, TokenizerSpec, "TokenizerCompiler.compile")
        return _native.compile_tokenizer(spec.to_dict())


def compile_spec(
    spec: LLM, output_dir: Any = None, verbose: bool = False, dataset: Any = None
) -> "_native.ModelIR":
    """Solves the dimensions and builds the graph of a model.

    With ``output_dir`` the spec, the solution, the IR and a report are written there, and the
    result is also a mapping with the report's keys. Raises :class:`CompileError`.
    """
    del dataset  # Taken for compatibility; a model does not depend on its data.
    _expect(spec, LLM, "compile_spec")
    where = None if output_dir is None else str(output_dir)
    model = _native.compile_model(spec.to_dict(), where)
    if verbose:
        print(model)
    return model


__all__: List[str] = [
    "LLM",
    "DatasetCompiler",
    "DatasetSpec",
    "OptimizerSpec",
    "TokenizerCompiler",
    "TokenizerSpec",
    "TrainingSpec",
    "compile_spec",
]
