//! Reads a header and checks that it describes the data exactly.

use super::{DType, Error, MAX_HEADER_BYTES, Metadata, byte_len};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// What the header says about one tensor, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dims, outermost first.
    pub shape: Vec<usize>,
    /// First byte in the data.
    pub begin: usize,
    /// One past the last byte in the data.
    pub end: usize,
}

/// A checked header: tensors in offset order, without gaps or overlaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Free texts.
    pub metadata: Metadata,
    tensors: Vec<TensorInfo>,
    by_name: BTreeMap<String, usize>,
}

impl Header {
    /// Parses the JSON of a header that describes `data_len` bytes of data.
    ///
    /// Errors: everything in [`Error`] that a file can be wrong about.
    pub fn parse(json: &[u8], data_len: u64) -> Result<Header, Error> {
        if json.len() > MAX_HEADER_BYTES {
            return Err(Error::HeaderTooLarge { bytes: json.len() as u64 });
        }
        if json.first() != Some(&b'{') {
            return Err(Error::Header { reason: "it does not start with `{`".to_string() });
        }
        let raw: RawHeader = serde_json::from_slice(json)
            .map_err(|error| Error::Header { reason: error.to_string() })?;
        let mut tensors = Vec::with_capacity(raw.tensors.len());
        for (name, tensor) in raw.tensors {
            tensors.push(check_tensor(name, tensor, data_len)?);
        }
        // Empty tensors first among those of one offset, so that they lie between their neighbours.
        tensors.sort_by(|a, b| (a.begin, a.end, &a.name).cmp(&(b.begin, b.end, &b.name)));
        check_cover(&tensors, data_len)?;
        let mut by_name = BTreeMap::new();
        for (i, tensor) in tensors.iter().enumerate() {
            if by_name.insert(tensor.name.clone(), i).is_some() {
                return Err(Error::Duplicate { name: tensor.name.clone() });
            }
        }
        Ok(Header { metadata: raw.metadata, tensors, by_name })
    }

    /// All tensors in offset order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|i| &self.tensors[*i])
    }
}

/// A whole file over borrowed bytes.
#[derive(Clone, Debug)]
pub struct SafeTensors<'a> {
    header: Header,
    data: &'a [u8],
}

/// One tensor of a file.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a, 'h> {
    /// What the header says.
    pub info: &'h TensorInfo,
    /// Its elements, little endian, row-major.
    pub data: &'a [u8],
}

impl<'a> SafeTensors<'a> {
    /// Checks a whole file. Nothing is copied but the header.
    ///
    /// Errors: see [`Error`]; the values and the tensor are named.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let actual = bytes.len() as u64;
        let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(Error::Truncated { expected: 8, actual });
        };
        let length = u64::from_le_bytes(*length);
        if length > MAX_HEADER_BYTES as u64 {
            return Err(Error::HeaderTooLarge { bytes: length });
        }
        // The limit above makes the length fit a usize.
        let Some((json, data)) = rest.split_at_checked(length as usize) else {
            return Err(Error::Truncated { expected: 8 + length, actual });
        };
        Ok(SafeTensors { header: Header::parse(json, data.len() as u64)?, data })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The free texts.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// All tensors in offset order.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'a, '_>> {
        let data = self.data;
        self.header
            .tensors
            .iter()
            .map(move |info| TensorView { info, data: &data[info.begin..info.end] })
    }

    /// The tensor of this name. Errors: [`Error::Missing`].
    pub fn tensor(&self, name: &str) -> Result<TensorView<'a, '_>, Error> {
        let info =
            self.header.get(name).ok_or_else(|| Error::Missing { name: name.to_string() })?;
        Ok(TensorView { info, data: &self.data[info.begin..info.end] })
    }
}

