//! Plain data between Python and JSON values, NumPy arrays, and errors.

use llmc::pipeline::Failure;
use llmc_base::{Diagnostic, Label, Severity};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyByteArray, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use serde_json::{Map, Number, Value};

/// A JSON value from plain Python data: `None`, booleans, numbers (also those of NumPy), texts,
/// lists, tuples and dicts with text keys.
///
/// Errors: `TypeError` for anything else, `ValueError` for a number that JSON has not.
pub fn to_json(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if value.is_none() {
        return Ok(Value::Null);
    }
    if value.is_instance_of::<PyBool>() {
        return Ok(Value::Bool(value.extract()?));
    }
    if value.is_instance_of::<PyString>() {
        return Ok(Value::String(value.extract()?));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        let mut map = Map::new();
        for (key, item) in dict.iter() {
            let key: String = key.extract()?;
            map.insert(key, to_json(&item)?);
        }
        return Ok(Value::Object(map));
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        let items: PyResult<Vec<Value>> = value.try_iter()?.map(|item| to_json(&item?)).collect();
        return Ok(Value::Array(items?));
    }
    if !value.is_instance_of::<PyFloat>() {
        if let Ok(number) = value.extract::<i64>() {
            return Ok(Value::from(number));
        }
        if let Ok(number) = value.extract::<u64>() {
            return Ok(Value::from(number));
        }
    }
    if let Ok(number) = value.extract::<f64>() {
        let number = Number::from_f64(number);
        return number
            .map(Value::Number)
            .ok_or_else(|| PyValueError::new_err("a spec holds finite numbers only"));
    }
    let kind = value.get_type();
    let text = format!("a spec holds plain data, not `{}`", kind.name()?);
    Err(PyTypeError::new_err(text))
}

/// Python data from a JSON value.
pub fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(b) => PyBool::new(py, *b).to_owned().into_any(),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => PyInt::new(py, n).into_any(),
            (None, Some(n)) => PyInt::new(py, n).into_any(),
            _ => PyFloat::new(py, n.as_f64().unwrap_or(f64::NAN)).into_any(),
        },
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(to_python(py, item)?)?;
            }
            list.into_any()
        }
        Value::Object(map) => {
            let dict = PyDict::new(py);
            for (key, item) in map {
                dict.set_item(key, to_python(py, item)?)?;
            }
            dict.into_any()
        }
    })
}

/// A `pathlib.Path`.
pub fn to_path<'py>(py: Python<'py>, path: &std::path::Path) -> PyResult<Bound<'py, PyAny>> {
    py.import("pathlib")?.getattr("Path")?.call1((path.as_os_str(),))
}

/// A float32 array of this shape that owns its memory and may be written to.
pub fn to_array<'py>(
    py: Python<'py>,
    values: &[f32],
    shape: &[usize],
) -> PyResult<Bound<'py, PyAny>> {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
    let bytes = PyByteArray::new(py, &bytes);
    let numpy = py.import("numpy")?;
    let flat = numpy.call_method1("frombuffer", (bytes, "=f4"))?;
    flat.call_method1("reshape", (PyTuple::new(py, shape)?,))
}

/// `CompileError`, which the package defines in Python.
static COMPILE_ERROR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The failure as `CompileError` with its diagnostics.
pub fn error(py: Python<'_>, failure: &Failure) -> PyErr {
    raise(py, failure).unwrap_or_else(|e| e)
}

fn raise(py: Python<'_>, failure: &Failure) -> PyResult<PyErr> {
    let class = COMPILE_ERROR.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("llm_compiler.errors")?.getattr("CompileError")?.unbind())
    })?;
    let list = PyList::empty(py);
    for d in failure.diagnostics() {
        list.append(diagnostic(py, &d)?)?;
    }
    Ok(PyErr::from_value(class.bind(py).call1((list,))?))
}

/// One diagnostic as a dict: `code, severity, message, file, line, column, help, field, labels`;
/// line and column are those of the first label.
pub fn diagnostic<'py>(py: Python<'py>, d: &Diagnostic) -> PyResult<Bound<'py, PyDict>> {
    let severity = match d.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let labels = PyList::empty(py);
    for label in &d.labels {
        labels.append(place(py, label)?)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("code", &d.code)?;
    dict.set_item("severity", severity)?;
    dict.set_item("message", &d.message)?;
    for key in ["file", "line", "column"] {
        let value = match labels.len() {
            0 => None,
            _ => labels.get_item(0)?.cast_into::<PyDict>()?.get_item(key)?,
        };
        dict.set_item(key, value)?;
    }
    dict.set_item("help", d.help.as_deref())?;
    dict.set_item("field", d.field.as_deref())?;
    dict.set_item("labels", labels)?;
    Ok(dict)
}

/// A label as a dict: `file, line, column, start, end, text`.
fn place<'py>(py: Python<'py>, label: &Label) -> PyResult<Bound<'py, PyDict>> {
    let mut span = label.span.clone();
    // Where nobody had the text, it is read again from the file that the span points into.
    if span.line.is_none()
        && let Ok(text) = std::fs::read_to_string(&span.file)
    {
        span.locate(&text);
    }
    let dict = PyDict::new(py);
    dict.set_item("file", Some(&span.file).filter(|file| !file.is_empty()))?;
    dict.set_item("line", span.line)?;
    dict.set_item("column", span.column)?;
    dict.set_item("start", span.start)?;
    dict.set_item("end", span.end)?;
    dict.set_item("text", &label.text)?;
    Ok(dict)
}

/// Why an object that stands for files or for memory does not pickle, and what to do instead.
pub fn not_pickled(class: &str, instead: &str) -> PyErr {
    PyTypeError::new_err(format!("a {class} cannot be pickled or copied; {instead}"))
}

/// The name that is likely meant by `word`, if one is near.
#[pyfunction]
pub fn nearest(word: &str, names: Vec<String>) -> Option<String> {
    llmc_base::diag::nearest(word, names.iter().map(String::as_str)).map(str::to_string)
}
