//! Serdes for any type that implements serde's traits.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use super::{Serde, SerdeRef};
use crate::{Error, Result};

/// See [`json()`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

/// JSON: readable by everything, 20 times slower than [`bincode()`]. Unknown fields are ignored, so fields may be added.
#[must_use]
pub fn json<T: Serialize + DeserializeOwned + 'static>() -> SerdeRef<T> {
    Arc::new(Json)
}

impl<T: Serialize + DeserializeOwned + 'static> Serde<T> for Json {
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        serde_json::to_writer(out, value)
            .map_err(|e| Error::processing("value cannot be written as JSON").with_source(e))
    }
    fn decode(&self, bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes).map_err(|e| {
            Error::processing(format!("not a {} as JSON", std::any::type_name::<T>())).with_source(e)
        })
    }
}

/// See [`bincode()`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Bincode;

/// bincode 2 with its standard configuration (variable-length integers): compact and fast. Fields are told apart by
/// their order only: changing the type changes the format.
#[must_use]
pub fn bincode<T: Serialize + DeserializeOwned + 'static>() -> SerdeRef<T> {
    Arc::new(Bincode)
}

/// More than this for one value is refused before memory is taken for it.
const VALUE_BYTES_MAX: usize = 64 << 20;

impl<T: Serialize + DeserializeOwned + 'static> Serde<T> for Bincode {
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        let config = bincode::config::standard();
        bincode::serde::encode_into_std_write(value, out, config)
            .map_err(|e| Error::processing("value cannot be written as bincode").with_source(e))?;
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<T> {
        let config = bincode::config::standard().with_limit::<VALUE_BYTES_MAX>();
        let name = std::any::type_name::<T>();
        let (value, read) = bincode::serde::decode_from_slice(bytes, config)
            .map_err(|e| Error::processing(format!("not a {name} as bincode")).with_source(e))?;
        if read == bytes.len() {
            Ok(value)
        } else {
            Err(Error::processing(format!(
                "bytes after the end of a {name}. read={read}, length={}",
                bytes.len()
            )))
        }
    }
    /// As JSON, which has the names of the fields.
    fn show(&self, bytes: &[u8]) -> Option<String> {
        let value: T = self.decode(bytes).ok()?;
        serde_json::to_string(&value).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Reading {
        sensor: String,
        value: f64,
    }

    #[test]
    fn both_formats_bring_a_value_back() {
        let reading = Reading { sensor: "a".into(), value: 1.5 };
        for serde in [json::<Reading>(), bincode::<Reading>()] {
            let mut bytes = Vec::new();
            serde.encode(&reading, &mut bytes).unwrap();
            assert_eq!(serde.decode(&bytes).unwrap(), reading);
            assert!(serde.decode(&bytes[..bytes.len() - 1]).is_err());
        }
    }

    #[test]
    fn bytes_behind_a_value_are_refused() {
        assert!(bincode::<u8>().decode(&[1, 2]).is_err());
        assert!(json::<u8>().decode(b"1 2").is_err());
        assert!(json::<u8>().decode(b"1}").is_err());
        assert_eq!(json::<u8>().decode(b" 1\n").unwrap(), 1);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert!(json::<String>().decode(b"\"\xff\"").is_err());
        assert!(bincode::<String>().decode(&[1, 0xff]).is_err());
        assert!(bincode::<bool>().decode(&[2]).is_err());
        assert!(bincode::<char>().decode(&[0xff]).is_err());
    }

    /// JSON has no word for it, and `null` would come back as an error.
    #[test]
    fn a_number_that_json_cannot_hold_does_not_come_back_as_another() {
        let mut bytes = Vec::new();
        json::<f64>().encode(&f64::NAN, &mut bytes).unwrap();
        assert!(json::<f64>().decode(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn any_value_comes_back_and_hostile_bytes_do_no_harm(
            value: (String, Option<i64>, Vec<u8>, bool, char),
            hostile: Vec<u8>,
        ) {
            for serde in [json::<(String, Option<i64>, Vec<u8>, bool, char)>(), bincode()] {
                let mut bytes = Vec::new();
                serde.encode(&value, &mut bytes).unwrap();
                prop_assert_eq!(&serde.decode(&bytes).unwrap(), &value);
                let _ = serde.decode(&hostile);
            }
        }
    }

    #[test]
    fn a_length_that_lies_takes_no_memory() {
        let lie = [0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(bincode::<Vec<u64>>().decode(&lie).is_err());
        assert!(bincode::<String>().decode(&lie).is_err());
    }
}