impl TensorView<'_, '_> {
    /// The elements of an `F32` tensor, bit for bit. Errors: any other dtype.
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        match self.info.dtype {
            DType::F32 => Ok(elements(self.data, f32::from_le_bytes)),
            _ => Err(self.wrong("f32")),
        }
    }

    /// The elements of any float tensor, exactly. Errors: any other dtype.
    pub fn to_f64(&self) -> Result<Vec<f64>, Error> {
        match self.info.dtype {
            DType::F64 => Ok(elements(self.data, f64::from_le_bytes)),
            DType::F32 => Ok(elements(self.data, |b| f32::from_le_bytes(b).into())),
            DType::F16 => Ok(elements(self.data, |b| half::f16::from_le_bytes(b).into())),
            DType::Bf16 => Ok(elements(self.data, |b| half::bf16::from_le_bytes(b).into())),
            _ => Err(self.wrong("f64")),
        }
    }

    /// The elements of any integer tensor but `U64`, and of `BOOL` as 0 and 1. Errors: any other dtype.
    pub fn to_i64(&self) -> Result<Vec<i64>, Error> {
        match self.info.dtype {
            DType::Bool => Ok(elements(self.data, |[b]: [u8; 1]| i64::from(b != 0))),
            DType::U8 => Ok(elements(self.data, |b| u8::from_le_bytes(b).into())),
            DType::I8 => Ok(elements(self.data, |b| i8::from_le_bytes(b).into())),
            DType::U16 => Ok(elements(self.data, |b| u16::from_le_bytes(b).into())),
            DType::I16 => Ok(elements(self.data, |b| i16::from_le_bytes(b).into())),
            DType::U32 => Ok(elements(self.data, |b| u32::from_le_bytes(b).into())),
            DType::I32 => Ok(elements(self.data, |b| i32::from_le_bytes(b).into())),
            DType::I64 => Ok(elements(self.data, i64::from_le_bytes)),
            _ => Err(self.wrong("i64")),
        }
    }

    fn wrong(&self, wanted: &'static str) -> Error {
        Error::WrongDType { name: self.info.name.clone(), dtype: self.info.dtype, wanted }
    }
}

fn elements<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
}

fn check_tensor(name: String, raw: RawTensor, data_len: u64) -> Result<TensorInfo, Error> {
    let Some(dtype) = DType::parse(&raw.dtype) else {
        return Err(Error::UnknownDType { name, dtype: raw.dtype });
    };
    let [begin, end] = raw.data_offsets;
    if begin > end || end > data_len {
        return Err(Error::OutOfBounds { name, begin, end, data_len });
    }
    let Some(expected) = byte_len(dtype, &raw.shape) else {
        return Err(Error::TooLarge { name, dtype, shape: raw.shape });
    };
    if expected != end - begin {
        let (shape, actual) = (raw.shape, end - begin);
        return Err(Error::SizeMismatch { name, dtype, shape, expected, actual });
    }
    // Both are at most the length of the data, which is in memory or in a file of this machine.
    let narrow = |offset: u64| {
        usize::try_from(offset).map_err(|_| Error::TooLarge {
            name: name.clone(),
            dtype,
            shape: raw.shape.clone(),
        })
    };
    let (begin, end) = (narrow(begin)?, narrow(end)?);
    Ok(TensorInfo { name, dtype, shape: raw.shape, begin, end })
}

/// Every byte belongs to one tensor. `tensors` are in offset order.
fn check_cover(tensors: &[TensorInfo], data_len: u64) -> Result<(), Error> {
    let mut at = 0;
    let mut before: Option<&TensorInfo> = None;
    for tensor in tensors {
        let (begin, end) = (tensor.begin as u64, tensor.end as u64);
        match before {
            Some(first) if begin < at => {
                return Err(Error::Overlap {
                    first: first.name.clone(),
                    end: at,
                    second: tensor.name.clone(),
                    begin,
                });
            }
            _ if begin > at => return Err(Error::Hole { begin: at, end: begin }),
            _ => {}
        }
        at = end;
        before = Some(tensor);
    }
    if at < data_len { Err(Error::Hole { begin: at, end: data_len }) } else { Ok(()) }
}

/// The header as written: duplicate keys are seen, unknown fields refused.
struct RawHeader {
    metadata: Metadata,
    tensors: Vec<(String, RawTensor)>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut metadata = None;
                let mut tensors = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key != "__metadata__" {
                        tensors.push((key, map.next_value()?));
                    } else if metadata.replace(map.next_value::<Metadata>()?).is_some() {
                        return Err(A::Error::custom("`__metadata__` is there twice"));
                    }
                }
                Ok(RawHeader { metadata: metadata.unwrap_or_default(), tensors })
            }
        }
        d.deserialize_map(HeaderVisitor)
    }
}
