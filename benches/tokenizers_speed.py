"""Training and encoding of byte-level BPE beside `tokenizers` and tiktoken, in turn in one run.

    python benches/tokenizers_speed.py FOLDER [--ours EXE] [--megabytes 50] [--rounds 3]

Run it with the interpreter of `bash benches/peers.sh`, i.e. its python/bin/python. FOLDER has text, e.g. the Python
library. All encode the same documents of about 4 kB with the same merges, those that llmc has learned, on two threads, and
the ids must be equal. Figures are medians with the lowest and highest; MB are 10⁶ bytes.
"""

import argparse
import array
import hashlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "2"
os.environ["TOKENIZERS_PARALLELISM"] = "true"

import tiktoken  # noqa: E402
import tokenizers  # noqa: E402

PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


def timed(work):
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def shown(values, digits=1):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def byte_of():
    """The byte that each character of a byte-level vocabulary stands for."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {chr(c): b for c, b in [*zip(plain, plain), *((256 + i, b) for i, b in enumerate(others))]}


def learn(documents, vocab):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab, show_progress=False, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(documents, trainer)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--ours", default="target/release/examples/tokenizer_speed")
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    training, encoding = {"llmc": [], "tokenizers": []}, {"llmc": [], "tokenizers": [], "tiktoken": []}
    with tempfile.TemporaryDirectory() as name:
        out = pathlib.Path(name)
        command = [args.ours, args.folder, str(args.megabytes), str(args.vocab), "2", str(out)]
        for at in range(args.rounds):
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            training["llmc"].append(float(re.search(r"train, .*: ([\d.]+) s", printed)[1]))
            encoding["llmc"].append(float(re.search(r"encode: ([\d.]+) MB/s", printed)[1]))
            if at == 0:
                documents = (out / "documents").read_bytes().decode().split("\0")
                n_bytes = sum(len(d.encode()) for d in documents)
                ids = array.array("I", (out / "ids").read_bytes())
                peer = tokenizers.Tokenizer.from_file(str(out / "tokenizer.json"))
                parsed = json.loads((out / "tokenizer.json").read_text())
                special = {token["content"]: token["id"] for token in parsed["added_tokens"]}
                to_byte = byte_of()
                ranks = {
                    bytes(to_byte[c] for c in token): id
                    for token, id in parsed["model"]["vocab"].items()
                    if token not in special
                }
                tik = tiktoken.Encoding("llmc", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special)
            training["tokenizers"].append(timed(lambda: learn(documents, args.vocab))[0])
            seconds, found = timed(lambda: peer.encode_batch_fast(documents, add_special_tokens=False))
            encoding["tokenizers"].append(n_bytes / 1e6 / seconds)
            if array.array("I", (id for e in found for id in e.ids)) != ids:
                sys.exit("tokenizers has other ids")
            del found
            seconds, found = timed(lambda: tik.encode_ordinary_batch(documents, num_threads=2))
            encoding["tiktoken"].append(n_bytes / 1e6 / seconds)
            if array.array("I", (id for e in found for id in e)) != ids:
                sys.exit("tiktoken has other ids")
            del found
    text = f"{n_bytes / 1e6:.0f} MB, {len(ids):,} ids, sha256 {hashlib.sha256(ids.tobytes()).hexdigest()[:12]}, equal in all three"
    print(text)
    print("| | llmc | tokenizers | tiktoken |")
    print("|---|---|---|---|")
    print(f"| training, vocabulary {args.vocab}, s | {shown(training['llmc'], 2)} | {shown(training['tokenizers'], 2)} | |")
    print(f"| encoding, MB/s | {' | '.join(shown(encoding[name]) for name in ['llmc', 'tokenizers', 'tiktoken'])} |")


if __name__ == "__main__":
    main()
