"""Compiled models: solving, graphs, files, errors."""

import copy
import json
import pickle
from collections.abc import Mapping
from dataclasses import replace

import pytest

from llm_compiler import (
    LLM,
    AttentionType,
    CompileError,
    DatasetCompiler,
    DatasetSpec,
    OptimizerSpec,
    TokenizerCompiler,
    TokenizerSpec,
    TrainingSpec,
    UnknownFieldError,
    compile_spec,
)

REPORT_KEYS = {
    "spec",
    "steps",
    "success",
    "output_dir",
    "files",
    "solution",
    "model_name",
    "model_dir",
    "weights_dir",
    "total_files",
    "compilation_time",
}


def small(**fields):
    base = dict(
        name="small-one",
        vocab_size=64,
        context_length=32,
        num_layers=2,
        hidden_size=32,
        num_heads=4,
        intermediate_size=64,
    )
    base.update(fields)
    return LLM(**base)


def test_all_problems_come_at_once_with_the_nearest_names():
    spec = LLM.from_dict(
        {
            "vocab_size": 32,
            "hiden_size": 16,
            "num_layer": -1,
            "activation": "rellu",
            "norm": "rmsnrom",
        }
    )
    with pytest.raises(CompileError) as caught:
        compile_spec(spec)
    error = caught.value
    assert isinstance(error, ValueError)
    assert len(error.diagnostics) >= 3
    for name in ["hidden_size", "num_layers", "relu", "rmsnorm"]:
        assert name in str(error)
    keys = {"code", "severity", "message", "file", "line", "column", "help", "field", "labels"}
    assert all(set(d) == keys for d in error.diagnostics)
    # Without a text a field is the place; every problem says what to try.
    assert all(d["field"] and d["help"] for d in error.diagnostics)
    assert "model.num_layer" in [d["field"] for d in error.diagnostics]


def test_target_params_are_met():
    model = compile_spec(LLM(target_params="1M", vocab_size=256, context_length=64))
    assert abs(model.parameter_count - 1_000_000) <= 10_000
    assert model.solution["target_params"] == 1_000_000
    assert model.solution["actual_params"] == model.parameter_count


def test_target_params_and_all_dims_clash():
    with pytest.raises(CompileError):
        compile_spec(small(target_params=1_000_000))


def test_explicit_dims_enums_and_strings_mean_the_same():
    flat = compile_spec(small(attention="mha"))
    dims = dict(num_layers=2, hidden_size=32, num_heads=4, intermediate_size=64)
    nested = compile_spec(
        LLM(
            name="another label",
            vocab_size=64,
            context_length=32,
            explicit_dims=dims,
            attention=AttentionType.MHA,
        )
    )
    assert flat.fingerprint() == nested.fingerprint()
    assert flat.fingerprint() != compile_spec(small(norm="layernorm")).fingerprint()


def test_the_graph_is_whole():
    model = compile_spec(small())
    graph = model.graph.to_dict()
    assert json.loads(model.graph.to_json()) == graph
    assert set(graph) == {"name", "tensors", "operations", "inputs", "outputs"}
    assert graph["name"] == "small-one"
    for name, tensor in graph["tensors"].items():
        assert tensor["name"] == name
        assert tensor["node"] is None or name in graph["operations"][tensor["node"]]["outputs"]
        for consumer in tensor["consumers"]:
            assert name in graph["operations"][consumer]["inputs"]
    for name, operation in graph["operations"].items():
        assert set(operation) == {"name", "type", "inputs", "outputs", "attributes"}
        assert all(t in graph["tensors"] for t in operation["inputs"] + operation["outputs"])
    assert all(t in graph["tensors"] for t in graph["inputs"] + graph["outputs"])
    weights = [t for t in graph["tensors"].values() if not t["node"] and -1 not in t["shape"]]
    count = 0
    for weight in weights:
        size = 1
        for dim in weight["shape"]:
            size *= dim
        count += size
    assert count == model.parameter_count
    assert "func @forward" in model.graph.text or "@forward" in model.graph.text


