//! The built-in serdes: Kafka's bytes, what is refused, and which bytes sort like their values.

use std::fmt::Debug;

use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

fn encoded<T: DefaultSerde>(value: &T) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    T::default_serde().encode_nullable(value, &mut bytes).unwrap().then_some(bytes)
}

#[track_caller]
fn round_trip<T: DefaultSerde + PartialEq + Debug>(value: &T, expected: Option<&[u8]>) {
    let bytes = encoded(value);
    assert_eq!(bytes.as_deref(), expected);
    assert_eq!(&T::default_serde().decode_nullable(bytes.as_deref()).unwrap(), value);
}

#[track_caller]
fn refused<T: DefaultSerde + Debug>(bytes: &[u8]) {
    let error = T::default_serde().decode(bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Processing);
}

#[test]
fn bytes_are_those_of_kafka() {
    round_trip(&"grüße".to_owned(), Some("grüße".as_bytes()));
    round_trip(&String::new(), Some(b""));
    round_trip(&0xfeu8, Some(&[0xfe]));
    round_trip(&0x0102u16, Some(&[1, 2]));
    round_trip(&0x0102_0304u32, Some(&[1, 2, 3, 4]));
    round_trip(&1u64, Some(&[0, 0, 0, 0, 0, 0, 0, 1]));
    round_trip(&-2i8, Some(&[0xfe]));
    round_trip(&-2i16, Some(&[0xff, 0xfe]));
    round_trip(&-2i32, Some(&[0xff, 0xff, 0xff, 0xfe]));
    round_trip(&i64::MIN, Some(&[0x80, 0, 0, 0, 0, 0, 0, 0]));
    round_trip(&1.5f32, Some(&[0x3f, 0xc0, 0, 0]));
    round_trip(&1.5f64, Some(&[0x3f, 0xf8, 0, 0, 0, 0, 0, 0]));
    round_trip(&true, Some(&[1]));
    round_trip(&false, Some(&[0]));
    round_trip(&Bytes::from_static(b"\xff\0"), Some(b"\xff\0"));
    round_trip(&vec![0xffu8, 0], Some(b"\xff\0"));
    round_trip(&Uuid::nil(), Some(b"00000000-0000-0000-0000-000000000000"));
    round_trip(&Uuid::from_u128(0xABCD), Some(b"00000000-0000-0000-0000-00000000abcd"));
    round_trip(&(), None);
    round_trip(&None::<String>, None);
    round_trip(&Some("x".to_owned()), Some(b"x"));
    round_trip(&("a".to_owned(), 1u8), Some(&[0, 0, 0, 1, b'a', 0, 0, 0, 1, 1]));
    round_trip(&(None::<String>, 1u8), Some(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1]));
}

#[test]
fn numbers_of_another_width_are_refused() {
    macro_rules! widths {
        ($($type:ty),*) => {$(
            for length in (0..=16).filter(|length| *length != size_of::<$type>()) {
                refused::<$type>(&vec![0; length]);
            }
        )*};
    }
    widths!(u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);
}

#[test]
fn what_is_not_a_value_is_refused() {
    refused::<String>(&[0xff]);
    refused::<String>(b"cut\xe2\x82");
    for bytes in [&[][..], &[2], &[0, 0], &[1, 1]] {
        refused::<bool>(bytes);
    }
    for text in ["", "no", "00000000-0000-0000-0000-00000000000", "00000000-0000-0000-0000-0000000000000"] {
        refused::<Uuid>(text.as_bytes());
    }
    refused::<Uuid>(&[0xff; 36]);
    refused::<Option<u32>>(&[1]);
}

#[test]
fn tuples_cut_short_or_too_long_are_refused() {
    type Three = (String, u8, Option<u16>);
    let whole = encoded(&("a".to_owned(), 1u8, Some(2u16))).unwrap();
    for length in 0..whole.len() {
        refused::<Three>(&whole[..length]);
    }
    refused::<Three>(&[&whole[..], &[0]].concat());
    // A part that is longer than all there is, one with a length that no part has, and null where a value is needed.
    refused::<(String, u8)>(&[0, 0, 0, 9, 1]);
    refused::<(String, u8)>(&[0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 1, 1]);
    refused::<(String, u8)>(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1]);
}

#[test]
fn null_is_for_those_that_ask_for_it() {
    assert!(String::default_serde().decode_nullable(None).is_err());
    assert!(u64::default_serde().decode_nullable(None).is_err());
    assert!(<(u8, u8)>::default_serde().decode_nullable(None).is_err());
    assert_eq!(<Option<u64>>::default_serde().decode_nullable(None).unwrap(), None);
    <()>::default_serde().decode_nullable(None).unwrap();
    <()>::default_serde().decode(b"anything").unwrap();
}

/// Whether the bytes of two values sort as the values do.
fn sorted_alike<T: DefaultSerde + Ord>(one: &T, other: &T) -> bool {
    encoded(one).cmp(&encoded(other)) == one.cmp(other)
}

macro_rules! order {
    ($($name:ident: $type:ty),*) => {
        proptest! {$(
            #[test]
            fn $name(one: $type, other: $type) {
                prop_assert!(sorted_alike(&one, &other));
            }
        )*}
    };
}
order!(
    bytes_sort_like_u8: u8, bytes_sort_like_u16: u16, bytes_sort_like_u32: u32, bytes_sort_like_u64: u64,
    bytes_sort_like_strings: String, bytes_sort_like_bools: bool, bytes_sort_like_byte_vectors: Vec<u8>
);

proptest! {
    #[test]
    fn bytes_sort_like_uuids(one: u128, other: u128) {
        prop_assert!(sorted_alike(&Uuid::from_u128(one), &Uuid::from_u128(other)));
    }

    #[test]
    fn bytes_sort_like_bytes(one: Vec<u8>, other: Vec<u8>) {
        prop_assert!(sorted_alike(&Bytes::from(one), &Bytes::from(other)));
    }

    /// Negative numbers come behind the others: two's complement, as Kafka has it.
    #[test]
    fn bytes_sort_like_signed_numbers_of_one_sign(one: i64, other: i64) {
        let alike = (one < 0) == (other < 0);
        prop_assert_eq!(sorted_alike(&one, &other), alike);
        let (one, other) = ((one >> 32) as i32, (other >> 32) as i32);
        prop_assert_eq!(sorted_alike(&one, &other), alike);
    }

    #[test]
    fn parts_of_a_tuple_come_back(value: (String, Option<i64>, Vec<u8>, bool)) {
        let bytes = encoded(&value).unwrap();
        prop_assert_eq!(<(String, Option<i64>, Vec<u8>, bool)>::default_serde().decode(&bytes).unwrap(), value);
    }

    /// Each NaN included.
    #[test]
    fn floats_come_back_bit_for_bit(bits: u64) {
        let value = f64::from_bits(bits);
        let bytes = encoded(&value).unwrap();
        prop_assert_eq!(f64::default_serde().decode(&bytes).unwrap().to_bits(), bits);
    }

    #[test]
    fn hostile_bytes_do_no_harm(bytes: Vec<u8>) {
        let _ = <((String, u8), Option<(Uuid, bool)>, Bytes)>::default_serde().decode(&bytes);
        let _ = Uuid::default_serde().decode(&bytes);
    }
}
