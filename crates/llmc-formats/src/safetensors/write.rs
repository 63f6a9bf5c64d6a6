//! Writes tensors in the canonical order, from wherever they lie.

use super::{DType, Error, MAX_HEADER_BYTES, Metadata, byte_len};
use serde_json::{Map, Value, json};
use std::io;

/// Elements of a tensor to write; floats and integers are written little endian, bit for bit.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // The names say it all.
pub enum Data<'a> {
    /// Little-endian bytes of any dtype.
    Bytes(&'a [u8]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    U32(&'a [u32]),
    I32(&'a [i32]),
    I64(&'a [i64]),
}

impl Data<'_> {
    /// The dtype that the elements fix; bytes fix none.
    fn dtype(&self) -> Option<DType> {
        match self {
            Data::Bytes(_) => None,
            Data::F32(_) => Some(DType::F32),
            Data::F64(_) => Some(DType::F64),
            Data::U32(_) => Some(DType::U32),
            Data::I32(_) => Some(DType::I32),
            Data::I64(_) => Some(DType::I64),
        }
    }

    fn byte_len(&self) -> u64 {
        let (elements, width) = match self {
            Data::Bytes(v) => (v.len(), 1),
            Data::F32(v) => (v.len(), 4),
            Data::F64(v) => (v.len(), 8),
            Data::U32(v) => (v.len(), 4),
            Data::I32(v) => (v.len(), 4),
            Data::I64(v) => (v.len(), 8),
        };
        elements as u64 * width
    }

    fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        match self {
            Data::Bytes(v) => out.write_all(v),
            Data::F32(v) => write_elements(out, v, f32::to_le_bytes),
            Data::F64(v) => write_elements(out, v, f64::to_le_bytes),
            Data::U32(v) => write_elements(out, v, u32::to_le_bytes),
            Data::I32(v) => write_elements(out, v, i32::to_le_bytes),
            Data::I64(v) => write_elements(out, v, i64::to_le_bytes),
        }
    }
}

/// One tensor to write, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct TensorSource<'a> {
    /// Its name.
    pub name: &'a str,
    /// Element type; must be that of `data` unless `data` is bytes.
    pub dtype: DType,
    /// Dims, outermost first.
    pub shape: &'a [usize],
    /// Elements, row-major.
    pub data: Data<'a>,
}

/// Writes a whole file. The data is streamed in pieces of at most 64 KiB, never copied whole.
///
/// Errors: tensors that make no file (duplicate or reserved names, sizes that do not fit their
/// shapes) as [`io::ErrorKind::InvalidInput`] holding an [`Error`], before anything is written;
/// else what `out` reports.
pub fn write_to(
    out: &mut dyn io::Write,
    tensors: &[TensorSource<'_>],
    metadata: &Metadata,
) -> io::Result<()> {
    let invalid = |error: Error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let order = canonical_order(tensors).map_err(invalid)?;
    let header = header(&order, metadata).map_err(invalid)?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    order.iter().try_for_each(|tensor| tensor.data.write(out))
}

/// The whole file in memory. Errors: tensors that make no file.
pub fn to_bytes(tensors: &[TensorSource<'_>], metadata: &Metadata) -> Result<Vec<u8>, Error> {
    let order = canonical_order(tensors)?;
    let header = header(&order, metadata)?;
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    for tensor in order {
        tensor.data.write(&mut out).expect("writing to memory does not fail");
    }
    Ok(out)
}

/// The tensors checked and in the order of the reference implementation: wider dtypes
/// first, so that every tensor is aligned to its width, then by name.
fn canonical_order<'t, 'a>(
    tensors: &'t [TensorSource<'a>],
) -> Result<Vec<&'t TensorSource<'a>>, Error> {
    let mut total = 0u64;
    for TensorSource { name, dtype, shape, data } in tensors {
        let (name, dtype, shape) = (name.to_string(), *dtype, shape.to_vec());
        if name == "__metadata__" {
            return Err(Error::ReservedName { name });
        }
        let expected = byte_len(dtype, &shape);
        let Some((expected, sum)) = expected.and_then(|n| Some((n, total.checked_add(n)?))) else {
            return Err(Error::TooLarge { name, dtype, shape });
        };
        total = sum;
        if data.dtype().is_some_and(|own| own != dtype) || data.byte_len() != expected {
            let actual = data.byte_len();
            return Err(Error::SizeMismatch { name, dtype, shape, expected, actual });
        }
    }
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by(|a, b| (b.dtype, a.name).cmp(&(a.dtype, b.name)));
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::Duplicate { name: pair[0].to_string() }),
        None => Ok(order),
    }
}

fn header(order: &[&TensorSource<'_>], metadata: &Metadata) -> Result<Vec<u8>, Error> {
    // The map keeps insertion order (`preserve_order`), and metadata comes sorted from its BTreeMap.
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_string(), json!(metadata));
    }
    let mut at = 0u64;
    for tensor in order {
        let end = at + tensor.data.byte_len();
        let mut entry = Map::new();
        entry.insert("dtype".to_string(), Value::from(tensor.dtype.name()));
        entry.insert("shape".to_string(), json!(tensor.shape));
        entry.insert("data_offsets".to_string(), json!([at, end]));
        header.insert(tensor.name.to_string(), Value::Object(entry));
        at = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    match text.len() > MAX_HEADER_BYTES {
        true => Err(Error::HeaderTooLarge { bytes: text.len() as u64 }),
        false => Ok(text),
    }
}

fn write_elements<const N: usize, T: Copy>(
    out: &mut dyn io::Write,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(values.len().min(65536 / N) * N);
    for chunk in values.chunks(65536 / N) {
        buffer.clear();
        chunk.iter().for_each(|value| buffer.extend(bytes(*value)));
        out.write_all(&buffer)?;
    }
    Ok(())
}
