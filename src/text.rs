//! Numbers and words as people read them: one way for each, wherever they are printed or drawn.

use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

/// `1 image`, `2 images`, `45,000 images`.
pub fn counted(count: usize, what: &str) -> String {
    let ending = match (count, what) {
        (1, _) => "",
        (_, what) if what.ends_with('s') || what.ends_with("tch") => "es",
        _ => "s",
    };
    format!("{} {what}{ending}", grouped(count))
}

/// `551,466`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let first = (digits.len() - 1) % 3 + 1;
    let (head, tail) = digits.split_at(first);
    let mut text = head.to_string();
    for (index, digit) in tail.chars().enumerate() {
        if index % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A small number with three digits that count: `0.0892`, `0.002`; `4.76e-5` where it is smaller.
pub fn figure(number: f64) -> String {
    if number != 0.0 && number.abs() < 1e-3 {
        return format!("{number:.2e}");
    }
    let digits = (2.0 - number.abs().max(1e-3).log10().floor()).clamp(0.0, 5.0) as usize;
    let text = format!("{number:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

/// A digest in hexadecimal.
pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `12s`, `3m05s`, `2h07m`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round().max(0.0) as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

/// A moment as a date and a time of day in UTC: `2026-11-25 21:28 UTC`.
pub fn moment(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (mut days, minutes) = (seconds / 86_400, seconds / 60 % 1440);
    let by = |year: u64, n: u64| year.is_multiple_of(n);
    let is_leap = |year| by(year, 4) && (!by(year, 100) || by(year, 400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02} {:02}:{:02} UTC", days + 1, minutes / 60, minutes % 60)
}

/// An amount of memory or of a file, in powers of ten: `512 B`, `24.6 kB`, `170.5 MB`, `2.1 GB`.
pub fn bytes(bytes: u64) -> String {
    let value = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.1} GB", value / 1e9),
    }
}

/// A rate of operations or bytes a second: `356 GFLOP/s`, `40.0 TFLOP/s`, `28.1 GB/s`.
pub fn rate(a_second: f64, unit: &str) -> String {
    let (value, prefix) = if a_second < 1e12 { (a_second / 1e9, "G") } else { (a_second / 1e12, "T") };
    let digits = usize::from(value < 100.0);
    format!("{value:.digits$} {prefix}{unit}/s")
}

/// The candidate fewest edits away, the first of several; none where all are too far to be meant.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// The distance costs the product of both lengths, and names come from files.
    const LONGEST: usize = 200;
    let near_enough = 2.max(name.len() / 3);
    candidates
        .filter(|other| name.len() <= LONGEST && other.len() <= LONGEST)
        .map(|other| (edit_distance(name, other), other))
        .filter(|(distance, _)| *distance <= near_enough)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// Levenshtein's distance: how many letters to insert, delete or replace to get from `a` to `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    // `row[j]`: the distance from the letters of `a` seen so far to the first `j` of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_have_three_digits() {
        assert_eq!(rate(356.4e9, "FLOP"), "356 GFLOP/s");
        assert_eq!(rate(40.03e12, "FLOP"), "40.0 TFLOP/s");
        assert_eq!(rate(28.14e9, "B"), "28.1 GB/s");
        assert_eq!(rate(3.7086e12, "B"), "3.7 TB/s");
    }

    #[test]
    fn distances() {
        for (a, b, distance) in
            [("", "abc", 3), ("kitten", "sitting", 3), ("conv1", "conv1", 0), ("ab", "ba", 2)]
        {
            assert_eq!(edit_distance(a, b), distance);
            assert_eq!(edit_distance(b, a), distance);
        }
    }

    #[test]
    fn things_are_counted() {
        let cases = [
            (0, "image"),
            (1, "image"),
            (2, "class"),
            (1, "class"),
            (45_000, "image"),
            (3, "batch"),
            (8, "epoch"),
        ];
        let texts = cases.map(|(count, what)| counted(count, what));
        assert_eq!(
            texts,
            ["0 images", "1 image", "2 classes", "1 class", "45,000 images", "3 batches", "8 epochs"]
        );
    }

    #[test]
    fn numbers_are_grouped() {
        let texts = [0, 12, 123, 1234, 12_345, 1_000_000].map(grouped);
        assert_eq!(texts, ["0", "12", "123", "1,234", "12,345", "1,000,000"]);
    }

    #[test]
    fn figures_have_three_digits() {
        let texts = [0.08921, 0.1, 0.002, 4.76e-5, 0.0, 12.5, 1234.5, 0.00671].map(figure);
        assert_eq!(texts, ["0.0892", "0.1", "0.002", "4.76e-5", "0", "12.5", "1234", "0.00671"]);
    }

    #[test]
    fn moments_are_dates() {
        let moment = |seconds| moment(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(moment(0), "1970-01-01 00:00 UTC");
        assert_eq!(moment(951_782_399), "2000-02-28 23:59 UTC");
        assert_eq!(moment(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(moment(1_735_689_599), "2024-12-31 23:59 UTC");
        assert_eq!(moment(1_795_642_080), "2026-11-25 21:28 UTC");
    }

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!([0.4, 12.0, 185.0, 7620.0].map(duration), ["0s", "12s", "3m05s", "2h07m"]);
        let texts = [999, 24_600, 170_498_071, 2_147_483_648].map(bytes);
        assert_eq!(texts, ["999 B", "24.6 kB", "170.5 MB", "2.1 GB"]);
    }
}
