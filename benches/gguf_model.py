"""Writes a LLaMA of random weights as GGUF, for llama.cpp: the sizes of `inference_speed`.

    python benches/gguf_model.py b|c|1.1B FILE

f32, but f16 for 1.1B, which is only the source of its quantised files. There is no tokenizer in it.
"""

import sys

import gguf
import numpy as np

SIZES = {
    # vocab, hidden, layers, heads, kv heads, ffn, tied
    "b": (8192, 256, 8, 8, 4, 704, True),
    "c": (16384, 512, 12, 8, 8, 1376, True),
    "1.1B": (32000, 2048, 22, 32, 4, 5632, False),
}


def main():
    size, path = sys.argv[1:3]
    vocab, hidden, layers, heads, kv_heads, ffn, tied = SIZES[size]
    d = hidden // heads
    dtype, file_type = np.float32, gguf.LlamaFileType.ALL_F32
    if size == "1.1B":
        dtype, file_type = np.float16, gguf.LlamaFileType.MOSTLY_F16
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(2048)
    out.add_embedding_length(hidden)
    out.add_block_count(layers)
    out.add_feed_forward_length(ffn)
    out.add_head_count(heads)
    out.add_head_count_kv(kv_heads)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(d)
    out.add_vocab_size(vocab)
    out.add_file_type(file_type)
    out.add_tokenizer_model("no_vocab")
    random = np.random.default_rng(0)

    def matrix(name, rows, columns):
        out.add_tensor(name, (random.standard_normal((rows, columns), dtype=np.float32) * 0.02).astype(dtype))

    def norm(name):
        out.add_tensor(name, np.ones(hidden, np.float32))

    matrix("token_embd.weight", vocab, hidden)
    norm("output_norm.weight")
    if not tied:
        matrix("output.weight", vocab, hidden)
    for layer in range(layers):
        block = f"blk.{layer}."
        norm(block + "attn_norm.weight")
        matrix(block + "attn_q.weight", heads * d, hidden)
        matrix(block + "attn_k.weight", kv_heads * d, hidden)
        matrix(block + "attn_v.weight", kv_heads * d, hidden)
        matrix(block + "attn_output.weight", hidden, heads * d)
        norm(block + "ffn_norm.weight")
        matrix(block + "ffn_gate.weight", ffn, hidden)
        matrix(block + "ffn_up.weight", ffn, hidden)
        matrix(block + "ffn_down.weight", hidden, ffn)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    main()
