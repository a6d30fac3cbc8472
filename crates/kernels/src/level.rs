//! Which instruction set is in use: looked up once, then a load and a compare per kernel.
//!
//! An instruction set is a value that only [`Level::all`] makes, and only where the CPU has it. So
//! whoever holds one may use its instructions: that is the safety argument of every kernel.

use std::sync::OnceLock;

/// AVX2 with BMI1, BMI2, LZCNT and POPCNT: x86-64-v3.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

/// AVX-512 F, BW, DQ, VL, VBMI and VBMI2, and all of [`Avx2`].
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

/// An instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What the compiler makes of plain loops; the meaning of all kernels.
    Scalar,
    /// See [`Avx2`].
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// See [`Avx512`].
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Level {
    /// The name, as in `WEIGHTZIP_SIMD`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
        }
    }

    /// Every level that this CPU has, slowest first.
    pub fn all() -> Vec<Self> {
        let mut levels = vec![Self::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(has_avx2().map(Self::Avx2));
            levels.extend(has_avx512().map(Self::Avx512));
        }
        levels
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> Option<Avx2> {
    let has = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt");
    has.then_some(Avx2(()))
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> Option<Avx512> {
    let has = has_avx2().is_some()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2");
    has.then_some(Avx512(()))
}

/// The level in use: the fastest that the CPU has, but none above the one that the environment
/// variable `WEIGHTZIP_SIMD` names.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| choose(std::env::var("WEIGHTZIP_SIMD").ok().as_deref()))
}

/// Levels by name, slowest first.
pub const NAMES: [&str; 3] = ["scalar", "avx2", "avx512"];

fn choose(wanted: Option<&str>) -> Level {
    let most = wanted.and_then(|name| NAMES.iter().position(|n| *n == name));
    let at_most = &NAMES[..=most.unwrap_or(NAMES.len() - 1)];
    let allowed = Level::all().into_iter().rfind(|l| at_most.contains(&l.name()));
    allowed.unwrap_or(Level::Scalar)
}

/// Expands each test body, a function of a level, to a test per level that this CPU has.
#[cfg(test)]
macro_rules! at_each_level {
    ($($body:ident),* $(,)?) => {
        $crate::level::at_each_level!(@ scalar $($body)*);
        $crate::level::at_each_level!(@ avx2 $($body)*);
        $crate::level::at_each_level!(@ avx512 $($body)*);
    };
    (@ $level:ident $($body:ident)*) => {
        mod $level {
            $(#[test] fn $body() {
                let name = stringify!($level);
                match $crate::level::Level::all().into_iter().find(|l| l.name() == name) {
                    Some(level) => super::$body(level),
                    None => println!("skipped: this CPU has no {name}"),
                }
            })*
        }
    };
}
#[cfg(test)]
pub(crate) use at_each_level;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_lowers_the_level_and_never_raises_it() {
        assert_eq!(choose(Some("scalar")), Level::Scalar);
        let all = Level::all();
        assert_eq!(choose(None), all[all.len() - 1]);
        assert_eq!(choose(Some("no such level")), choose(None));
        assert!(["scalar", "avx2"].contains(&choose(Some("avx2")).name()));
    }
}
