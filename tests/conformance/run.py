"""Checks every export of the conformance cases and ends with `N passed, N failed`.

    python run.py CASES_FOLDER [--only NAME]

CASES_FOLDER is what `cargo run -p llmc-codegen --example conformance_cases -- CASES_FOLDER` wrote.
The checking itself is crates/llmc-codegen/python/check_export.py, the program that users get; here
it runs over all cases, and a few things are asked of the exports beside their numbers.
"""

import argparse
import importlib.util
import json
import pathlib
import sys
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CHECKER = REPOSITORY / "crates" / "llmc-codegen" / "python" / "check_export.py"


def import_file(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_names(folder):
    """The state_dict of model.py has exactly the names and shapes of the weights file."""
    from safetensors.torch import load_file

    weights = {name: tuple(t.shape) for name, t in load_file(folder / "model.safetensors").items()}
    model = import_file("names", folder / "model.py").Model()
    state = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    if state != weights:
        raise ValueError(f"the state_dict differs: {sorted(set(state) ^ set(weights))}")


def check_defaults(folder, probe):
    """Without positions and segments, and turned to float64 as a user would, by `double()`."""
    import torch
    from safetensors.torch import load_file

    module = import_file("defaults", folder / "model.py")
    model = module.load(folder / "model.safetensors").double()
    probe = load_file(probe)
    with torch.inference_mode():
        got = model(probe["input.0.tokens"])
        generated = module.generate(model, probe["input.0.tokens"][:1, :4], 3, temperature=0)
    want = probe["output.0.logits"]
    relative = ((got - want).abs().max() / want.abs().max()).item()
    if relative > 1e-9:
        raise ValueError(f"with default positions the logits differ by {relative:.1e}")
    # Greedy continuation from the reference logits of the same prefix.
    if generated[0, 4].item() != want[0, 3].argmax().item():
        raise ValueError("generate does not follow the logits")


def extra_checks(case, export):
    folder = case / export["folder"]
    if not folder.name.startswith("pytorch"):
        return
    check_names(folder)
    check_defaults(folder, case / "plain.safetensors")


def outcome(checks):
    """What is wrong with checks, and the largest relative difference."""
    problems, worst = [], 0.0
    for check in checks:
        numbers = check.get("comparison")
        detail = f"max_rel {numbers['max_rel']:.2e}" if numbers else "; ".join(check["notes"])
        worst = max(worst, numbers["max_rel"] if numbers else 0.0)
        if check["status"] != "ok":
            problems.append(f"{check['quantity']}: {detail}")
    return problems, worst


def row(case, export, checks, relative, start):
    seconds = time.perf_counter() - start
    print(f"{case:34} {export:16} {checks:6} {relative:9.1e}  {seconds:.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=pathlib.Path)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--verbose", action="store_true", help="a line for every export")
    args = parser.parse_args()
    checker = import_file("check_export", CHECKER)
    passed = failed = 0
    print(f"{'case':34} {'export':16} {'checks':>6} {'max_rel':>9}  seconds")
    for case in sorted(path.parent for path in args.cases.glob("*/case.json")):
        if args.only not in case.name:
            continue
        exports = json.loads((case / "case.json").read_text())["exports"]
        is_model = len(exports) < 8
        worst, total, start_case = 0.0, 0, time.perf_counter()
        for export in exports:
            start = time.perf_counter()
            folder = case / export["folder"]
            probes = [(case / probe["path"], probe["hash"]) for probe in export["probes"]]
            checks = checker.check_folder(folder, probes)
            problems, relative = outcome(checks)
            try:
                if is_model:
                    extra_checks(case, export)
            except Exception as error:  # Shown as a failure of this export.
                problems.append(f"{type(error).__name__}: {error}")
            checker.write_checks(folder, checks)
            passed, failed = passed + (not problems), failed + bool(problems)
            worst, total = max(worst, relative), total + len(checks)
            if is_model or args.verbose:
                row(case.name, export["folder"], len(checks), relative, start)
            for problem in problems:
                print(f"  FAILED {case.name}/{export['folder']}: {problem}")
        if not is_model:
            row(case.name, f"{len(exports)} modules", total, worst, start_case)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
