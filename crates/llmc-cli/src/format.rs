//! Numbers and tables for people.

/// `1234567` → `1,234,567`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three digits and a letter: `1.24M`, `405B`.
pub fn short(value: f64) -> String {
    let units = [(1e15, "P"), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")];
    match units.into_iter().find(|(unit, _)| value >= *unit) {
        Some((unit, letter)) => {
            let scaled = value / unit;
            let digits = if scaled < 10.0 { 2 } else { usize::from(scaled < 100.0) };
            format!("{scaled:.digits$}{letter}")
        }
        None => format!("{value:.0}"),
    }
}

/// `48.0 MiB`.
pub fn bytes(value: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| value >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", value as f64 / (1u64 << shift) as f64),
        None => format!("{value} bytes"),
    }
}

/// `2m05s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}

/// `12.3 ms`: three digits, from nanoseconds to seconds.
pub fn seconds(value: f64) -> String {
    let units = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")];
    let (unit, name) = units.into_iter().find(|(u, _)| value >= *u).unwrap_or((1e-9, "ns"));
    let scaled = value.max(0.0) / unit;
    let digits = if scaled < 10.0 { 2 } else { usize::from(scaled < 100.0) };
    format!("{scaled:.digits$} {name}")
}

/// Where a cell stands in its column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows in columns two spaces apart; no trailing blanks.
pub fn table(align: &[Align], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..align.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(align).zip(&widths);
        let cells = cells.map(|((cell, align), width)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([grouped(0), grouped(999), grouped(1234567)], ["0", "999", "1,234,567"]);
        assert_eq!([short(999.0), short(1_240.0), short(405e9)], ["999", "1.24k", "405B"]);
        assert_eq!([bytes(10), bytes(1536), bytes(3 << 30)], ["10 bytes", "1.5 KiB", "3.0 GiB"]);
        assert_eq!(
            [seconds(1.5), seconds(0.0123), seconds(4.5e-7)],
            ["1.50 s", "12.3 ms", "450 ns"]
        );
        assert_eq!([duration(3.2), duration(125.0), duration(7260.0)], ["3s", "2m05s", "2h01m"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_string(), "1".to_string()], vec!["bcd".into(), "100".into()]];
        assert_eq!(table(&[Align::Left, Align::Right], &rows), ["a      1", "bcd  100"]);
    }
}
