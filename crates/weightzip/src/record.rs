//! How the codec sees data: records of fields (spec: "Record layout").

use crate::error::{Error, Result};
use weightzip_kernels::field::Float;

/// What the bits of a field mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Bytes of which nothing is known.
    Opaque,
    /// Unsigned integer.
    Unsigned,
    /// Two's-complement integer.
    Signed,
    /// Sign bit on top, then the exponent, then the mantissa.
    Float {
        /// Bits of the exponent; the mantissa has `width - 1 - exponent_bits`.
        exponent_bits: u8,
    },
    /// The upper bits of the numbers in the field of small numbers.
    Upper,
    /// The exponent of a power of two.
    Exponent,
}

/// Byte order of a record's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// `count` equal numbers, one after another, from `bit_offset` of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// First bit, counted from the record's start.
    pub bit_offset: u16,
    /// How many numbers.
    pub count: u16,
    /// Bits per number.
    pub width: u8,
    /// What they mean.
    pub role: Role,
    /// How numbers of less than a byte are laid out: 0 in the order of their bits; else in runs of so many
    /// bytes, first the lowest bits of each byte of a run, then the bits above these, and so on.
    pub run: u8,
}

impl Field {
    const fn one(width: u8, role: Role) -> Self {
        Self { bit_offset: 0, count: 1, width, role, run: 0 }
    }
    /// One unsigned integer of `width` bits.
    pub const fn unsigned(width: u8) -> Self {
        Self::one(width, Role::Unsigned)
    }
    /// One signed integer of `width` bits.
    pub const fn signed(width: u8) -> Self {
        Self::one(width, Role::Signed)
    }
    /// One float of `width` bits, `exponent_bits` of them exponent.
    pub const fn float(width: u8, exponent_bits: u8) -> Self {
        Self::one(width, Role::Float { exponent_bits })
    }
    /// `count` of these in a row.
    #[must_use]
    pub const fn times(self, count: u16) -> Self {
        Self { count, ..self }
    }
    /// The same, in runs of so many bytes.
    #[must_use]
    pub const fn in_runs(self, run: u8) -> Self {
        Self { run, ..self }
    }
    /// Bytes without structure.
    pub const fn opaque(bytes: u16) -> Self {
        Self::one(8, Role::Opaque).times(bytes)
    }
    /// One number whose bits are above those of a number of the field of small numbers.
    pub const fn upper(width: u8) -> Self {
        Self::one(width, Role::Upper)
    }
    /// The exponent of a power of two.
    pub const fn exponent() -> Self {
        Self::one(8, Role::Exponent)
    }

    /// Bits that all its numbers take.
    pub(crate) fn bits(&self) -> u32 {
        u32::from(self.width) * u32::from(self.count)
    }
}

/// Bytes per record, byte order, and the fields.
///
/// A BF16 value is a record of one field; a complex number one field that counts two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordLayout {
    bytes: u16,
    order: ByteOrder,
    fields: Vec<Field>,
}

/// The largest record that the format can say, in bytes.
const MAX_RECORD_BYTES: u16 = 4096;

impl RecordLayout {
    /// Bytes without structure: one byte per record.
    pub fn opaque() -> Self {
        Self::of(Field::one(8, Role::Opaque))
    }

    /// A little-endian record of one field that fills whole bytes.
    pub(crate) fn of(field: Field) -> Self {
        let bytes = u16::from(field.width / 8).saturating_mul(field.count);
        Self { bytes, order: ByteOrder::Little, fields: vec![field] }
    }

    /// A little-endian record of these fields, one behind the other, that fills whole bytes.
    pub(crate) fn of_fields(fields: &[Field]) -> Self {
        let mut bits = 0u16;
        let place = |&field: &Field| {
            let bit_offset = bits;
            bits = bits.saturating_add(u16::try_from(field.bits()).unwrap_or(u16::MAX));
            Field { bit_offset, ..field }
        };
        let fields = fields.iter().map(place).collect();
        Self { bytes: bits / 8, order: ByteOrder::Little, fields }
    }

