//! Compiled sections as Python objects.

use crate::convert::{diagnostic, error, not_pickled, to_json, to_python};
use llmc::pipeline::Failure;
use llmc::pipeline::compile::Compiled;
use llmc::pipeline::compile_report::{self, CompiledModel, solution_json};
use llmc::pipeline::graph_json::graph_json;
use llmc::store::FsStore;
use llmc_spec::Section;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use serde_json::Value;
use std::path::PathBuf;

fn fingerprint(py: Python<'_>, compiled: &Compiled) -> PyResult<String> {
    compiled.fingerprint().map(|h| h.to_string()).map_err(|e| error(py, &e))
}

/// Equal fingerprints hash alike.
fn hash(py: Python<'_>, compiled: &Compiled) -> PyResult<u64> {
    let hash = compiled.fingerprint().map_err(|e| error(py, &e))?;
    Ok(hash.0.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// What pickle calls to make the object anew: a function of this module and the sections as they
/// were given.
fn reduce<'py>(
    py: Python<'py>,
    compiled: &Compiled,
) -> PyResult<(Bound<'py, PyAny>, Vec<Bound<'py, PyAny>>)> {
    let (name, sections): (&str, &[Section]) = match compiled.section {
        Section::Model => ("restore_model", &[Section::Model]),
        Section::Dataset => ("compile_dataset", &[Section::Dataset]),
        Section::Tokenizer => ("compile_tokenizer", &[Section::Tokenizer]),
        Section::Optimizer | Section::Training => {
            ("compile_training", &[Section::Training, Section::Optimizer])
        }
    };
    let none = Value::Object(serde_json::Map::new());
    let arguments = sections
        .iter()
        .map(|section| to_python(py, compiled.sections.get(section.name()).unwrap_or(&none)));
    let arguments = arguments.collect::<PyResult<Vec<_>>>()?;
    Ok((py.import("llm_compiler._native")?.getattr(name)?, arguments))
}

fn warnings<'py>(py: Python<'py>, compiled: &Compiled) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for d in &compiled.warnings {
        list.append(diagnostic(py, d)?)?;
    }
    Ok(list)
}

macro_rules! section_ir {
    ($($(#[$doc:meta])* $name:ident, $text:literal;)*) => {$(
        $(#[$doc])*
        #[pyclass(frozen, module = "llm_compiler")]
        pub struct $name(pub Compiled);

        #[pymethods]
        impl $name {
            /// Recipe hash: equal for equal meaning, whatever the name.
            fn fingerprint(&self, py: Python<'_>) -> PyResult<String> {
                fingerprint(py, &self.0)
            }

            /// The label.
            #[getter]
            fn name(&self) -> &str {
                self.0.name()
            }

            /// Every value by path, written or chosen by rule.
            fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                to_python(py, &self.0.values())
            }

            /// What is worth a look, as dicts.
            #[getter]
            fn warnings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
                warnings(py, &self.0)
            }

            fn __eq__(&self, py: Python<'_>, other: &Self) -> PyResult<bool> {
                Ok(fingerprint(py, &self.0)? == fingerprint(py, &other.0)?)
            }

            fn __hash__(&self, py: Python<'_>) -> PyResult<u64> {
                hash(py, &self.0)
            }

            fn __reduce__<'py>(
                &self,
                py: Python<'py>,
            ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
                let (function, arguments) = reduce(py, &self.0)?;
                Ok((function, PyTuple::new(py, arguments)?))
            }

            fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
                let hash = fingerprint(py, &self.0)?;
                Ok(format!("<{} `{}` {}>", $text, self.0.name(), &hash[..16]))
            }
        }
    )*};
}
section_ir! {
    /// A checked dataset.
    DatasetIR, "DatasetIR";
    /// A checked tokenizer.
    TokenizerIR, "TokenizerIR";
    /// A checked training with its optimizer.
    TrainingIR, "TrainingIR";
}

/// A solved model with its graph; with an output folder also a mapping with the report's keys.
#[pyclass(frozen, module = "llm_compiler")]
pub struct ModelIR {
    /// The model.
    pub model: CompiledModel,
    report: Py<PyDict>,
}

#[pymethods]
impl ModelIR {
    /// Recipe hash: equal for equal meaning, whatever the name.
    fn fingerprint(&self, py: Python<'_>) -> PyResult<String> {
        fingerprint(py, &self.model.compiled)
    }

    /// The label.
    #[getter]
    fn name(&self) -> &str {
        self.model.compiled.name()
    }

    /// Unique parameters.
    #[getter]
    fn parameter_count(&self, py: Python<'_>) -> PyResult<u64> {
        let model = self.model.compiled.project.model().map_err(|e| error(py, &e))?;
        Ok(model.solution.params)
    }

    /// The graph.
    #[getter]
    fn graph(&self, py: Python<'_>) -> PyResult<Graph> {
        let module = &self.model.module;
        let json = graph_json(module, self.model.compiled.name(), "forward");
        let json = json.ok_or_else(|| {
            error(py, &Failure::Internal("a model without `@forward`".to_string()))
        })?;
        Ok(Graph { json, text: llmc_ir::text::print(module) })
    }

