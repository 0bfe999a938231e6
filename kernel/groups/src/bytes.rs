//! Bytes in what is encoded: copied as a whole. Without it serde hands a slice over byte by byte; what is encoded is the same.

use serde::{Deserialize, Deserializer, Serializer};

pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(bytes)
}

pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<&'de [u8], D::Error> {
    <&[u8]>::deserialize(from)
}
