//! Blocks within blocks (spec: "Blocks within blocks"): the parts of a payload that are payloads themselves, and which codings
//! they may have. This is the one place where they are coded and decoded; so how deep they nest follows from one table.

use super::{
    Block, Coding, Given, Hints, begin, decode_unchecked, dense, raw, records_of, smallest,
};
use super::{base, to_u32};
use crate::error::{Error, Kind, Result};
use crate::record::RecordLayout;

/// A part of a payload that is a block itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Bytes or integers that say where or which something is: places, symbols, codes and their tables.
    Plain,
    /// The floats of *guess*.
    Floats,
    /// A column of *fields*.
    Column,
    /// The same, next to another column.
    Beside,
    /// The records of *zeros* that are not zero.
    NonZero,
    /// The records of *sparse* that differ from the base.
    Changed,
}

impl Part {
    /// Whether the part's payload may have this coding.
    pub(super) fn takes(self, coding: Coding) -> bool {
        use Coding::{
            Bytes, Constant, Difference, Fields, Fixed, FixedDelta, Guess, Packed, Palette, Planes,
            Ranges, Ranks, Raw, Scaled, Sparse, Steps, Xor, Zeros, Zstd,
        };
        use Part::{Beside, Changed, Column, Floats, NonZero};
        match coding {
            Raw | Constant | Zstd | Planes | Ranges | Bytes | Ranks => self != Beside,
            Fixed | Palette => matches!(self, Floats | Column | NonZero | Changed),
            Zeros => matches!(self, Floats | Column | Changed),
            Packed => self == Column,
            Fields | Guess | Xor | Steps | FixedDelta => self == Changed,
            Difference => matches!(self, Beside | Changed),
            Sparse | Scaled => false,
        }
    }

    /// The coding with this wire id.
    ///
    /// # Errors
    /// Corruption if the part can't have it.
    pub(super) fn coding(self, id: u8) -> Result<Coding> {
        let coding = Coding::from_wire_id(id)?;
        match self.takes(coding) {
            true => Ok(coding),
            false => Err(Error::corrupt(format!(
                "a block has a {} block where none can be",
                coding.name()
            ))),
        }
    }

    /// Codes records in place of what is in `payload`, against `base` if that makes them smaller; returns the coding and where
    /// the payload starts.
    pub(super) fn encode(
        self,
        layout: &RecordLayout,
        base: Option<&[u8]>,
        hints: Hints,
        data: &[u8],
        payload: &mut Vec<u8>,
    ) -> Result<(Coding, usize)> {
        let records = to_u32(data.len() / usize::from(layout.bytes()))?;
        let (coding, start) = match self {
            Self::Plain => dense(layout, None, hints, records, data, payload)?,
            Self::Changed => {
                let given = Given { base, context: None };
                base::encode_dense(layout, given, hints, records, data, payload)?
            }
            _ => smallest(layout, None, hints, records, data, payload)?,
        };
        if self.takes(coding) {
            return Ok((coding, start));
        }
        begin(records, payload);
        raw::encode(data, payload);
        Ok((Coding::Raw, 0))
    }

    /// Decodes the part's payload into `out`, which it must fill. It has no checksum of its own, for the whole block has one.
    pub(super) fn decode(
        self,
        id: u8,
        layout: &RecordLayout,
        base: Option<&[u8]>,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<()> {
        let (coding, records) = (self.coding(id)?, records_of(payload)?);
        let block = Block { coding, records, check: 0, payload };
        let done = decode_unchecked(layout, Given { base, context: None }, &block, out);
        done.map_err(|e| match e.kind() {
            // Whatever it was given is in the block, too.
            Kind::InvalidArgument => {
                Error::corrupt("a block has a block within it of another length, or another base")
            }
            _ => e,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{PREAMBLE, decode_block_into};
    use crate::dtype::Dtype;

    /// The parts of a coding's payload that are blocks of any coding.
    fn parts(coding: Coding) -> &'static [Part] {
        match coding {
            Coding::Sparse => &[Part::Plain, Part::Changed],
            Coding::Zeros => &[Part::Plain, Part::NonZero],
            Coding::Fixed | Coding::FixedDelta | Coding::Palette => &[Part::Plain],
            Coding::Fields => &[Part::Plain, Part::Column, Part::Beside],
            Coding::Guess => &[Part::Floats],
            _ => &[],
        }
    }

    /// How many payloads are within one another, at most; never returns if there is no end.
    fn depth(coding: Coding) -> usize {
        let inner = parts(coding).iter().flat_map(|part| {
            Coding::ALL.iter().filter(|inner| part.takes(**inner)).map(|inner| depth(*inner))
        });
        1 + inner.max().unwrap_or(0)
    }

    #[test]
    fn blocks_nest_at_most_five_deep() {
        let deepest = Coding::ALL.iter().map(|coding| depth(*coding)).max();
        assert_eq!(deepest, Some(5), "as spec/format.md says");
        assert_eq!(depth(Coding::Guess), 4);
    }

    /// A payload of this coding, of so many records.
    fn payload(records: u32, own: &[u8], body: &[u8]) -> Vec<u8> {
        let mut payload = records.to_le_bytes().to_vec();
        payload.extend(own);
        payload.resize(PREAMBLE, 0);
        payload.extend(body);
        payload
    }

    /// Floats whose symbols are a guess whose floats are again of their coding.
    #[test]
    fn a_nest_without_end_is_refused() {
        let zeros = payload(8, &[], &[0; 8]);
        let inner = payload(8, &[Coding::Raw.wire_id(), 0, 0, 0], &zeros);
        let guess = payload(32, &[Coding::Fixed.wire_id(), Dtype::F32.wire_id()], &inner);
        let outer = payload(32, &[Coding::Guess.wire_id()], &guess);
        let (layout, mut out) = (Dtype::F32.record_layout(), [1; 128]);
        let block = Block { coding: Coding::Fixed, records: 32, check: 0, payload: &outer };
        let error = decode_block_into(&layout, None, &block, &mut out).unwrap_err();
        assert_eq!(error.kind(), Kind::Corruption);
        assert!(error.message().contains("guess"), "{error}");
        // What is within is right in itself.
        let block = Block { coding: Coding::Guess, records: 32, check: 0, payload: &guess };
        let done = decode_unchecked(&RecordLayout::opaque(), None, &block, &mut out[..32]);
        done.unwrap();
        assert_eq!(out[..32], [0; 32]);
    }
}
