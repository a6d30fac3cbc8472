//! Memory for large outputs, on huge pages where the system has them: a page fault for each 4 KiB
//! takes longer than decoding them.

#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};

/// Bytes from which on huge pages are asked for.
const LARGE: usize = 4 << 20;

/// Bytes of a room from which on it has pages of its own, next to others: the heap may have such memory from before, and would
/// fill it with zeros.
const SMALL: usize = 64 << 10;

/// Returns a zeroed buffer of `len` bytes.
pub fn zeroed(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    if len >= LARGE {
        system::advise(&mut bytes);
    }
    bytes
}

/// Memory for one of several outputs. What it takes is given back when it is dropped, whatever becomes of the others.
pub struct Room(Held);

enum Held {
    Own(Vec<u8>),
    Part(system::Part),
}

/// Rooms of these lengths, all zero. Those that aren't small are parts of one piece of memory if that is large.
///
/// # Panics
/// Aborts if there is no such memory, as vectors do.
pub fn rooms(lens: impl IntoIterator<Item = usize, IntoIter: Clone>) -> Vec<Room> {
    let lens = lens.into_iter();
    let shared = lens.clone().filter(|&len| len >= SMALL);
    let total = shared.clone().fold(0, |total: usize, len| total.saturating_add(len));
    let parts = if total >= LARGE { system::parts(shared) } else { None };
    let mut parts = parts.unwrap_or_default().into_iter();
    let of_len = |len| match len >= SMALL {
        true => parts.next().map_or_else(|| Held::Own(zeroed(len)), Held::Part),
        false => Held::Own(vec![0; len]),
    };
    lens.map(of_len).map(Room).collect()
}

impl Room {
    /// Where it is; without a reference to what is there, which others may write to.
    pub fn as_ptr(&self) -> *const u8 {
        match &self.0 {
            Held::Own(bytes) => bytes.as_ptr(),
            Held::Part(part) => part.as_ptr(),
        }
    }

    /// How long it is.
    #[allow(clippy::len_without_is_empty, reason = "as a slice it has that")]
    pub fn len(&self) -> usize {
        match &self.0 {
            Held::Own(bytes) => bytes.len(),
            Held::Part(part) => part.len(),
        }
    }
}

impl From<Vec<u8>> for Room {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Held::Own(bytes))
    }
}

