//! Canonical bytes and BLAKE3 hashes.
//!
//! One canonical form: every value is written with a one-byte kind, lengths as
//! u64 little endian, floats by their bits, fields by name in the order the
//! caller gives (callers write fields in a fixed order and leave out defaults).
//! Two different values never give the same bytes, because every variable
//! part carries its length.

use std::fmt;
use std::str::FromStr;

/// A 256-bit BLAKE3 hash, printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of plain bytes, as `b3sum` prints it.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Hash(*blake3::hash(bytes).as_bytes())
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_string()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Hash {
    type Err = String;

    /// Errors: anything but 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a hash of 64 hexadecimal digits");
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut out = [0u8; 32];
        for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        Ok(Hash(out))
    }
}

impl serde::Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Feeds typed values into a hash in the canonical form.
pub struct CanonicalHasher(blake3::Hasher);

impl CanonicalHasher {
    /// Starts a hash in its own domain, e.g. `llmc.spec.v1`, so that equal
    /// content of two kinds never has one hash.
    pub fn new(domain: &str) -> Self {
        let mut hasher = CanonicalHasher(blake3::Hasher::new());
        hasher.str(domain);
        hasher
    }

    fn kind(&mut self, kind: u8) {
        self.0.update(&[kind]);
    }

    /// The name of the field whose value follows.
    pub fn field(&mut self, name: &str) -> &mut Self {
        self.kind(b'F');
        self.raw(name.as_bytes());
        self
    }

    /// A text.
    pub fn str(&mut self, text: &str) -> &mut Self {
        self.kind(b's');
        self.raw(text.as_bytes());
        self
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.kind(b'b');
        self.raw(bytes);
        self
    }

    /// A signed integer of any width.
    pub fn int(&mut self, value: i128) -> &mut Self {
        self.kind(b'i');
        self.0.update(&value.to_le_bytes());
        self
    }

    /// A float, by its bits.
    pub fn f64(&mut self, value: f64) -> &mut Self {
        self.kind(b'f');
        self.0.update(&value.to_bits().to_le_bytes());
        self
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.kind(if value { b'T' } else { b'N' });
        self
    }

    /// The start of a sequence of `len` values.
    pub fn seq(&mut self, len: usize) -> &mut Self {
        self.kind(b'[');
        self.0.update(&(len as u64).to_le_bytes());
        self
    }

    /// Another artifact's hash.
    pub fn hash(&mut self, hash: &Hash) -> &mut Self {
        self.kind(b'h');
        self.0.update(&hash.0);
        self
    }

    /// A JSON value: objects by sorted key, so key order never matters.
    pub fn json(&mut self, value: &serde_json::Value) -> &mut Self {
        use serde_json::Value;
        match value {
            Value::Null => {
                self.kind(b'0');
            }
            Value::Bool(b) => {
                self.bool(*b);
            }
            Value::Number(n) => {
                if let Some(i) = n.as_i128() {
                    self.int(i);
                } else {
                    self.f64(n.as_f64().unwrap_or(f64::NAN));
                }
            }
            Value::String(s) => {
                self.str(s);
            }
            Value::Array(items) => {
                self.seq(items.len());
                for item in items {
                    self.json(item);
                }
            }
            Value::Object(map) => {
                let mut keys: Vec<_> = map.keys().collect();
                keys.sort();
                self.kind(b'{');
                self.0.update(&(keys.len() as u64).to_le_bytes());
                for key in keys {
                    self.field(key).json(&map[key]);
                }
            }
        }
        self
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// The hash of everything fed so far.
    pub fn finish(&self) -> Hash {
        Hash(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_keep_neighbours_apart() {
        let ab = CanonicalHasher::new("t").str("ab").str("c").finish();
        let a = CanonicalHasher::new("t").str("a").str("bc").finish();
        assert_ne!(ab, a);
    }

    #[test]
    fn domains_keep_kinds_apart() {
        assert_ne!(CanonicalHasher::new("a").finish(), CanonicalHasher::new("b").finish());
    }

    #[test]
    fn json_key_order_does_not_matter_but_values_do() {
        let hash = |text: &str| {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            CanonicalHasher::new("t").json(&value).finish()
        };
        assert_eq!(hash(r#"{"a":1,"b":2.5}"#), hash(r#"{"b":2.5,"a":1}"#));
        assert_ne!(hash(r#"{"a":1,"b":2.5}"#), hash(r#"{"a":1,"b":2.25}"#));
        assert_ne!(hash("1"), hash("1.0"));
    }

    #[test]
    fn text_form_round_trips() {
        let hash = Hash::of_bytes(b"llmc");
        assert_eq!(hash.to_string().parse::<Hash>().unwrap(), hash);
        assert!("zz".parse::<Hash>().is_err());
    }
}
