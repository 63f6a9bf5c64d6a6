"""Names of the options, as enums; plain strings work everywhere too."""

from enum import Enum


class _Word(str, Enum):
    def __str__(self) -> str:
        return str(self.value)


class NormType(_Word):
    """Normalisation before each block."""

    LAYERNORM = "layernorm"
    RMSNORM = "rmsnorm"
    SCALENORM = "scalenorm"
    NO_NORM = "no_norm"


class ActivationType(_Word):
    """Feed-forward activation."""

    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    RELU = "relu"
    SILU = "silu"
    SWIGLU = "swiglu"
    RELU_SQUARED = "relu_squared"


class AttentionType(_Word):
    """How query heads share key and value heads, and what they see."""

    MHA = "mha"
    MQA = "mqa"
    GQA = "gqa"
    FLASH = "flash"
    SLIDING_WINDOW = "sliding_window"
    GLOBAL_LOCAL = "global_local"


class PositionalEncodingType(_Word):
    """How positions enter the model."""

    ROPE = "rope"
    LEARNED = "learned"
    ALIBI = "alibi"
    SINUSOIDAL = "sinusoidal"
    RELATIVE = "relative"
    NONE = "none"


class TokenizerType(_Word):
    """Tokenizer algorithm."""

    BYTE_BPE = "byte_bpe"
    BPE = "bpe"
    CHAR = "char"
    UNIGRAM = "unigram"
    SENTENCEPIECE = "sentencepiece"
    WORDPIECE = "wordpiece"


class OptimizerType(_Word):
    """Optimizer algorithm."""

    ADAMW = "adamw"
    SGD = "sgd"
    MUON = "muon"
    LION = "lion"


class WeightFormat(_Word):
    """Format of exported weights."""

    SAFETENSORS = "safetensors"
    PYTORCH = "pytorch"
    NUMPY = "numpy"
    GGUF = "gguf"


class BackendTarget(_Word):
    """What a compiled model is for."""

    PYTORCH_TRAINING = "pytorch_training"
    PYTORCH_INFERENCE = "pytorch_inference"
    TORCHSCRIPT = "torchscript"
    ONNX = "onnx"
    JAX = "jax"
