"""Compares a tokenizer of llmc with Hugging Face `tokenizers`.

    python tokenizers_parity.py FOLDER [--retrain]

FOLDER holds `tokenizer.json` and `ids.jsonl` as the example `dump_ids` of
llmc-data writes them. Every text must encode to the same ids and decode to the
same text. `--retrain` (byte_bpe only) also trains the trainer of `tokenizers`
on the same texts and expects the same vocabulary and merges. No trained text may
spell a special token: llmc cuts there, the trainer of `tokenizers` does not.

Exit code 0 if all agree, 1 if not, 2 if the folder cannot be compared.
"""

import argparse
import json
import sys
from pathlib import Path

import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

SHOWN = 5


def load(folder):
    with open(folder / "ids.jsonl", encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]


def compare(tokenizer, records):
    """Yields one message for each record on which the two sides differ."""
    for number, record in enumerate(records):
        text, ids = record["text"], record["ids"]
        encoded = tokenizer.encode(text, add_special_tokens=False)
        if encoded.ids != ids:
            pairs = enumerate(zip(encoded.ids, ids))
            at = next((i for i, (a, b) in pairs if a != b), min(len(ids), len(encoded.ids)))
            start = encoded.offsets[at][0] if at < len(encoded.offsets) else len(text)
            yield (
                f"record {number}: ids differ at {at}: tokenizers {encoded.ids[at:at + 8]}, "
                f"llmc {ids[at:at + 8]}, near {text[max(0, start - 20):start + 20]!r}"
            )
            continue
        for key, skip in (("decoded", False), ("plain", True)):
            decoded = tokenizer.decode(ids, skip_special_tokens=skip)
            if decoded != record[key]:
                yield f"record {number}: `{key}` differs for {text[:60]!r}"


def retrain(document, records):
    """The model that the trainer of `tokenizers` makes of the trained texts."""
    specials = [added["content"] for added in document["added_tokens"]]
    texts = [record["text"] for record in records if record["is_trained"]]
    if any(special in text for text in texts for special in specials):
        print("a trained text spells a special token", file=sys.stderr)
        sys.exit(2)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=len(document["model"]["vocab"]),
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return json.loads(tokenizer.to_str())["model"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--retrain", action="store_true")
    arguments = parser.parse_args()

    source = (arguments.folder / "tokenizer.json").read_text(encoding="utf-8")
    records = load(arguments.folder)
    if not records:
        print("ids.jsonl is empty", file=sys.stderr)
        return 2
    messages = list(compare(Tokenizer.from_str(source), records))
    if arguments.retrain:
        document = json.loads(source)
        model = retrain(document, records)
        merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        if model["vocab"] != document["model"]["vocab"]:
            messages.append("the trainer of tokenizers gives another vocabulary")
        if merges != document["model"]["merges"]:
            messages.append("the trainer of tokenizers gives other merges")
    for message in messages[:SHOWN]:
        print(message)
    if len(messages) > SHOWN:
        print(f"… and {len(messages) - SHOWN} more")
    n_ids = sum(len(record["ids"]) for record in records)
    verdict = "differ" if messages else "agree"
    print(
        f"tokenizers {tokenizers.__version__}: {len(records)} texts, {n_ids} ids, "
        f"retrain {'checked' if arguments.retrain else 'not checked'}: {verdict}"
    )
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
