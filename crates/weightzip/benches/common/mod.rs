//! Blocks of made-up weights, the same each time: for how speed changes, not for how fast a model is.
#![allow(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "made-up data; each bench uses its part"
)]

use half::{bf16, f16};
use weightzip::{
    Block, Coding, Context, Dtype, Given, Hints, Level, RecordLayout, decode_block_into,
    encode_block,
};

/// Elements in a block of a large tensor.
pub(crate) const ELEMENTS: usize = 1 << 16;

/// Elements in a row.
const ROW: usize = 256;

/// Multiples of the grid in 1.
const GRID: f64 = 4096.0;

/// What a block holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Bf16,
    F16,
    F32,
    Bf16AsF32,
    F64,
    F8E4M3,
    /// At level max.
    MaxBf16,
    MaxF32,
    /// Next to a base.
    DeltaBf16,
    DeltaF32,
    DeltaMaxBf16,
    /// On a grid.
    FixedBf16,
    FixedF32,
}

impl Kind {
    pub(crate) const ALL: [Self; 13] = [
        Self::Bf16,
        Self::F16,
        Self::F32,
        Self::Bf16AsF32,
        Self::F64,
        Self::F8E4M3,
        Self::MaxBf16,
        Self::MaxF32,
        Self::DeltaBf16,
        Self::DeltaF32,
        Self::DeltaMaxBf16,
        Self::FixedBf16,
        Self::FixedF32,
    ];

    fn hints(self) -> Hints {
        match self {
            Self::MaxBf16 | Self::MaxF32 => Hints { level: Level::Max, row: ROW },
            Self::DeltaMaxBf16 => Hints { level: Level::Max, row: 0 },
            _ => Hints::default(),
        }
    }

    fn has_base(self) -> bool {
        matches!(self, Self::DeltaBf16 | Self::DeltaF32 | Self::DeltaMaxBf16)
    }

    fn is_fixed(self) -> bool {
        matches!(self, Self::FixedBf16 | Self::FixedF32)
    }

    fn layout(self) -> RecordLayout {
        match self {
            Self::Bf16 | Self::MaxBf16 | Self::DeltaBf16 | Self::DeltaMaxBf16 | Self::FixedBf16 => {
                Dtype::Bf16
            }
            Self::F16 => Dtype::F16,
            Self::F32 | Self::Bf16AsF32 | Self::MaxF32 | Self::DeltaF32 | Self::FixedF32 => {
                Dtype::F32
            }
            Self::F64 => Dtype::F64,
            Self::F8E4M3 => Dtype::F8E4M3,
        }
        .record_layout()
    }

    fn bytes(self, values: impl Iterator<Item = f64>) -> Vec<u8> {
        match self {
            Self::Bf16 | Self::MaxBf16 | Self::DeltaBf16 | Self::DeltaMaxBf16 | Self::FixedBf16 => {
                values.flat_map(|v| bf16::from_f64(v).to_le_bytes()).collect()
            }
            Self::F16 => values.flat_map(|v| f16::from_f64(v).to_le_bytes()).collect(),
            Self::F32 | Self::MaxF32 | Self::DeltaF32 | Self::FixedF32 => {
                values.flat_map(|v| (v as f32).to_le_bytes()).collect()
            }
            Self::Bf16AsF32 => {
                values.flat_map(|v| bf16::from_f64(v).to_f32().to_le_bytes()).collect()
            }
            Self::F64 => values.flat_map(f64::to_le_bytes).collect(),
            Self::F8E4M3 => values.map(f8_e4m3).collect(),
        }
    }
}

/// Scaled to use the range, as quantizers do. A 256th of a number has in F16 the exponent field
/// that the number has in F8_E4M3.
fn f8_e4m3(value: f64) -> u8 {
    let bits = f16::from_f64(value * 2000.0 / 256.0).to_bits();
    (bits >> 8 & 0x80 | bits >> 7 & 0x7F) as u8
}

/// Sums of four uniform numbers, a bell like that of weights, within 0.1 of zero.
fn bell(seed: u64) -> impl Iterator<Item = f64> + Clone {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 32) as f64 / 2f64.powi(32) - 0.5
    };
    std::iter::repeat_with(move || 0.05 * (uniform() + uniform() + uniform() + uniform()))
}

/// A block, coded, with room to code and decode it again.
pub(crate) struct Sample {
    layout: RecordLayout,
    hints: Hints,
    context: Option<Context>,
    base: Option<Vec<u8>>,
    coding: Coding,
    records: u32,
    check: u64,
    pub(crate) data: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// Where it is encoded again.
    room: Vec<u8>,
    out: Vec<u8>,
}

impl Sample {
    pub(crate) fn new(kind: Kind, seed: u64) -> Self {
        let (layout, hints) = (kind.layout(), kind.hints());
        // Rows and columns differ in size, as those of weights do.
        let sizes = (0..ELEMENTS).map(|i| 1 + i / ROW % 7 + i % ROW % 5);
        let values = bell(seed).zip(sizes).map(|(value, size)| match hints.row {
            0 => value,
            _ => value * size as f64 / 12.0,
        });
        let base = kind.has_base().then(|| kind.bytes(values.clone()));
        // What training adds is a fiftieth of that, whatever the size of the weight.
        let trained = values.zip(bell(seed + 1)).map(|(value, step)| match kind.has_base() {
            true => value + 0.02 * step,
            false if kind.is_fixed() => (value * GRID).round() / GRID,
            false => value,
        });
        let data = kind.bytes(trained);
        let context = Context::of_first_block(&layout, hints, &data);
        let given = Given { context: context.as_ref(), base: base.as_deref() };
        let mut room = Vec::new();
        let Block { coding, records, check, payload } =
            encode_block(&layout, given, hints, &data, &mut room).unwrap();
        assert_eq!(coding.needs_base(), kind.has_base());
        assert_eq!(coding == Coding::Fixed, kind.is_fixed());
        let (payload, out) = (payload.to_vec(), vec![0; data.len()]);
        let mut sample =
            Self { layout, hints, context, base, coding, records, check, data, room, payload, out };
        sample.decode();
        assert_eq!(sample.out, sample.data);
        sample
    }

    fn given(&self) -> Given<'_> {
        Given { context: self.context.as_ref(), base: self.base.as_deref() }
    }

    pub(crate) fn encode(&mut self) {
        let mut room = std::mem::take(&mut self.room);
        encode_block(&self.layout, self.given(), self.hints, &self.data, &mut room).unwrap();
        self.room = room;
    }

    pub(crate) fn decode(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        self.decode_from(&self.payload, &mut out);
        self.out = out;
    }

    /// Decodes a copy of the payload.
    pub(crate) fn decode_from(&self, payload: &[u8], out: &mut [u8]) {
        let Self { coding, records, check, .. } = *self;
        let block = Block { coding, records, check, payload };
        decode_block_into(&self.layout, self.given(), &block, out).unwrap();
    }
}
