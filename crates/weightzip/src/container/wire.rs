//! Reading and writing of the container's integers and strings (spec: "Conventions").

use crate::error::{Error, Result};

/// Longest name, writer or level in bytes.
pub(crate) const MAX_STRING: u64 = 1 << 20;

/// Takes integers off the front of a section's payload; `what` names it in errors.
pub(crate) struct Fields<'a> {
    what: &'static str,
    len: usize,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, len: bytes.len(), rest: bytes }
    }

    pub(crate) fn bad(&self, why: &str) -> Error {
        Error::corrupt(format!("{} {why}", self.what))
    }

    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn taken(&self) -> usize {
        self.len - self.rest.len()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.bad("ends early"));
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array().map(|[b]| b)
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Seven bits per byte, low ones first, the top bit on all but the last; at most ten bytes.
    pub(crate) fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 127);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err(self.bad("has a number of more than 64 bits"))
    }

    /// A varint that counts things of which each takes at least `each` of the bytes left, so
    /// that memory for them is bounded by the input.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize> {
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        match count.checked_mul(each) {
            Some(bytes) if bytes <= self.left() => Ok(count),
            _ => Err(self.bad("counts more than it has room for")),
        }
    }

    pub(crate) fn string(&mut self) -> Result<String> {
        let len = self.count(1)?;
        let text = std::str::from_utf8(self.bytes(len)?)
            .map_err(|_| self.bad("has text that is not UTF-8"))?;
        Ok(text.to_owned())
    }

    pub(crate) fn finish(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.bad("is longer than its contents")) }
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        out.push(value.to_le_bytes()[0] | 128);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_long_ones_are_refused() {
        arbtest::arbtest(|u| {
            let value: u64 = u.arbitrary::<u64>()? >> u.int_in_range(0..=63)?;
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut fields = Fields::of("test", &out);
            assert_eq!(fields.varint().unwrap(), value);
            fields.finish().unwrap();
            Ok(())
        });
        assert!(Fields::of("test", &[0xFF; 10]).varint().is_err());
        assert!(Fields::of("test", &[0xFF; 3]).varint().is_err());
        assert!(Fields::of("test", &[9, 0, 0]).count(1).is_err());
    }
}