    /// Dimensions, counts, and why each value is what it is.
    #[getter]
    fn solution<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let solution = solution_json(&self.model.compiled).map_err(|e| error(py, &e))?;
        to_python(py, &solution)
    }

    /// Every value by path, written or chosen by rule.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.model.compiled.values())
    }

    /// What is worth a look, as dicts.
    #[getter]
    fn warnings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        warnings(py, &self.model.compiled)
    }

    fn __getitem__<'py>(&self, py: Python<'py>, key: &str) -> PyResult<Bound<'py, PyAny>> {
        let found = self.report.bind(py).get_item(key)?;
        found.ok_or_else(|| PyKeyError::new_err(key.to_string()))
    }

    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.report.bind(py).get_item(key)?.or(default))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.report.bind(py).try_iter()?.into_any())
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.report.bind(py).len()
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __contains__(&self, py: Python<'_>, key: Bound<'_, PyAny>) -> PyResult<bool> {
        self.report.bind(py).contains(key)
    }

    fn keys<'py>(&self, py: Python<'py>) -> Bound<'py, PyList> {
        self.report.bind(py).keys()
    }

    fn values<'py>(&self, py: Python<'py>) -> Bound<'py, PyList> {
        self.report.bind(py).values()
    }

    fn items<'py>(&self, py: Python<'py>) -> Bound<'py, PyList> {
        self.report.bind(py).items()
    }

    fn __eq__(&self, py: Python<'_>, other: &Self) -> PyResult<bool> {
        Ok(self.fingerprint(py)? == other.fingerprint(py)?)
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<u64> {
        hash(py, &self.model.compiled)
    }

    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let (function, mut arguments) = reduce(py, &self.model.compiled)?;
        arguments.push(self.report.bind(py).clone().into_any());
        Ok((function, PyTuple::new(py, arguments)?))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let hash = self.fingerprint(py)?;
        let count = self.parameter_count(py)?;
        Ok(format!("<ModelIR `{}` {count} parameters {}>", self.name(), &hash[..16]))
    }
}

/// The graph of a model.
#[pyclass(frozen, module = "llm_compiler")]
pub struct Graph {
    json: Value,
    text: String,
}

#[pymethods]
impl Graph {
    /// `{name, tensors, operations, inputs, outputs}`; a dim that is no number is -1.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.json)
    }

    /// The same as JSON text.
    fn to_json(&self) -> String {
        format!("{:#}", self.json)
    }

    /// The module in the IR's text form.
    #[getter]
    fn text(&self) -> &str {
        &self.text
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(not_pickled("Graph", "pickle the ModelIR that it belongs to, or `graph.to_dict()`"))
    }

    fn __repr__(&self) -> String {
        let n = self.json["operations"].as_object().map_or(0, serde_json::Map::len);
        format!("<Graph {} with {n} operations>", self.json["name"])
    }
}

fn compile(
    fields: &Bound<'_, PyDict>,
    section: Section,
    optimizer: Option<&Bound<'_, PyDict>>,
) -> PyResult<Compiled> {
    let py = fields.py();
    let fields = to_json(fields)?;
    let optimizer = optimizer.map(|o| to_json(o)).transpose()?;
    Compiled::new(section, fields, optimizer).map_err(|e| error(py, &e))
}

/// Checks a dataset.
#[pyfunction]
pub fn compile_dataset(fields: &Bound<'_, PyDict>) -> PyResult<DatasetIR> {
    compile(fields, Section::Dataset, None).map(DatasetIR)
}

/// Checks a tokenizer.
#[pyfunction]
pub fn compile_tokenizer(fields: &Bound<'_, PyDict>) -> PyResult<TokenizerIR> {
    compile(fields, Section::Tokenizer, None).map(TokenizerIR)
}

/// Checks a training and its optimizer.
#[pyfunction]
pub fn compile_training(
    fields: &Bound<'_, PyDict>,
    optimizer_fields: &Bound<'_, PyDict>,
) -> PyResult<TrainingIR> {
    compile(fields, Section::Training, Some(optimizer_fields)).map(TrainingIR)
}

/// Solves and builds a model; with a folder, writes its files there.
#[pyfunction]
#[pyo3(signature = (fields, output_dir=None))]
pub fn compile_model(
    py: Python<'_>,
    fields: &Bound<'_, PyDict>,
    output_dir: Option<PathBuf>,
) -> PyResult<ModelIR> {
    let fields = to_json(fields)?;
    let model = py
        .detach(|| compile_report::compile_model(&FsStore, fields, output_dir.as_deref()))
        .map_err(|e| error(py, &e))?;
    let report = match &model.report {
        Some(report) => to_python(py, report)?.cast_into::<PyDict>()?,
        None => PyDict::new(py),
    };
    Ok(ModelIR { report: report.unbind(), model })
}

/// A model as it was pickled: its fields, and the report of the folder that it was written to.
#[pyfunction]
pub fn restore_model(
    py: Python<'_>,
    fields: &Bound<'_, PyDict>,
    report: Py<PyDict>,
) -> PyResult<ModelIR> {
    Ok(ModelIR { report, ..compile_model(py, fields, None)? })
}
