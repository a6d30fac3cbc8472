//! Sizes, ratios and speeds for people.

use std::time::Duration;

/// `1.20 MB`; units are powers of 1000.
pub(crate) fn bytes(n: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.iter().find(|(_, size)| n as f64 >= *size) {
        Some((unit, size)) => format!("{:.2} {unit}", n as f64 / size),
        None => format!("{n} bytes"),
    }
}

/// `66.5 %`, or a dash where there is nothing to compare with.
pub(crate) fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |r| format!("{:.1} %", r * 100.0))
}

/// What a ratio saves: `33.5 %`. Nothing if that is less than can be shown.
pub(crate) fn saving(ratio: Option<f64>) -> String {
    match ratio.map(|ratio| 1.0 - ratio) {
        Some(saved) if saved < 0.0005 => "nothing".to_owned(),
        saved => percent(saved),
    }
}

/// `part / whole`, unless the whole is empty.
pub(crate) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// 10^9 bytes per second.
pub(crate) fn gbps(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64().max(1e-9) / 1e9
}

/// `1.2 GB/s`, or `12 MB/s`
pub(crate) fn rate(bytes: u64, time: Duration) -> String {
    match gbps(bytes, time) {
        slow if slow < 0.1 => format!("{:.0} MB/s", slow * 1e3),
        fast => format!("{fast:.1} GB/s"),
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `value` with `digits` decimals, for JSON that stays readable.
pub(crate) fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_change_unit_at_powers_of_1000() {
        assert_eq!(bytes(999), "999 bytes");
        assert_eq!(bytes(1000), "1.00 kB");
        assert_eq!(bytes(1_204_000), "1.20 MB");
        assert_eq!(bytes(145_000_000_000), "145.00 GB");
    }

    #[test]
    fn speeds_say_something_when_they_are_low() {
        assert_eq!(rate(2_500_000_000, Duration::from_secs(1)), "2.5 GB/s");
        assert_eq!(rate(12_000_000, Duration::from_secs(1)), "12 MB/s");
    }

    #[test]
    fn ratios_of_nothing_are_a_dash() {
        assert_eq!(percent(ratio(665, 1000)), "66.5 %");
        assert_eq!(percent(ratio(48, 0)), "-");
        assert_eq!(saving(ratio(665, 1000)), "33.5 %");
        assert_eq!(saving(ratio(1001, 1000)), "nothing");
        assert_eq!(saving(None), "-");
        assert_eq!(round(0.664_849, 4), 0.6648);
        assert_eq!(hex(&[0, 255]), "00ff");
    }
}
