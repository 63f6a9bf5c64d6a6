"""Runs an exported model in float64 and compares it with the reference evaluator of llmc.

    python check_export.py [FOLDER [PROBE.safetensors[=HASH] ...]]

FOLDER (here by default) holds certificate.json, whose `format` says how to load it: `pytorch`
(model.py with its `load`) or `huggingface` (by `transformers`). A probe (probe.safetensors of the
folder by default) holds `input.0.NAME`, ... and `output.0.NAME`, ...; HASH is its BLAKE3 hash,
read from certificate.json if it lists the file. The outcome replaces `checks` in certificate.json: `ok` or
`failed` only by a comparison that was made, `not checked here` if torch or transformers is
missing. Exit status: 0 ok, 1 failed, 2 misused, 3 not checked.

Float64 throughout. The modelling code of transformers names float32 in places (RMSNorm and rotary
embedding compute in it whatever the model's dtype), and an emitted model.py does where the graph
casts. Both run with every such name read as float64 (class Float64 below), so that what is compared
is the structure and the weights, to the last digits, and not a rounding that the code asks for.
The rotary frequencies of transformers are made anew in that way, since loading makes them in
float32.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import math
import pathlib
import sys

CERTIFICATE_VERSION = 1
TOLERANCE = 1e-9
EVALUATOR = "llmc real evaluator (f64, float casts are the identity)"
WIDENED = "every narrower float dtype that the code names was read as float64"
FREQUENCIES = "rotary frequencies were computed again in float64 from config.json"


def compare(got, want):
    """Elements, largest absolute difference, and that over the largest absolute reference."""
    if tuple(got.shape) != tuple(want.shape):
        raise ValueError(f"an output is {tuple(got.shape)}, the reference {tuple(want.shape)}")
    if want.numel() == 0:
        return 0, 0.0, 0.0
    got, want = got.double(), want.double()
    # Equal infinities and NaNs in the same places agree.
    same = (got == want) | (got.isnan() & want.isnan())
    difference = (got - want).abs().masked_fill(same, 0).max().item()
    finite = want[want.isfinite()]
    scale = finite.abs().max().item() if finite.numel() else 0.0
    relative = difference / scale if scale else (0.0 if difference == 0 else math.inf)
    return want.numel(), difference, relative


def numbered(probe, kind):
    """Tensors `kind.0.NAME`, `kind.1.NAME`, ... of a probe, by name in order."""
    keys = [key.split(".", 2) for key in probe if key.startswith(kind + ".")]
    keys.sort(key=lambda parts: int(parts[1]))
    return {name: probe[f"{kind}.{index}.{name}"] for _, index, name in keys}


def check(run, probe_path, runtimes, probe_hash, notes):
    """One check as certificate.json has it. run maps inputs by name to a tuple of outputs."""
    from safetensors.torch import load_file

    elements, max_abs, max_rel = 0, 0.0, 0.0
    base = {"evaluator": EVALUATOR}
    try:
        probe = load_file(probe_path)
        wanted = numbered(probe, "output")
        base = {"quantity": f"{', '.join(wanted)} on {probe_path.stem}", **base}
        outputs = run(numbered(probe, "input"))
        if len(outputs) != len(wanted):
            raise ValueError(f"there are {len(outputs)} outputs, the reference has {len(wanted)}")
        for got, want in zip(outputs, wanted.values()):
            n, difference, relative = compare(got, want)
            elements += n
            max_abs, max_rel = max(max_abs, difference), max(max_rel, relative)
            if not (math.isfinite(difference) and math.isfinite(relative)):
                raise ValueError("the difference is not a number")
    except Exception as error:  # Whatever goes wrong in the export is its failure.
        return {"status": "failed", **base, "notes": [f"{type(error).__name__}: {error}"]}
    comparison = {
        "runtimes": runtimes,
        "elements": elements,
        "max_abs": max_abs,
        "max_rel": max_rel,
        "tolerance": TOLERANCE,
        "probe": probe_hash,
    }
    status = "ok" if elements > 0 and max_rel <= TOLERANCE else "failed"
    return {"status": status, **base, "comparison": comparison, "notes": notes}


def not_checked(probe_path, reason):
    return {
        "status": "not checked here",
        "quantity": f"outputs on {probe_path.stem}",
        "evaluator": EVALUATOR,
        "notes": [reason],
    }


def float64_mode():
    """A context in which every narrower float dtype that code names is float64."""
    import torch
    from torch.overrides import TorchFunctionMode

    narrow = {torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2}
    # These read bytes as a dtype; they do not compute in it.
    reads = {"frombuffer", "from_file", "view", "empty", "empty_like", "finfo"}

    def widen(value):
        return torch.float64 if isinstance(value, torch.dtype) and value in narrow else value

    class Float64(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            name = getattr(function, "__name__", "")
            if name in ("float", "half", "bfloat16") and args:
                return args[0].double()
            if name in reads:
                return function(*args, **kwargs)
            args = tuple(widen(a) for a in args)
            return function(*args, **{k: widen(v) for k, v in kwargs.items()})

    return Float64()


def load_pytorch(folder):
    """The emitted model.py with its weights: a function of the probe's inputs."""
    import torch

    name = "llmc_export_" + hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(name, folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.load(folder / "model.safetensors").double()

    def run(inputs):
        with torch.inference_mode(), float64_mode():
            outputs = model(*inputs.values())
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return run


def load_huggingface(folder):
    """The folder through transformers: a function of the probe's inputs."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, output_loading_info=True, local_files_only=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(kind):
            raise ValueError(f"{kind}: {sorted(map(str, info[kind]))}")
    model.eval()
    mode = float64_mode()
    for module in model.modules():
        for name, child in list(module.named_children()):
            if type(child).__name__.endswith("RotaryEmbedding"):
                with mode:
                    setattr(module, name, type(child)(model.config))

    def run(inputs):
        segments = inputs.get("segments")
        if segments is not None and not (segments == segments[:, :1]).all():
            raise ValueError("transformers takes no segments")
        with torch.inference_mode(), mode:
            return (model(inputs["tokens"].long(), position_ids=inputs["positions"].long()).logits,)

    return run


def versions(*names):
    from importlib.metadata import version

    return [{"name": name, "version": version(name)} for name in names]


LOADERS = {
    "pytorch": (load_pytorch, ("torch",), ("torch", "safetensors"), [WIDENED]),
    "huggingface": (
        load_huggingface,
        ("transformers", "torch"),
        ("transformers", "torch", "safetensors"),
        [WIDENED, FREQUENCIES],
    ),
}


def check_folder(folder, probes):
    """The checks of an export on probes [(path, hash)]."""
    certificate = json.loads((folder / "certificate.json").read_text())
    load, packages, needed, notes = LOADERS[certificate["format"]]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        return [not_checked(path, f"there is no Python package {missing[0]}") for path, _ in probes]
    runtimes = versions(*packages)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            run = load(folder)
    except Exception as error:
        reason = f"it does not load: {type(error).__name__}: {error}"

        def run(inputs):
            raise RuntimeError(reason)

    return [check(run, path, runtimes, probe_hash, notes) for path, probe_hash in probes]


def write_checks(folder, checks):
    """Replaces the checks of certificate.json, whole or not at all."""
    path = folder / "certificate.json"
    certificate = json.loads(path.read_text())
    if certificate["certificate_version"] != CERTIFICATE_VERSION:
        raise ValueError(f"certificate_version {certificate['certificate_version']} is unknown")
    certificate["checks"] = checks
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(certificate, indent=2) + "\n")
    temporary.replace(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, nargs="?", default=pathlib.Path("."))
    parser.add_argument("probes", nargs="*", help="PATH or PATH=HASH; FOLDER/probe.safetensors")
    args = parser.parse_args()
    certificate = json.loads((args.folder / "certificate.json").read_text())
    listed = {item["path"]: item["hash"] for item in certificate["files"]}
    probes = []
    for probe in args.probes or [str(args.folder / "probe.safetensors")]:
        path, _, probe_hash = probe.partition("=")
        path = pathlib.Path(path)
        probe_hash = probe_hash or listed.get(path.name)
        if not probe_hash or not path.is_file():
            parser.error(f"{path}: there is no such file, or its hash is neither given nor listed")
        probes.append((path, probe_hash))
    checks = check_folder(args.folder, probes)
    write_checks(args.folder, checks)
    for item in checks:
        numbers = item.get("comparison")
        detail = f"max_rel {numbers['max_rel']:.1e}" if numbers else "; ".join(item["notes"])
        print(f"{item['status']}: {item['quantity']}: {detail}")
    statuses = {item["status"] for item in checks}
    return 1 if "failed" in statuses else 3 if "not checked here" in statuses else 0


if __name__ == "__main__":
    sys.exit(main())