def test_an_output_folder_gets_files_and_a_mapping(tmp_path):
    report = compile_spec(small(), tmp_path / "out")
    assert isinstance(report, Mapping)
    assert set(report) == REPORT_KEYS == set(dict(report))
    assert report["success"] is True and len(report) == len(REPORT_KEYS)
    for file in report["files"]:
        assert (tmp_path / "out" / file["path"]).stat().st_size == file["size"]
    assert report["total_files"] == len(report["files"])
    names = [step["step"] for step in report["steps"]]
    assert names == [
        "template_selection",
        "spec_validation",
        "dimension_solving",
        "ir_generation",
        "parameter_accounting",
        "finalization",
    ]
    source = (tmp_path / "out" / "model" / "small_one.py").read_text()
    compile(source, "small_one.py", "exec")
    again = compile_spec(LLM.from_dict(json.loads((tmp_path / "out" / "spec.json").read_text())["model"]))
    assert again.fingerprint() == report.fingerprint()
    with pytest.raises(KeyError):
        report["nothing"]


def test_a_failure_leaves_an_error_report(tmp_path):
    with pytest.raises(CompileError) as caught:
        compile_spec(small(num_heads=5, head_dim=7, norm="unknown"), tmp_path)
    report = json.loads((tmp_path / "error_report.json").read_text())
    assert set(report) >= {"error", "error_type"}
    assert len(report["diagnostics"]) == len(caught.value.diagnostics)


def test_without_a_folder_the_mapping_is_empty_but_true():
    model = compile_spec(small())
    assert model and len(model) == 0 and model.get("files", 3) == 3
    assert "small-one" in repr(model)


def test_a_spec_takes_plain_data_only():
    with pytest.raises(TypeError):
        compile_spec(LLM(vocab_size=object()))
    with pytest.raises(ValueError):
        compile_spec(small(rope_theta=float("nan")))


def test_an_unknown_keyword_names_the_nearest_field():
    with pytest.raises(CompileError) as caught:
        LLM(hiden_size=3, Vocab_Size=4)
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, UnknownFieldError)
    text = str(caught.value)
    assert "`LLM` has no field `hiden_size`" in text and "did you mean `hidden_size`?" in text
    assert "did you mean `vocab_size`?" in text
    with pytest.raises(UnknownFieldError, match="go into `extra`"):
        OptimizerSpec(colour="red")
    assert pickle.loads(pickle.dumps(caught.value)).diagnostics == caught.value.diagnostics
    with pytest.raises(TypeError):
        LLM(*range(99))
    assert replace(LLM(num_layers=2), num_layers=3) == LLM(num_layers=3)


@pytest.mark.parametrize(
    "compiler, takes",
    [
        (DatasetCompiler().compile, "DatasetCompiler.compile takes a DatasetSpec"),
        (TokenizerCompiler().compile, "TokenizerCompiler.compile takes a TokenizerSpec"),
        (compile_spec, "compile_spec takes a LLM"),
    ],
)
def test_a_compiler_says_what_it_takes(compiler, takes):
    with pytest.raises(TypeError, match=takes + ", not OptimizerSpec$"):
        compiler(OptimizerSpec())
    with pytest.raises(TypeError, match=takes + ", not dict; make one with"):
        compiler({"name": "x"})


def test_objects_of_one_fingerprint_are_equal():
    one, other = compile_spec(small()), compile_spec(small(name="another label"))
    assert one == other and hash(one) == hash(other) and len({one, other}) == 1
    assert one != compile_spec(small(norm="layernorm")) and one != "text"
    spec = DatasetSpec(domains=["synthetic"])
    dataset = DatasetCompiler().compile(spec)
    assert dataset == DatasetCompiler().compile(spec) and dataset != one
    assert hash(dataset) == hash(DatasetCompiler().compile(spec))


def test_compiled_objects_pickle(tmp_path):
    dataset = DatasetCompiler().compile(DatasetSpec(domains=["synthetic"], seed=3))
    tokenizer = TokenizerCompiler().compile(
        TokenizerSpec(type="bpe", vocab_size=32, dataset_hash=dataset.fingerprint())
    )
    training = TrainingSpec(max_steps=3, optimizer=OptimizerSpec(lr=0.5)).compile()
    for compiled in [dataset, tokenizer, training, compile_spec(small())]:
        again = pickle.loads(pickle.dumps(compiled))
        assert again == compiled and again.to_dict() == compiled.to_dict()
        assert copy.deepcopy(compiled) == compiled
    report = compile_spec(small(), tmp_path)
    assert dict(pickle.loads(pickle.dumps(report))) == dict(report)
    with pytest.raises(TypeError, match="a Graph cannot be pickled or copied; pickle the ModelIR"):
        pickle.dumps(report.graph)
