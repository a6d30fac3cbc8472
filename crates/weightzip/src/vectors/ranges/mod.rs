//! Range blocks, range-coded bytes, and packed integers, that every decoder must restore or refuse.

mod blocks;
pub(super) mod bytes;
mod error;
mod ok;
pub(super) mod packed;
mod payload;

pub(super) use error::vectors as errors;
pub(super) use ok::vectors as ok;

use super::Vector;
use super::ok::{footer, tensor};
use crate::codec::{Coding, Context};
use crate::container::header::Flags;
use crate::container::section::CONTEXT;
use crate::container::segment::Segment;
use crate::container::table::Entry;
use crate::container::writer::Writer;
use crate::record::RecordLayout;
use crate::{Hints, Kind, Level, encode_block};
use payload::Payload;
use weightzip_kernels::xxh3::xxh3_64;

/// A file of one segment, whose blocks and contexts can be changed.
#[derive(Clone)]
struct File {
    layout: RecordLayout,
    row: u64,
    contexts: Vec<(u8, Vec<u8>)>,
    blocks: Vec<(Entry, Vec<u8>)>,
    data: Vec<u8>,
}

impl File {
    /// Blocks of rows of so many records (0: of none), as the encoder has them.
    fn new(layout: &RecordLayout, row: usize, blocks: &[Vec<u8>]) -> Self {
        let (hints, first) = (Hints { level: Level::Max, row }, &blocks[0]);
        let context = match blocks.len() {
            1 => None,
            _ => Context::of_first_block(layout, hints, first),
        };
        let coded = |data: &Vec<u8>| {
            let mut payload = Vec::new();
            let block = encode_block(layout, context.as_ref(), hints, data, &mut payload).unwrap();
            assert_eq!(block.coding, Coding::Ranges);
            (Entry::of(&block).unwrap(), block.payload.to_vec())
        };
        Self {
            layout: layout.clone(),
            row: row as u64,
            contexts: context.as_ref().map_or(Vec::new(), |context| context.to_wire(layout)),
            blocks: blocks.iter().map(coded).collect(),
            data: blocks.concat(),
        }
    }

    /// One block as it is.
    fn raw(layout: RecordLayout, data: &[u8]) -> Self {
        let mut payload = Vec::new();
        let hints = Hints::default();
        let block = encode_block(&RecordLayout::opaque(), None, hints, data, &mut payload).unwrap();
        assert_eq!(block.coding, Coding::Raw);
        let blocks = vec![(Entry::of(&block).unwrap(), block.payload.to_vec())];
        Self { layout, row: 0, contexts: Vec::new(), blocks, data: data.to_vec() }
    }

    /// One block of 64 records, put together by hand.
    fn by_hand(layout: RecordLayout, payload: &Payload, data: Vec<u8>) -> Self {
        let (check, payload) = (xxh3_64(&data), payload.join());
        let len = payload.len() as u32;
        let entry = Entry { len, coding: Coding::Ranges, records: 64, check };
        Self { layout, row: 0, contexts: Vec::new(), blocks: vec![(entry, payload)], data }
    }

    /// The parts of the first block.
    fn payload(&self) -> Payload {
        let floats = self.layout.floats().unwrap();
        let (entry, payload) = &self.blocks[0];
        let elements = entry.records as usize * usize::from(self.layout.bytes()) / floats.bytes;
        Payload::split(payload, elements, floats.mantissa_bits() as usize - 2)
    }

    fn to_wz(&self) -> Vec<u8> {
        let mut wz = Vec::new();
        let bytes = self.data.len() as u64;
        let mut writer = Writer::new(&mut wz, Flags::default()).unwrap();
        let segment = Segment {
            layout: self.layout.clone(),
            row: self.row,
            spans: vec![bytes],
            base: Vec::new(),
        };
        writer.begin_segment(&segment, None).unwrap();
        for (id, payload) in &self.contexts {
            writer.section(CONTEXT, *id, |out| out.extend(payload)).unwrap();
        }
        writer.open_blocks();
        for (entry, payload) in &self.blocks {
            let entry = Entry { len: payload.len() as u32, ..*entry };
            let section = entry.section();
            let mut whole = vec![0; section.whole_len()];
            section.write_to(payload, &mut whole);
            writer.blocks(&[entry], &whole).unwrap();
        }
        writer.end_segment(vec![tensor("x", &self.data)]).unwrap();
        writer.finish(footer(&self.data, 1)).unwrap();
        wz
    }

    /// `shown`: whether the first block has what the vector is to show.
    fn restored(
        self,
        name: &'static str,
        shows: &'static str,
        shown: impl Fn(&Payload) -> bool,
    ) -> Vector {
        let payload = self.payload();
        assert!(payload.join() == self.blocks[0].1 && shown(&payload), "{name}");
        Vector {
            name,
            shows,
            wz: self.to_wz(),
            outcome: Ok(self.data),
            is_frame: false,
            bases: &[],
        }
    }

    fn corrupt(&self, name: &'static str, shows: &'static str) -> Vector {
        let outcome = Err(Kind::Corruption);
        Vector { name, shows, wz: self.to_wz(), outcome, is_frame: false, bases: &[] }
    }

    /// A change of the file, its first block's payload in parts.
    fn refused(
        &self,
        name: &'static str,
        shows: &'static str,
        edit: impl Fn(&mut Self, &mut Payload),
    ) -> Vector {
        let (mut file, mut payload) = (self.clone(), self.payload());
        edit(&mut file, &mut payload);
        file.blocks[0].1 = payload.join();
        file.corrupt(name, shows)
    }
}
