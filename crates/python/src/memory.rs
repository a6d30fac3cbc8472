//! The memory of Python objects, as slices. The only `unsafe` code of this crate.
//!
//! Python promises that memory behind a buffer stays where it is until the buffer is released. It
//! doesn't promise that nobody else writes there: that is asked of callers, in the functions' docs,
//! as NumPy and the standard library ask it of theirs.
#![allow(unsafe_code)]

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A contiguous buffer, held until dropped.
pub(crate) struct Memory(PyUntypedBuffer);

impl Memory {
    /// Holds the buffer of `object`: raises if it has none, or one with gaps.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(object)?;
        if buffer.is_c_contiguous() {
            Ok(Self(buffer))
        } else {
            Err(PyValueError::new_err("the buffer is not contiguous: make a contiguous copy first"))
        }
    }

    /// What the buffer holds.
    pub(crate) fn bytes(&self) -> &[u8] {
        let len = self.0.len_bytes();
        if len == 0 {
            return &[]; // the pointer may be null
        }
        // SAFETY: the buffer is C-contiguous, so `len` bytes from its pointer are its items. They
        // stay allocated while `self` holds the buffer, which the slice's lifetime ends with. Any
        // byte is a valid `u8`. Nobody writes to them meanwhile: this crate does so in `apart`
        // alone, and other Python threads are forbidden it.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast(), len) }
    }
}

/// `from` to read and `to` to write. Raises if `to` is read-only or the two share memory.
pub(crate) fn apart<'a>(
    from: &'a Memory,
    to: &'a mut Memory,
) -> PyResult<(&'a [u8], &'a mut [u8])> {
    let source = from.bytes();
    if to.0.readonly() {
        return Err(PyValueError::new_err("the output buffer is read-only"));
    }
    let target = to.bytes().as_ptr_range();
    if source.as_ptr_range().start < target.end && target.start < source.as_ptr_range().end {
        return Err(PyValueError::new_err("the output buffer shares memory with the input"));
    }
    let len = to.0.len_bytes();
    if len == 0 {
        return Ok((source, &mut []));
    }
    // SAFETY: as in `bytes`, and the buffer's owner said that it can be written. The exclusive
    // borrow of `to` lasts as long as the slice, so `bytes` can't be called on it; `source` was
    // found not to overlap it; other Python threads are forbidden to touch it.
    let target = unsafe { std::slice::from_raw_parts_mut(to.0.buf_ptr().cast(), len) };
    Ok((source, target))
}
