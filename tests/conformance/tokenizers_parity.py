"""Compares a tokenizer of llmc with Hugging Face `tokenizers`.

    python tokenizers_parity.py FOLDER [--retrain]

FOLDER holds `tokenizer.json`, `tokenizer_config.json` and `ids.jsonl` as the
example `dump_ids` of llmc-data writes them. Every text must encode to the same
ids and all ids decode to the same text, and with special tokens asked for, the
bos token comes in front. `--retrain` (byte_bpe only) also trains the trainer of `tokenizers`
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


def compare(tokenizer, records, front):
    """Yields one message for each record on which the two sides differ.

    `front` holds the id of the bos token, if there is one.
    """
    texts = [record["text"] or "" for record in records]
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    all_ids = [record["ids"] for record in records]
    decoded = tokenizer.decode_batch(all_ids, skip_special_tokens=False)
    plain = tokenizer.decode_batch(all_ids, skip_special_tokens=True)
    for number, (record, encoded) in enumerate(zip(records, encodings)):
        text, ids = record["text"], record["ids"]
        if text is not None and encoded.ids != ids:
            pairs = enumerate(zip(encoded.ids, ids))
            at = next((i for i, (a, b) in pairs if a != b), min(len(ids), len(encoded.ids)))
            start = encoded.offsets[at][0] if at < len(encoded.offsets) else len(text)
            yield (
                f"record {number}: ids differ at {at}: tokenizers {encoded.ids[at:at + 8]}, "
                f"llmc {ids[at:at + 8]}, near {text[max(0, start - 20):start + 20]!r}"
            )
        if text is not None and len(text) < 200 and tokenizer.encode(text).ids != front + ids:
            yield f"record {number}: the template does not put {front} in front"
        if decoded[number] != record["decoded"]:
            yield f"record {number}: the decoded text differs for ids {ids[:20]}"
        if plain[number] != record["plain"]:
            yield f"record {number}: the text without specials differs for ids {ids[:20]}"


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
    tokenizer = Tokenizer.from_str(source)
    config = json.loads((arguments.folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    front = [tokenizer.token_to_id(config["bos_token"])] if "bos_token" in config else []
    messages = list(compare(tokenizer, records, front))
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
