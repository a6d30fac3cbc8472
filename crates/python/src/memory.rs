//! Memory that Python sees too. The only `unsafe` code of this crate.
//!
//! Python promises that memory behind a buffer stays where it is until the buffer is released. It
//! doesn't promise that nobody else writes there. So input is copied, block by block, before anyone
//! looks at it; only `bytes` themselves, which never change, are lent as they are: a subclass may
//! hand out other memory. Outputs are the caller's to leave alone meanwhile, as NumPy and the
//! standard library ask it of theirs.
#![allow(unsafe_code)]

use crate::errors;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use std::borrow::Cow;
use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::io;
use std::ops::Range;
use weightzip::{Room, Source};

/// A contiguous buffer of some Python object, held until dropped.
pub(crate) struct Buffer {
    held: PyUntypedBuffer,
    /// Whether nobody can write to it.
    fixed: bool,
}

impl Buffer {
    /// Holds the buffer of `object`: raises if it has none, or one with gaps.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let held = match PyUntypedBuffer::get(object) {
            // A single value, which has no shape.
            Err(e) if e.is_instance_of::<PyBufferError>(object.py()) => {
                let view = PyMemoryView::from(object)?;
                PyUntypedBuffer::get(&view.call_method1("cast", ("B",))?)?
            }
            held => held?,
        };
        if !held.is_c_contiguous() {
            let why = "the buffer is not contiguous: make a contiguous copy first";
            return Err(errors::invalid(object.py(), why));
        }
        // Exactly `bytes`: a subclass may have a `__buffer__` that gives memory of another object.
        let fixed = match object.cast::<PyMemoryView>() {
            Ok(view) => view.getattr("obj")?.is_exact_instance_of::<PyBytes>(),
            Err(_) => object.is_exact_instance_of::<PyBytes>(),
        };
        Ok(Self { held, fixed })
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len_bytes()
    }

    fn addresses(&self) -> Range<usize> {
        let start = self.held.buf_ptr().addr();
        start..start + self.len()
    }

    /// All of it; a copy if someone could write to it.
    pub(crate) fn whole(&self) -> io::Result<Cow<'_, [u8]>> {
        if let Some(bytes) = self.lend(0..self.len() as u64) {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut copy = weightzip::zeroed(self.len());
        self.read_at(0, &mut copy)?;
        Ok(Cow::Owned(copy))
    }

    fn part(&self, offset: u64, len: usize) -> Option<*const u8> {
        let offset = usize::try_from(offset).ok()?;
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len());
        inside.then(|| self.held.buf_ptr().cast::<u8>().cast_const().wrapping_add(offset))
    }
}

impl Source for Buffer {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let from = self.part(offset, buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        if !buf.is_empty() {
            // SAFETY: the buffer is C-contiguous and held, so all bytes of the part, which was
            // checked, are allocated; `buf` is ours alone, so it is none of Python's memory. Bytes
            // that another thread writes meanwhile are copied as they are then: no reference to
            // them is made, and any byte is a valid `u8`.
            unsafe { std::ptr::copy_nonoverlapping(from, buf.as_mut_ptr(), buf.len()) }
        }
        Ok(())
    }

    fn lend(&self, range: Range<u64>) -> Option<&[u8]> {
        let len = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        let start = self.part(range.start, len).filter(|_| self.fixed)?;
        if len == 0 {
            return Some(&[]);
        }
        // SAFETY: the part was checked, and stays allocated while `self` holds the buffer, which
        // the slice's lifetime ends with. It belongs to a `bytes` object: those never change.
        Some(unsafe { std::slice::from_raw_parts(start, len) })
    }
}

/// The buffers to write to. Raises if one is read-only or shares memory with another one or `input`.
pub(crate) fn outputs<'a>(
    py: Python<'_>,
    outs: &'a mut [Buffer],
    input: Option<&Buffer>,
) -> PyResult<Vec<&'a mut [u8]>> {
    if outs.iter().any(|out| out.held.readonly()) {
        return Err(errors::invalid(py, "the output buffer is read-only"));
    }
    let mut places: Vec<_> = outs.iter().chain(input).map(Buffer::addresses).collect();
    places.retain(|place| !place.is_empty());
    places.sort_unstable_by_key(|place| place.start);
    let inputs = input.iter().filter(|input| input.len() > 0).map(|input| input.addresses());
    if let Some(pair) = places.windows(2).find(|pair| pair[0].end > pair[1].start) {
        let with_input = inputs.clone().any(|input| pair.contains(&input));
        let what = if with_input { "the input" } else { "another one" };
        return Err(errors::invalid(py, &format!("the output buffer shares memory with {what}")));
    }
    let slice = |out: &'a mut Buffer| -> &'a mut [u8] {
        if out.len() == 0 {
            return &mut []; // the pointer may be null
        }
        // SAFETY: the buffer is C-contiguous and can be written, as its owner said. It stays
        // allocated while it is held, and the exclusive borrow keeps this crate from using it in
        // another way. None of these slices shares memory with another, and this crate holds no
        // other one to memory that can be written. Other Python threads are asked to leave it alone.
        unsafe { std::slice::from_raw_parts_mut(out.held.buf_ptr().cast(), out.len()) }
    };
    Ok(outs.iter_mut().map(slice).collect())
}

/// Memory that was filled here and is now Python's.
#[pyclass(frozen, module = "weightzip._weightzip")]
pub(crate) struct Memory(UnsafeCell<Room>);

// SAFETY: once Python has it, its bytes are reached through raw pointers alone, from Python's
// buffers; the room itself never changes.
unsafe impl Sync for Memory {}

impl Memory {
    /// A writable view, which keeps the memory.
    pub(crate) fn view(py: Python<'_>, bytes: Room) -> PyResult<Bound<'_, PyMemoryView>> {
        PyMemoryView::from(Bound::new(py, Self(UnsafeCell::new(bytes)))?.as_any())
    }
}

#[pymethods]
impl Memory {
    /// # Safety
    /// Python calls it, with a `view` to be filled.
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        // SAFETY: nothing else refers to the room: only this method uses the cell, with the
        // interpreter's lock or, without one, only to read the room's fields.
        let (start, len) = unsafe { ((*slf.get().0.get()).as_ptr(), (*slf.get().0.get()).len()) };
        let len = isize::try_from(len).map_err(|_| PyBufferError::new_err("too large"))?;
        // SAFETY: Python gives a `view` that can be filled. The bytes stay where they are as long
        // as `slf` lives, of which the view takes a reference.
        let failed = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start.cast_mut().cast(), len, 0, flags)
        };
        if failed == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
