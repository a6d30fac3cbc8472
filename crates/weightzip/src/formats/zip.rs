//! Zip archives: directories at their ends, members that are stored or deflated.
//!
//! Only where members lie is looked for. What is stored may hold tensors; what is deflated or encrypted
//! is never unpacked. A file may be several archives, one behind another, as PyTorch's distributed
//! checkpoints are, and members may be archives, as those of exported programs are.

use super::distcp::Names;
use super::tensors::{Extent, Tensors};
use super::warnings::Warnings;
use super::{Format, Found, Layout, Trouble, broken, numpy, pt2, read, torch};
use crate::source::Source;
use std::collections::HashMap;
use std::ops::Range;

/// Most bytes of directories.
const MAX_DIRECTORY: u64 = 100_000_000;

/// Bytes of an end record without its comment, of a zip64 end record, and of what points to that.
const END: u64 = 22;
const END_64: u64 = 56;
const LOCATOR: u64 = 20;

/// Bytes of a member's header without its name, and of an entry in the directory.
const LOCAL: usize = 30;
const ENTRY: usize = 46;

/// Flags of members that are encrypted, in one way or another.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;

/// Whether a file starts as an archive that has members does.
pub(super) fn is_zip(prefix: &[u8]) -> bool {
    prefix.starts_with(b"PK\x03\x04")
}

/// A member of an archive.
pub(super) struct Member {
    pub(super) name: String,
    /// Where its data are; `None` if they are deflated or encrypted, or in doubt.
    pub(super) data: Option<Range<u64>>,
}

/// Finds the tensors in an archive, or in several; takes those of the names that they have.
pub(super) fn scan(source: &dyn Source, size: u64, names: &mut Names) -> Found<Layout> {
    let mut scan = Scan {
        source,
        size,
        tensors: Tensors::new(Extent::File(size)),
        warnings: Warnings::default(),
        left: MAX_DIRECTORY,
        is_torch: false,
    };
    let archives = scan.archives(0..size)?;
    for (number, Archive { range, members }) in archives.iter().enumerate() {
        let prefix = names.remove(range).unwrap_or_else(|| match archives.len() {
            1 => String::new(),
            _ => number.to_string(),
        });
        scan.archive(members, &prefix)?;
        scan.inner(members, &prefix)?;
    }
    let format = match scan.tensors.is_empty() {
        _ if scan.is_torch => Format::Pytorch,
        true => Format::Opaque,
        false => Format::Numpy,
    };
    Ok(Layout::of_tensors(format, scan.tensors, scan.warnings))
}

/// What is found in an archive or in several.
pub(super) struct Scan<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) size: u64,
    pub(super) tensors: Tensors,
    pub(super) warnings: Warnings,
    /// Bytes of directories that may still be read.
    left: u64,
    is_torch: bool,
}

/// An archive's place in the file, and what it has.
struct Archive {
    range: Range<u64>,
    members: Vec<Member>,
}

impl Scan<'_> {
    /// Finds the tensors of one archive, whose names get `prefix` before them, if they may come from several.
    fn archive(&mut self, members: &[Member], prefix: &str) -> Found<()> {
        if let Some(folder) = torch::folder(members) {
            self.is_torch = true;
            torch::in_archive(self, members, folder, prefix)
        } else if let Some(folder) = pt2::folder(members) {
            self.is_torch = true;
            pt2::in_archive(self, members, folder)
        } else {
            numpy::in_archive(self, members)
        }
    }

    /// Finds the tensors of those members that are archives of PyTorch's.
    fn inner(&mut self, members: &[Member], prefix: &str) -> Found<()> {
        for member in members {
            let name = member.name.strip_suffix(".pt").map(|name| torch::joined(prefix, name));
            if let (Some(name), Some(data)) = (name, &member.data) {
                self.nested(data.clone(), &name)?;
            }
        }
        Ok(())
    }

    /// Finds the tensors of archives of PyTorch's in a member's data.
    pub(super) fn nested(&mut self, data: Range<u64>, prefix: &str) -> Found<()> {
        // What is none, or a damaged one, is a member like others.
        let archives = match self.archives(data) {
            Err(Trouble::Broken(_)) => return Ok(()),
            archives => archives?,
        };
        for Archive { members, .. } in archives {
            if let Some(folder) = torch::folder(&members) {
                torch::in_archive(self, &members, folder, prefix)?;
            }
        }
        Ok(())
    }

    /// The archives that a range consists of, from front to back.
    fn archives(&mut self, range: Range<u64>) -> Found<Vec<Archive>> {
        let (mut archives, mut end) = (Vec::new(), range.end);
        while end > range.start {
            let found = End::find(self.source, range.start..end, end == range.end)?;
            let left = self.left.checked_sub(found.directory.end - found.directory.start);
            let Some(left) = left else {
                return broken(format!("its directories have more than {MAX_DIRECTORY} bytes"));
            };
            self.left = left;
            let members = members(self.source, &found, &mut self.warnings)?;
            archives.push(Archive { range: found.start..end, members });
            end = found.start;
        }
        archives.reverse();
        Ok(archives)
    }
}

