//! Whole runs of `wz`: what it writes, what it says and how it exits.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail a test"
)]

mod archives;
mod bad_input;
mod bases;
mod bench;
#[cfg(unix)]
mod cache;
mod card;
mod cat;
mod chain;
mod common;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod crash;
mod dtype;
mod files;
mod folders;
#[cfg(unix)]
mod in_place;
#[cfg(unix)]
mod links;
mod lossy;
mod messages;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod refused;
mod savings;
#[cfg(unix)]
mod signals;
mod tables;
#[cfg(unix)]
mod terminal;
#[cfg(unix)]
mod tune;
