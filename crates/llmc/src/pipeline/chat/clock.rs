//! `strftime` for chat templates: the directives that templates use, in universal time.
//!
//! The time is a value that the caller gives; nothing here looks at a clock.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Year, month from 1 and day from 1 of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of a year; 400 of them have 146 097 days.
fn civil(day: i64) -> (i64, i64, i64) {
    let from_march = day + 719_468;
    let (era, of_era) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// Formats `seconds` since 1970-01-01 as C's `strftime` does. `%-d` and the like leave out the zero in
/// front; a directive that is not known stays as it is.
pub fn strftime(format: &str, seconds: i64) -> String {
    let (day, time) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, of_month) = civil(day);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let of_year = day - days_before(year);
    let month_name = MONTHS[(month - 1).clamp(0, 11) as usize];
    let day_name = DAYS[(day + 4).rem_euclid(7) as usize];
    let hour12 = (hour + 11) % 12 + 1;
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = rest.next();
        let is_bare = directive == Some('-');
        if is_bare {
            directive = rest.next();
        }
        let padded = |value: i64, width: usize| match is_bare {
            true => value.to_string(),
            false => format!("{value:0width$}"),
        };
        match directive {
            Some('Y') => out.push_str(&year.to_string()),
            Some('y') => out.push_str(&padded(year.rem_euclid(100), 2)),
            Some('m') => out.push_str(&padded(month, 2)),
            Some('d') => out.push_str(&padded(of_month, 2)),
            Some('e') if !is_bare => out.push_str(&format!("{of_month:2}")),
            Some('e') => out.push_str(&of_month.to_string()),
            Some('j') => out.push_str(&padded(of_year + 1, 3)),
            Some('H') => out.push_str(&padded(hour, 2)),
            Some('I') => out.push_str(&padded(hour12, 2)),
            Some('M') => out.push_str(&padded(minute, 2)),
            Some('S') => out.push_str(&padded(second, 2)),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('F') => out.push_str(&format!("{year}-{month:02}-{of_month:02}")),
            Some('T') => out.push_str(&format!("{hour:02}:{minute:02}:{second:02}")),
            Some('Z') => out.push_str("UTC"),
            Some('z') => out.push_str("+0000"),
            Some('%') => out.push('%'),
            other => {
                out.push('%');
                if is_bare {
                    out.push('-');
                }
                out.extend(other);
            }
        }
    }
    out
}

/// The day, counted from 1970-01-01, on which a year begins.
fn days_before(year: i64) -> i64 {
    let y = year - 1;
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) - 719_162
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn directives_are_those_of_python() {
        let check = |format: &str, seconds: i64, expected: &str| {
            assert_eq!(strftime(format, seconds), expected, "{format} at {seconds}");
        };
        check("%d %b %Y", 1_721_952_000, "26 Jul 2024");
        check(
            "%A, %B %-d, %Y, %I:%M %p",
            951_782_400 + 13 * 3600 + 5 * 60,
            "Tuesday, February 29, 2000, 01:05 PM",
        );
        check("%Y-%m-%dT%H:%M:%S%z", 0, "1970-01-01T00:00:00+0000");
        check("%a %y %j %e|%F %T %Z", -1, "Wed 69 365 31|1969-12-31 23:59:59 UTC");
        check("%j", 1_735_603_200, "366");
        check("100%% %Q %-Q %", 0, "100% %Q %-Q %");
    }
}
