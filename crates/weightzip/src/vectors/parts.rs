//! Files and frames in their parts, so that one of them can be changed.

use crate::container::section::{self, Section};
use crate::container::{header, tail};

pub(super) struct Parts {
    pub(super) header: [u8; header::LEN],
    pub(super) sections: Vec<(Section, Vec<u8>)>,
    /// Empty in a frame.
    pub(super) tail: Vec<u8>,
}

impl Parts {
    pub(super) fn of_file(wz: &[u8]) -> Self {
        let (sections, tail) = wz.split_at(wz.len() - tail::LEN);
        Self { tail: tail.to_vec(), ..Self::of_frame(sections) }
    }

    pub(super) fn of_frame(frame: &[u8]) -> Self {
        let (&header, mut rest) = frame.split_first_chunk().unwrap();
        let mut sections = Vec::new();
        while let Some(head) = rest.first_chunk() {
            let section = Section::from_bytes(head).unwrap();
            let (whole, behind) = rest.split_at(section.whole_len());
            sections.push((section, section.unpad(&whole[section::LEN..]).unwrap().to_vec()));
            rest = behind;
        }
        Self { header, sections, tail: Vec::new() }
    }

    /// All again, with checksums that fit what was changed in sections that are not blocks.
    pub(super) fn join(&self) -> Vec<u8> {
        let mut wz = self.header.to_vec();
        for (section, payload) in &self.sections {
            let mut section = *section;
            section.len = payload.len() as u32;
            if section.kind != section::BLOCK {
                section = Section::of(section.kind, section.sub, payload).unwrap();
            }
            let start = wz.len();
            wz.resize(start + section.whole_len(), 0);
            section.write_to(payload, &mut wz[start..]);
        }
        wz.extend(&self.tail);
        wz
    }

    pub(super) fn nth(&mut self, kind: u8, n: usize) -> &mut (Section, Vec<u8>) {
        self.sections.iter_mut().filter(|(s, _)| s.kind == kind).nth(n).unwrap()
    }
}