/// What an archive's end says of it.
struct End {
    /// Where the archive starts: offsets count from there.
    start: u64,
    directory: Range<u64>,
    members: u64,
}

impl End {
    /// Reads the end record of the archive that ends where `range` does. Before it there may be a comment, but
    /// only behind the last archive is one looked for: so each byte is read a few times at most.
    fn find(source: &dyn Source, range: Range<u64>, is_last: bool) -> Found<Self> {
        let longest = if is_last { END + u64::from(u16::MAX) } else { END };
        for window in [END, longest] {
            let from = range.end.saturating_sub(window).max(range.start);
            let tail = read(source, from, len(range.end - from))?;
            let ends_here = |at: &usize| {
                let record = &tail[*at..];
                record.starts_with(b"PK\x05\x06")
                    && u16_at(record, 20).is_some_and(|n| len(END) + usize::from(n) == record.len())
            };
            if let Some(at) = (0..tail.len()).rev().find(ends_here) {
                return Self::read(source, range.start, from + at as u64, &tail[at..]);
            }
        }
        broken("it has no directory where it ends")
    }

    /// Reads what the end record at `at` says, or the zip64 one before it; nothing is before `first`.
    fn read(source: &dyn Source, first: u64, at: u64, record: &[u8]) -> Found<Self> {
        let numbers = || {
            let (members, len, offset) =
                (u16_at(record, 10)?, u32_at(record, 12)?, u32_at(record, 16)?);
            Some((u64::from(members), u64::from(len), u64::from(offset)))
        };
        let (mut end, mut said) = (at, numbers());
        if let Some(from) = at.checked_sub(LOCATOR + END_64).filter(|from| *from >= first) {
            let before = read(source, from, len(LOCATOR + END_64))?;
            if before.starts_with(b"PK\x06\x06") && before[len(END_64)..].starts_with(b"PK\x06\x07")
            {
                let numbers =
                    || Some((u64_at(&before, 32)?, u64_at(&before, 40)?, u64_at(&before, 48)?));
                (end, said) = (from, numbers());
            }
        }
        let place = said.and_then(|(members, len, offset)| {
            let directory = end.checked_sub(len)?..end;
            let start = directory.start.checked_sub(offset).filter(|start| *start >= first)?;
            Some(Self { start, directory, members })
        });
        place.map_or_else(|| broken("its directory would begin before it does"), Ok)
    }
}

/// An entry of the directory.
struct Entry<'a> {
    name: &'a [u8],
    flags: u16,
    method: u16,
    bytes: u64,
    /// Where its header is, from the archive's start.
    header: u64,
}

impl<'a> Entry<'a> {
    /// The first entry of `directory`, and what follows it.
    fn split(directory: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let fixed = directory.get(..ENTRY).filter(|e| e.starts_with(b"PK\x01\x02"))?;
        let (flags, method) = (u16_at(fixed, 8)?, u16_at(fixed, 10)?);
        let (mut bytes, original, mut header) =
            (u32_at(fixed, 20)?.into(), u32_at(fixed, 24)?, u32_at(fixed, 42)?.into());
        let rest = &directory[ENTRY..];
        let (name, rest) = rest.split_at_checked(u16_at(fixed, 28)?.into())?;
        let (extra, rest) = rest.split_at_checked(u16_at(fixed, 30)?.into())?;
        let (_comment, rest) = rest.split_at_checked(u16_at(fixed, 32)?.into())?;
        // Numbers that don't fit 32 bits follow in an extra field, in this order.
        let mut large = zip64(extra).chunks_exact(8).map(|n| u64_at(n, 0));
        if original == u32::MAX {
            large.next()??;
        }
        for number in [&mut bytes, &mut header] {
            if *number == u64::from(u32::MAX) {
                *number = large.next()??;
            }
        }
        Some((Self { name, flags, method, bytes, header }, rest))
    }

