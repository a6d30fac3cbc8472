//! Number formats and their wire ids (spec: "Dtypes").

use crate::record::{Field, RecordLayout};

/// What is added to the number that GGUF has for a type of blocks.
const GGUF_IDS: u8 = 64;

/// Half-precision scales are in most blocks of quantised numbers.
const HALF: Field = Field::float(16, 5);

/// Small numbers, in runs of so many bytes.
const fn low(width: u8, count: u16, run: u8) -> Field {
    Field::unsigned(width).times(count).in_runs(run)
}

/// The bits above them.
const fn upper(width: u8, count: u16, run: u8) -> Field {
    Field::upper(width).times(count).in_runs(run)
}

const fn signed(count: u16) -> Field {
    Field::signed(8).times(count)
}

const fn bytes(count: u16) -> Field {
    Field::opaque(count)
}

fn record(fields: &[Field]) -> RecordLayout {
    RecordLayout::of_fields(fields)
}

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $elements:literal in $bytes:literal, $layout:expr;)*) => {
        /// The number format of a tensor's elements; names are those of safetensors, and of GGUF for its
        /// blocks of quantised numbers.
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

            /// The name used by safetensors, such as `BF16`, or GGUF, such as `Q4_K`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// How many elements are stored together, and in how many bytes: one, but for those of less
            /// than a byte and for blocks of quantised numbers.
            pub fn block(self) -> (u64, u64) {
                match self { $(Self::$variant => ($elements, $bytes)),* }
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
    Bool = 1, "BOOL", 1 in 1, RecordLayout::of(Field::unsigned(8));
    /// Unsigned 8-bit integer.
    U8 = 2, "U8", 1 in 1, RecordLayout::of(Field::unsigned(8));
    /// Signed 8-bit integer.
    I8 = 3, "I8", 1 in 1, RecordLayout::of(Field::signed(8));
    /// Unsigned 16-bit integer.
    U16 = 4, "U16", 1 in 2, RecordLayout::of(Field::unsigned(16));
    /// Signed 16-bit integer.
    I16 = 5, "I16", 1 in 2, RecordLayout::of(Field::signed(16));
    /// Unsigned 32-bit integer.
    U32 = 6, "U32", 1 in 4, RecordLayout::of(Field::unsigned(32));
    /// Signed 32-bit integer.
    I32 = 7, "I32", 1 in 4, RecordLayout::of(Field::signed(32));
    /// Unsigned 64-bit integer.
    U64 = 8, "U64", 1 in 8, RecordLayout::of(Field::unsigned(64));
    /// Signed 64-bit integer.
    I64 = 9, "I64", 1 in 8, RecordLayout::of(Field::signed(64));
    /// IEEE half precision.
    F16 = 16, "F16", 1 in 2, RecordLayout::of(HALF);
    /// Bfloat16.
    Bf16 = 17, "BF16", 1 in 2, RecordLayout::of(Field::float(16, 8));
    /// IEEE single precision.
    F32 = 18, "F32", 1 in 4, RecordLayout::of(Field::float(32, 8));
    /// IEEE double precision.
    F64 = 19, "F64", 1 in 8, RecordLayout::of(Field::float(64, 11));
    /// Complex number of two single-precision floats.
    C64 = 20, "C64", 1 in 8, RecordLayout::of(Field::float(32, 8).times(2));
    /// Complex number of two double-precision floats; safetensors has none.
    C128 = 21, "C128", 1 in 16, RecordLayout::of(Field::float(64, 11).times(2));
    /// 8-bit float, 4 exponent bits.
    F8E4M3 = 24, "F8_E4M3", 1 in 1, RecordLayout::of(Field::float(8, 4));
    /// 8-bit float, 5 exponent bits.
    F8E5M2 = 25, "F8_E5M2", 1 in 1, RecordLayout::of(Field::float(8, 5));
    /// 8-bit float, 4 exponent bits, finite, one zero.
    F8E4M3Fnuz = 26, "F8_E4M3FNUZ", 1 in 1, RecordLayout::of(Field::float(8, 4));
    /// 8-bit float, 5 exponent bits, finite, one zero.
    F8E5M2Fnuz = 27, "F8_E5M2FNUZ", 1 in 1, RecordLayout::of(Field::float(8, 5));
    /// A power of two in 8 bits: an exponent without sign and mantissa.
    F8E8M0 = 28, "F8_E8M0", 1 in 1, RecordLayout::of(Field::unsigned(8));
    /// 6-bit float, packed; opaque to the codec.
    F6E2M3 = 32, "F6_E2M3", 4 in 3, RecordLayout::opaque();
    /// 6-bit float, packed; opaque to the codec.
    F6E3M2 = 33, "F6_E3M2", 4 in 3, RecordLayout::opaque();
    /// 4-bit float, packed; opaque to the codec.
    F4 = 34, "F4", 2 in 1, RecordLayout::opaque();
    /// GGUF: 4 bits and a scale for 32.
    Q4_0 = 66, "Q4_0", 32 in 18, record(&[HALF, low(4, 32, 16)]);
    /// GGUF: 4 bits, a scale and a minimum for 32.
    Q4_1 = 67, "Q4_1", 32 in 20, record(&[HALF, HALF, low(4, 32, 16)]);
    /// GGUF: 5 bits and a scale for 32.
    Q5_0 = 70, "Q5_0", 32 in 22, record(&[HALF, upper(1, 32, 0), low(4, 32, 16)]);
    /// GGUF: 5 bits, a scale and a minimum for 32.
    Q5_1 = 71, "Q5_1", 32 in 24, record(&[HALF, HALF, upper(1, 32, 0), low(4, 32, 16)]);
    /// GGUF: 8 bits and a scale for 32.
    Q8_0 = 72, "Q8_0", 32 in 34, record(&[HALF, signed(32)]);
    /// GGUF: 8 bits, a scale and a sum for 32.
    Q8_1 = 73, "Q8_1", 32 in 40, record(&[Field::float(32, 8).times(2), signed(32)]);
    /// GGUF: 2 bits, and scales for 16.
    Q2K = 74, "Q2_K", 256 in 84, record(&[low(8, 16, 0), low(2, 256, 32), HALF, HALF]);
    /// GGUF: 3 bits, and scales for 16.
    Q3K = 75, "Q3_K", 256 in 110, record(&[upper(1, 256, 32), low(2, 256, 32), bytes(12), HALF]);
    /// GGUF: 4 bits, and scales for 32.
    Q4K = 76, "Q4_K", 256 in 144, record(&[HALF, HALF, bytes(12), low(4, 256, 32)]);
    /// GGUF: 5 bits, and scales for 32.
    Q5K = 77, "Q5_K", 256 in 176, record(&[HALF, HALF, bytes(12), upper(1, 256, 32), low(4, 256, 32)]);
    /// GGUF: 6 bits, and scales for 16.
    Q6K = 78, "Q6_K", 256 in 210, record(&[low(4, 256, 64), upper(2, 256, 32), signed(16), HALF]);
    /// GGUF: 8 bits, a scale for 256, and sums.
    Q8K = 79, "Q8_K", 256 in 292, record(&[Field::float(32, 8), signed(256), Field::signed(16).times(16)]);
    /// GGUF: about 2 bits, by a codebook.
    Iq2Xxs = 80, "IQ2_XXS", 256 in 66, record(&[HALF, bytes(64)]);
    /// GGUF: about 2 bits, by a codebook.
    Iq2Xs = 81, "IQ2_XS", 256 in 74, record(&[HALF, bytes(64), bytes(8)]);
    /// GGUF: about 3 bits, by a codebook.
    Iq3Xxs = 82, "IQ3_XXS", 256 in 98, record(&[HALF, bytes(64), bytes(32)]);
    /// GGUF: about 1.5 bits, by a codebook.
    Iq1S = 83, "IQ1_S", 256 in 50, record(&[HALF, bytes(32), bytes(16)]);
    /// GGUF: 4 bits that are not linear, and a scale for 32.
    Iq4Nl = 84, "IQ4_NL", 32 in 18, record(&[HALF, low(4, 32, 16)]);
    /// GGUF: about 3 bits, by a codebook.
    Iq3S = 85, "IQ3_S", 256 in 110, record(&[HALF, bytes(64), bytes(8), bytes(32), bytes(4)]);
    /// GGUF: about 2 bits, by a codebook.
    Iq2S = 86, "IQ2_S", 256 in 82, record(&[HALF, bytes(64), bytes(8), bytes(8)]);
    /// GGUF: 4 bits that are not linear, and scales for 32.
    Iq4Xs = 87, "IQ4_XS", 256 in 136, record(&[HALF, bytes(2), bytes(4), low(4, 256, 16)]);
    /// GGUF: about 1.75 bits, by a codebook.
    Iq1M = 93, "IQ1_M", 256 in 56, record(&[bytes(32), bytes(16), bytes(8)]);
    /// GGUF: three values, five to a byte.
    Tq1_0 = 98, "TQ1_0", 256 in 54, record(&[bytes(48), bytes(4), HALF]);
    /// GGUF: three values of 2 bits.
    Tq2_0 = 99, "TQ2_0", 256 in 66, record(&[low(2, 256, 32), HALF]);
    /// GGUF: 4-bit floats and a power of two for 32.
    Mxfp4 = 103, "MXFP4", 32 in 17, record(&[Field::exponent(), low(4, 32, 16)]);
    /// GGUF: 4-bit floats and 8-bit float scales for 16.
    Nvfp4 = 104, "NVFP4", 64 in 36, record(&[Field::float(8, 4).times(4), low(4, 64, 8)]);
    /// GGUF: signs and a scale for 128.
    Q1_0 = 105, "Q1_0", 128 in 18, record(&[HALF, low(1, 128, 0)]);
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
        match self.block() {
            (1, bytes) => usize::try_from(bytes).unwrap_or(0),
            _ => 0,
        }
    }

    /// Whether safetensors files may have it.
    pub(crate) fn is_in_safetensors(self) -> bool {
        self.wire_id() < GGUF_IDS && self != Self::C128
    }

    /// The dtype of blocks of quantised numbers that have this number in GGUF files.
    pub(crate) fn of_gguf(number: u32) -> Option<Self> {
        let id = number.checked_add(GGUF_IDS.into())?;
        Self::from_wire_id(u8::try_from(id).ok().filter(|id| *id > GGUF_IDS)?)
    }

    pub(crate) fn from_wire_id(id: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|d| d.wire_id() == id)
    }

    /// Bytes that `shape` takes, if they are whole blocks and fit 64 bits.
    pub fn bytes_of(self, shape: &[u64]) -> Option<u64> {
        let (elements, bytes) = self.block();
        let count = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d))?;
        (count / elements).checked_mul(bytes).filter(|_| count.is_multiple_of(elements))
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
            assert!(record.is_opaque() || u64::from(record.bytes()) == a.block().1);
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
