//! Reads random rows from a `.wz` in memory, with one reader and with eight.
//!
//!     cargo run --release -p weightzip --example rows
//!
//! Prints rows per second of both: the median of five runs, each on a freshly opened archive.

use std::error::Error;
use std::thread;
use std::time::Instant;
use weightzip::{Archive, Options, compress};

const ROWS: u64 = 64_000;
const ROW: u32 = 1024;
const READERS: u64 = 8;
const READS: u64 = 1600;

fn main() -> Result<(), Box<dyn Error>> {
    let bytes = ROWS * u64::from(ROW) * 2;
    let json =
        format!(r#"{{"w":{{"dtype":"BF16","shape":[{ROWS},{ROW}],"data_offsets":[0,{bytes}]}}}}"#);
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json.into_bytes());
    let mut random = Random(1);
    (0..bytes / 2).for_each(|_| file.extend([random.next(256), 0x3C | random.next(4)]));
    let mut wz = Vec::new();
    compress(file.as_slice(), &mut wz, &Options::default())?;
    for readers in [1, READERS] {
        let mut runs = Vec::new();
        for _ in 0..5 {
            let archive = Archive::open(wz.as_slice())?;
            let begin = Instant::now();
            let read = |reader| read(&archive, reader, READS / readers);
            thread::scope(|scope| {
                let threads: Vec<_> = (0..readers).map(|i| scope.spawn(move || read(i))).collect();
                threads.into_iter().all(|thread| thread.join().is_ok_and(|read| read.is_ok()))
            })
            .then_some(())
            .ok_or("a reader failed")?;
            runs.push(READS as f64 / begin.elapsed().as_secs_f64());
        }
        runs.sort_by(f64::total_cmp);
        println!("{readers} readers: {:.0} rows/s", runs[runs.len() / 2]);
    }
    Ok(())
}

/// Reads some rows at random.
fn read(archive: &Archive<&[u8]>, reader: u64, reads: u64) -> weightzip::Result<()> {
    let (mut random, mut out) = (Random(reader + 2), [0; 2 * ROW as usize]);
    let tensor = archive.tensor("w")?;
    (0..reads).try_for_each(|_| {
        let row = random.number() % ROWS;
        tensor.rows(row..row + 1)?.read_into(&mut out)
    })
}

/// Numbers from a linear congruential generator.
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0 >> 33
    }

    fn next(&mut self, below: u64) -> u8 {
        (self.number() % below).to_le_bytes()[0]
    }
}