    /// Where the member is, header and all, and its data in it.
    fn place(&self, source: &dyn Source, end: &End) -> Found<(Range<u64>, Range<u64>)> {
        let fits = |at: u64, len: u64| {
            at.checked_add(len)
                .filter(|to| *to <= end.directory.start)
                .map_or_else(|| broken("it would reach into its directory, or beyond"), Ok)
        };
        let at = end.start.saturating_add(self.header);
        fits(at, (LOCAL + self.name.len()) as u64)?;
        let header = read(source, at, LOCAL + self.name.len())?;
        let same = header.starts_with(b"PK\x03\x04")
            && u16_at(&header, 8) == Some(self.method)
            && u16_at(&header, 26).map(usize::from) == Some(self.name.len())
            && header[LOCAL..] == *self.name;
        let extra = u16_at(&header, 28).filter(|_| same);
        let Some(extra) = extra else {
            return broken("it has another header than its directory says");
        };
        let data = fits(at, header.len() as u64 + u64::from(extra))?;
        let to = fits(data, self.bytes)?;
        Ok((at..to, data..to))
    }
}

/// The members of one archive. Those that overlap another one, or have its name, or aren't where they should be, are
/// there without data.
fn members(source: &dyn Source, end: &End, warnings: &mut Warnings) -> Found<Vec<Member>> {
    let directory = &end.directory;
    let bytes = read(source, directory.start, len(directory.end - directory.start))?;
    let (mut rest, mut members, mut places) = (&bytes[..], Vec::new(), Vec::new());
    while !rest.is_empty() {
        let Some((entry, next)) = Entry::split(rest) else {
            return broken("its directory is damaged");
        };
        rest = next;
        // Names are for people, and for the finders, whose formats have ASCII ones.
        let name = String::from_utf8_lossy(entry.name).into_owned();
        let data = match entry.place(source, end) {
            Ok((place, data)) => {
                places.push((place, members.len()));
                Some(data)
            }
            Err(Trouble::Broken(why)) => {
                warnings.opaque("member", &name, &why);
                None
            }
            Err(trouble) => return Err(trouble),
        };
        let is_stored = entry.method == 0 && entry.flags & ENCRYPTED == 0;
        members.push(Member { name, data: data.filter(|_| is_stored) });
    }
    if members.len() as u64 != end.members {
        return broken("its directory has another number of members than it says");
    }
    let doubts = [
        (overlapping(places), "it overlaps another one"),
        (twins(&members), "another one has its name"),
    ];
    for (numbers, why) in doubts {
        for number in numbers {
            let Some(member) = members.get_mut(number) else { continue };
            member.data = None;
            warnings.opaque("member", &member.name, why);
        }
    }
    Ok(members)
}

/// The numbers of members that share bytes with one before them.
fn overlapping(mut places: Vec<(Range<u64>, usize)>) -> Vec<usize> {
    places.sort_by_key(|(place, _)| (place.start, place.end));
    let mut end = 0;
    places.retain(|(place, _)| {
        let overlaps = place.start < end;
        end = end.max(place.end);
        overlaps
    });
    places.into_iter().map(|(_, number)| number).collect()
}

/// The numbers of members whose names come more than once.
fn twins(members: &[Member]) -> Vec<usize> {
    let mut count = HashMap::<_, u32>::new();
    members.iter().for_each(|member| *count.entry(member.name.as_str()).or_default() += 1);
    let is_twin = |member: &Member| count.get(member.name.as_str()).is_some_and(|n| *n > 1);
    (0..).zip(members).filter(|(_, member)| is_twin(member)).map(|(number, _)| number).collect()
}

/// The numbers of 64 bits among a directory entry's extra fields.
fn zip64(mut extra: &[u8]) -> &[u8] {
    const ZIP_64: u16 = 1;
    while let (Some(id), Some(len)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some((field, rest)) = extra[4..].split_at_checked(len.into()) else { break };
        if id == ZIP_64 {
            return field;
        }
        extra = rest;
    }
    &[]
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}

/// A length that was bounded, as memory has it.
fn len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
