//! Escaping, and numbers as people read them.

use std::fmt::Write;

/// Text for an element or a quoted attribute.
/// Source: HTML Living Standard, 13.3, escaping a string.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters are no text in HTML; show that one was there.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A whole number in groups of three: `12,345,678`.
pub(super) fn grouped(value: u64) -> String {
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

/// A count with three digits and its unit apart: `("2.61", "thousand")`.
pub(super) fn scaled(value: u64) -> (String, &'static str) {
    let (divisor, unit) = match value {
        0..10_000 => return (grouped(value), ""),
        10_000..1_000_000 => (1e3, "thousand"),
        1_000_000..1_000_000_000 => (1e6, "million"),
        1_000_000_000..1_000_000_000_000 => (1e9, "billion"),
        _ => (1e12, "trillion"),
    };
    let scaled = value as f64 / divisor;
    let digits = if scaled >= 99.95 { 0 } else { 1 + usize::from(scaled < 9.995) };
    (format!("{scaled:.digits$}"), unit)
}

/// Seconds as `850 ms`, `42.0 s`, `1 min 58 s` or `3 h 5 min`.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".into();
    }
    if seconds < 1.0 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let seconds = seconds.round() as u64;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes} min {rest} s"),
        _ => format!("{hours} h {minutes} min"),
    }
}

/// A number with at most `digits` significant digits and no needless zeros.
pub(super) fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { value.to_string() };
    }
    let text = format!("{value:.*e}", digits.saturating_sub(1));
    let rounded: f64 = text.parse().expect("a formatted float parses");
    if !(1e-4..1e15).contains(&rounded.abs()) {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let mantissa = match mantissa.contains('.') {
            true => mantissa.trim_end_matches('0').trim_end_matches('.'),
            false => mantissa,
        };
        return format!("{mantissa}e{exponent}");
    }
    rounded.to_string()
}

/// Rows of a table; cells are HTML already.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut out = String::from("<div class=\"card scroll\"><table><thead><tr>");
    for title in head {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(title));
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            match i {
                0 => _ = write!(out, "<th scope=\"row\">{cell}</th>"),
                _ => _ = write!(out, "<td>{cell}</td>"),
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    out
}