    /// The same records in this byte order.
    #[must_use]
    pub(crate) fn ordered(self, order: ByteOrder) -> Self {
        Self { order, ..self }
    }

    /// A record of `bytes` bytes.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) unless `bytes` is 1 to 4096, there are 1 to 255 fields in order of their
    /// offset, none overlaps or leaves the record, widths are 1 to 64 bits, a float has room
    /// for its exponent (1 to 11 bits), and only numbers of 1, 2 or 4 bits that fill whole runs are in runs.
    ///
    /// ```
    /// use weightzip::{ByteOrder, Field, RecordLayout};
    /// let bf16 = RecordLayout::new(2, ByteOrder::Big, vec![Field::float(16, 8)])?;
    /// assert_eq!(bf16.bytes(), 2);
    /// # Ok::<(), weightzip::Error>(())
    /// ```
    pub fn new(bytes: u16, order: ByteOrder, fields: Vec<Field>) -> Result<Self> {
        let bad = |why: &str| Err(Error::argument(format!("record layout: {why}")));
        if bytes == 0 || bytes > MAX_RECORD_BYTES {
            return bad("a record has 1 to 4096 bytes");
        }
        if fields.is_empty() || fields.len() > 255 {
            return bad("a record has 1 to 255 fields");
        }
        let mut end = 0u32;
        for f in &fields {
            if f.width == 0 || f.width > 64 || f.count == 0 {
                return bad("a field has 1 to 64 bits and counts at least one");
            }
            if let Role::Float { exponent_bits } = f.role
                && (exponent_bits == 0 || exponent_bits > 11 || exponent_bits >= f.width)
            {
                return bad("a float's exponent has 1 to 11 bits and leaves room for the sign");
            }
            let bytes = f.bits() / 8;
            let runs = matches!(f.width, 1 | 2 | 4)
                && f.bit_offset.is_multiple_of(8)
                && f.bits().is_multiple_of(8)
                && bytes.is_multiple_of(f.run.into());
            if f.run > 0 && !runs {
                return bad("only numbers of 1, 2 or 4 bits that fill whole runs are in runs");
            }
            if u32::from(f.bit_offset) < end {
                return bad("fields overlap or are out of order");
            }
            end = u32::from(f.bit_offset) + f.bits();
        }
        if end > u32::from(bytes) * 8 {
            return bad("a field leaves the record");
        }
        Ok(Self { bytes, order, fields })
    }

    /// Whether it is an integer of 32 bits, little-endian, and so may have smaller ones packed into it.
    pub(crate) fn is_word(&self) -> bool {
        let is_integer = matches!(self.fields[..], [Field { width: 32, count: 1, role, .. }]
            if matches!(role, Role::Unsigned | Role::Signed));
        is_integer && self.bytes == 4 && self.order == ByteOrder::Little
    }

    /// Bytes per record.
    pub fn bytes(&self) -> u16 {
        self.bytes
    }

    /// Byte order of the record's numbers.
    pub fn order(&self) -> ByteOrder {
        self.order
    }

    /// The fields, by offset.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Whether nothing is known of the bytes.
    pub fn is_opaque(&self) -> bool {
        self.fields.iter().all(|f| f.role == Role::Opaque)
    }

    /// If the record is floats of one kind and nothing else: that kind.
    pub(crate) fn floats(&self) -> Option<Float> {
        let [Field { bit_offset: 0, count, width, role: Role::Float { exponent_bits }, .. }] =
            self.fields[..]
        else {
            return None;
        };
        let whole = u32::from(width) * u32::from(count) == u32::from(self.bytes) * 8;
        (whole && matches!(width, 8 | 16 | 32 | 64)).then_some(Float {
            bytes: usize::from(width / 8),
            exponent_bits: u32::from(exponent_bits),
            top_bits: 0,
            big_endian: self.order == ByteOrder::Big,
        })
    }
}