impl Deref for Room {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Own(bytes) => bytes,
            Held::Part(part) => part.bytes(),
        }
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Held::Own(bytes) => bytes,
            Held::Part(part) => part.bytes_mut(),
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    use rustix::param::page_size;
    use std::ops::Range;
    use std::ptr;
    use std::sync::Arc;

    const HUGE_PAGE: usize = 2 << 20;

    /// Asks for huge pages; advice only, which a system may not take.
    pub(super) fn advise(bytes: &mut [u8]) {
        let page = page_size();
        let skip = bytes.as_ptr().align_offset(page);
        let Some(pages) = bytes.get_mut(skip..) else { return };
        let len = pages.len() / page * page;
        // SAFETY: the range lies in `bytes`, and this advice changes no contents.
        let _ = unsafe { madvise(pages.as_mut_ptr().cast(), len, Advice::LinuxHugepage) };
    }

    /// Memory from the system, all zero at first. Its parts alone refer to what it holds.
    struct Mapping {
        start: *mut u8,
        len: usize,
    }

    // SAFETY: it is memory of this process, which any thread may use and give back.
    unsafe impl Send for Mapping {}
    // SAFETY: as above; what is shared is its place.
    unsafe impl Sync for Mapping {}

    impl Mapping {
        fn new(len: usize) -> Option<Self> {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            // SAFETY: new memory, wherever the system has room.
            let start = unsafe { mmap_anonymous(ptr::null_mut(), len, access, MapFlags::PRIVATE) };
            let start: *mut u8 = start.ok()?.cast();
            // SAFETY: this is all of the memory, and this advice changes no contents.
            let _ = unsafe { madvise(start.cast(), len, Advice::LinuxHugepage) };
            Some(Self { start, len })
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: it was mapped with this length, and with it go the last references into it.
            let _ = unsafe { munmap(self.start.cast(), self.len) };
        }
    }

    /// Whole pages of a mapping, which no other part has.
    pub(super) struct Part {
        mapping: Arc<Mapping>,
        pages: Range<usize>,
        len: usize,
    }

    /// Parts of these lengths; `None` if the system has no such memory.
    pub(super) fn parts(lens: impl Iterator<Item = usize> + Clone) -> Option<Vec<Part>> {
        parts_on_pages(page_size(), lens)
    }

    /// [`parts`] on pages of `page` bytes, a multiple of the system's.
    pub(super) fn parts_on_pages(
        page: usize,
        lens: impl Iterator<Item = usize> + Clone,
    ) -> Option<Vec<Part>> {
        let ranges = page_ranges(page, lens.clone())?;
        let total = ranges.last().map_or(0, |last| last.end);
        let alignment = HUGE_PAGE.max(page);
        let mapping = Arc::new(Mapping::new(total.checked_add(alignment)?)?);
        let skip = mapping.start.align_offset(alignment);
        if skip > alignment {
            return None;
        }
        let part = |(pages, len): (Range<usize>, usize)| {
            let pages = skip + pages.start..skip + pages.end;
            Part { mapping: Arc::clone(&mapping), pages, len }
        };
        Some(ranges.into_iter().zip(lens).map(part).collect())
    }

    /// Ranges of whole pages, one behind another, that hold these lengths; `None` if they don't fit into memory.
    pub(super) fn page_ranges(
        page: usize,
        lens: impl Iterator<Item = usize>,
    ) -> Option<Vec<Range<usize>>> {
        let mut end = 0usize;
        let range = |len: usize| {
            let start = end;
            end = start.checked_add(len.checked_next_multiple_of(page)?)?;
            Some(start..end)
        };
        lens.map(range).collect()
    }

    impl Part {
        pub(super) fn as_ptr(&self) -> *const u8 {
            // SAFETY: the part lies in the mapping.
            unsafe { self.mapping.start.add(self.pages.start) }
        }

        pub(super) fn len(&self) -> usize {
            self.len
        }

        pub(super) fn bytes(&self) -> &[u8] {
            // SAFETY: the part lies in the mapping, which it keeps; it is initialised, and what can write to it is the
            // part alone, through `&mut`.
            unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
        }

        pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
            // SAFETY: as above; and no other part has these bytes.
            unsafe { std::slice::from_raw_parts_mut(self.as_ptr().cast_mut(), self.len) }
        }
    }

    impl Drop for Part {
        fn drop(&mut self) {
            // SAFETY: these are whole pages of this part alone, since ranges are multiples of the system's page size.
            // The kernel returns zeros on the next read, but no reference to these pages is left.
            let _ = unsafe {
                madvise(self.as_ptr().cast_mut().cast(), self.pages.len(), Advice::LinuxDontNeed)
            };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn advise(_: &mut [u8]) {}

    /// Of nothing: memory is that of vectors.
    pub(super) enum Part {}

    pub(super) fn parts(_: impl Iterator<Item = usize>) -> Option<Vec<Part>> {
        None
    }

    impl Part {
        pub(super) fn as_ptr(&self) -> *const u8 {
            match *self {}
        }

        pub(super) fn len(&self) -> usize {
            match *self {}
        }

        pub(super) fn bytes(&self) -> &[u8] {
            match *self {}
        }

        pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
            match *self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_zero_and_may_be_written() {
        for len in [0, 1, LARGE, LARGE + 12_345] {
            let mut bytes = zeroed(len);
            assert!(bytes.len() == len && bytes.iter().all(|&b| b == 0));
            bytes.fill(7);
            assert!(bytes.iter().all(|&b| b == 7));
        }
    }

    #[test]
    fn rooms_are_apart() {
        for lens in [vec![], vec![SMALL; 3], vec![LARGE, 0, 5, SMALL - 1, SMALL, SMALL + 1, LARGE]]
        {
            let mut all = rooms(lens.iter().copied());
            assert!(all.iter().map(|room| room.len()).eq(lens));
            assert!(all.iter().all(|room| room.iter().all(|&b| b == 0)));
            (1..).zip(&mut all).for_each(|(i, room)| room.fill(i));
            let last = all.pop();
            // What one had is gone; the others have what they had, in whatever thread.
            let check = move || (1..).zip(&all).all(|(i, room)| room.iter().all(|&b| b == i));
            assert!(std::thread::spawn(check).join().unwrap());
            assert!(last.is_none_or(|room| room.iter().all(|&b| b > 0)));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn dropping_a_part_leaves_its_neighbours_on_pages_of_any_size() {
        let lens = [LARGE, 1, 5000, SMALL, SMALL + 1, 70_001];
        for page in [4 << 10, 16 << 10, 64 << 10]
            .into_iter()
            .filter(|page| page % rustix::param::page_size() == 0)
        {
            let ranges = system::page_ranges(page, lens.into_iter()).unwrap();
            for (range, len) in ranges.iter().zip(lens) {
                assert!(range.start % page == 0 && range.end % page == 0 && range.len() >= len);
            }
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));

            let mut parts = system::parts_on_pages(page, lens.into_iter()).unwrap();
            assert!(parts.iter().all(|part| part.as_ptr().addr() % page == 0));
            for dropped in (0..parts.len()).rev() {
                parts.iter_mut().for_each(|part| part.bytes_mut().fill(7));
                drop(parts.remove(dropped / 2));
                assert!(parts.iter().all(|part| part.bytes().iter().all(|&b| b == 7)));
            }
        }
        assert!(system::page_ranges(4096, [usize::MAX].into_iter()).is_none());
        assert!(system::page_ranges(4096, [usize::MAX - 4095, 4096].into_iter()).is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_room_gives_back_what_it_took() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
        };
        let mut both = rooms([16 * LARGE, LARGE]);
        both.iter_mut().for_each(|room| room.fill(1));
        let full = resident();
        drop(both.swap_remove(0));
        let left = resident();
        assert!(full - left > 12 * LARGE, "{full} bytes, then {left}");
        assert!(both[0].iter().all(|&b| b == 1));
    }
}
