//! Number formats and their wire ids (spec: "Dtypes").

use crate::record::{Field, RecordLayout};

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $bits:literal, $layout:expr;)*) => {
        /// The number format of a tensor's elements; names are those of safetensors.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Dtype { $($(#[$doc])* $variant),* }

        impl Dtype {
            /// Every dtype, in the order of their wire ids.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The id in a directory entry.
            pub fn wire_id(self) -> u8 {
                match self { $(Self::$variant => $id),* }
            }

            /// The name used by safetensors, such as `BF16`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Bits per element.
            pub fn bits(self) -> u64 {
                match self { $(Self::$variant => $bits),* }
            }

            /// How the codec sees elements of this dtype; opaque bytes where a record can't say it.
            pub fn record_layout(self) -> RecordLayout {
                match self { $(Self::$variant => $layout),* }
            }
        }
    };
}

dtypes! {
    /// One byte per boolean.
    Bool = 1, "BOOL", 8, RecordLayout::of(Field::unsigned(8));
    /// Unsigned 8-bit integer.
    U8 = 2, "U8", 8, RecordLayout::of(Field::unsigned(8));
    /// Signed 8-bit integer.
    I8 = 3, "I8", 8, RecordLayout::of(Field::signed(8));
    /// Unsigned 16-bit integer.
    U16 = 4, "U16", 16, RecordLayout::of(Field::unsigned(16));
    /// Signed 16-bit integer.
    I16 = 5, "I16", 16, RecordLayout::of(Field::signed(16));
    /// Unsigned 32-bit integer.
    U32 = 6, "U32", 32, RecordLayout::of(Field::unsigned(32));
    /// Signed 32-bit integer.
    I32 = 7, "I32", 32, RecordLayout::of(Field::signed(32));
    /// Unsigned 64-bit integer.
    U64 = 8, "U64", 64, RecordLayout::of(Field::unsigned(64));
    /// Signed 64-bit integer.
    I64 = 9, "I64", 64, RecordLayout::of(Field::signed(64));
    /// IEEE half precision.
    F16 = 16, "F16", 16, RecordLayout::of(Field::float(16, 5));
    /// Bfloat16.
    Bf16 = 17, "BF16", 16, RecordLayout::of(Field::float(16, 8));
    /// IEEE single precision.
    F32 = 18, "F32", 32, RecordLayout::of(Field::float(32, 8));
    /// IEEE double precision.
    F64 = 19, "F64", 64, RecordLayout::of(Field::float(64, 11));
    /// Complex number of two single-precision floats.
    C64 = 20, "C64", 64, RecordLayout::of(Field::float(32, 8).times(2));
    /// 8-bit float, 4 exponent bits.
    F8E4M3 = 24, "F8_E4M3", 8, RecordLayout::of(Field::float(8, 4));
    /// 8-bit float, 5 exponent bits.
    F8E5M2 = 25, "F8_E5M2", 8, RecordLayout::of(Field::float(8, 5));
    /// 8-bit float, 4 exponent bits, finite, one zero.
    F8E4M3Fnuz = 26, "F8_E4M3FNUZ", 8, RecordLayout::of(Field::float(8, 4));
    /// 8-bit float, 5 exponent bits, finite, one zero.
    F8E5M2Fnuz = 27, "F8_E5M2FNUZ", 8, RecordLayout::of(Field::float(8, 5));
    /// A power of two in 8 bits: an exponent without sign and mantissa.
    F8E8M0 = 28, "F8_E8M0", 8, RecordLayout::of(Field::unsigned(8));
    /// 6-bit float, packed; opaque to the codec.
    F6E2M3 = 32, "F6_E2M3", 6, RecordLayout::opaque();
    /// 6-bit float, packed; opaque to the codec.
    F6E3M2 = 33, "F6_E3M2", 6, RecordLayout::opaque();
    /// 4-bit float, packed; opaque to the codec.
    F4 = 34, "F4", 4, RecordLayout::opaque();
}

impl Dtype {
    /// The dtype of a safetensors name.
    ///
    /// ```
    /// use weightzip::Dtype;
    /// assert_eq!(Dtype::from_name("BF16"), Some(Dtype::Bf16));
    /// assert_eq!(Dtype::from_name("bf16"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|d| d.name() == name)
    }

    /// The floats that bases are converted between (spec: "Conversion").
    pub(crate) const CONVERTIBLE: [Self; 3] = [Self::F16, Self::Bf16, Self::F32];

    /// The one of these that records are, if they are one.
    pub(crate) fn convertible(layout: &RecordLayout) -> Option<Self> {
        Self::CONVERTIBLE.into_iter().find(|dtype| dtype.record_layout() == *layout)
    }

    /// Bytes per element of a dtype that has whole ones.
    pub(crate) fn bytes(self) -> usize {
        usize::try_from(self.bits() / 8).unwrap_or(0)
    }

    pub(crate) fn from_wire_id(id: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|d| d.wire_id() == id)
    }

    /// Bytes that `shape` takes, if they are a whole number that fits 64 bits.
    pub fn bytes_of(self, shape: &[u64]) -> Option<u64> {
        let bits = shape.iter().try_fold(self.bits(), |n, &d| n.checked_mul(d))?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_unique_and_layouts_fit() {
        for (i, a) in Dtype::ALL.iter().enumerate() {
            assert_eq!(Dtype::from_name(a.name()), Some(*a));
            assert_eq!(Dtype::from_wire_id(a.wire_id()), Some(*a));
            assert!(Dtype::ALL[..i].iter().all(|b| b.wire_id() < a.wire_id()));
            let record = a.record_layout();
            assert!(record.is_opaque() || u64::from(record.bytes()) * 8 == a.bits());
        }
    }

    #[test]
    fn bytes_of_refuses_overflow_and_half_bytes() {
        assert_eq!(Dtype::F4.bytes_of(&[3]), None);
        assert_eq!(Dtype::F4.bytes_of(&[2, 3]), Some(3));
        assert_eq!(Dtype::F64.bytes_of(&[u64::MAX, 2]), None);
        assert_eq!(Dtype::F32.bytes_of(&[]), Some(4));
        assert_eq!(Dtype::F32.bytes_of(&[7, 0]), Some(0));
    }
}
