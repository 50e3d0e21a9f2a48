//! Pages of SQLite, against the real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::record::{Value, values, varint};
use crate::cataloger::rpm::testing::varint_of;

/// A value, by its type number and bytes.
fn encoded() -> impl Strategy<Value = (u64, Vec<u8>)> {
    let bytes = prop::collection::vec(any::<u8>(), 0..80);
    prop_oneof![
        Just((0, Vec::new())),
        Just((8, Vec::new())),
        Just((9, Vec::new())),
        any::<i8>().prop_map(|value| (1, value.to_be_bytes().to_vec())),
        any::<i32>().prop_map(|value| (4, value.to_be_bytes().to_vec())),
        any::<i64>().prop_map(|value| (5, (value >> 16).to_be_bytes()[2..].to_vec())),
        any::<i64>().prop_map(|value| (6, value.to_be_bytes().to_vec())),
        (bytes, 0_u64..2).prop_map(|(bytes, odd)| (12 + odd + 2 * bytes.len() as u64, bytes)),
    ]
}

proptest! {
    #[test]
    fn numbers_of_variable_length_are_those_written(value: u64, shift in 0_u32..64, rest: Vec<u8>) {
        let value = value >> shift;
        let mut bytes = varint_of(value);
        bytes.extend(&rest);
        prop_assert_eq!(varint(&bytes), Some((value, rest.as_slice())));
    }

    #[test]
    fn values_are_those_written(row in prop::collection::vec(encoded(), 0..8)) {
        let types: Vec<u8> = row.iter().flat_map(|(kind, _)| varint_of(*kind)).collect();
        let mut bytes = vec![types.len() as u8 + 1];
        prop_assume!(types.len() < 127);
        bytes.extend(types);
        row.iter().for_each(|(_, value)| bytes.extend(value));
        let found: Vec<_> = values(&bytes).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(found.len(), row.len());
        for (found, (kind, bytes)) in found.into_iter().zip(&row) {
            let expected = match kind {
                0 => Value::Null,
                8 => Value::Integer(0),
                9 => Value::Integer(1),
                1..=6 => {
                    let mut eight = [if bytes[0] >= 128 { 255 } else { 0 }; 8];
                    eight[8 - bytes.len()..].copy_from_slice(bytes);
                    Value::Integer(i64::from_be_bytes(eight))
                }
                kind if kind % 2 == 0 => Value::Blob(bytes),
                _ => Value::Text(bytes),
            };
            prop_assert_eq!(found, expected);
        }
        // Cut anywhere, it is an error and not a shorter row.
        if let Some(cut) = bytes.len().checked_sub(1) {
            prop_assert!(values(&bytes[..cut]).any(|value| value.is_err()));
        }
    }

    #[test]
    fn a26_bytes_at_random_end(bytes: Vec<u8>) {
        prop_assert!(values(&bytes).count() <= bytes.len() + 1);
    }
}
