//! From measured points to drawn ones: smoothing, thinning, ranges and ticks.

/// (x, y), x rising.
pub(super) type Point = (f64, f64);

/// Most points of one drawn line; more than pixels would be waste.
const MAX_POINTS: usize = 1000;

/// Fewer points are not smoothed.
const MIN_SMOOTHED: usize = 24;

/// Locally weighted linear regression: the value at xᵢ of the line that fits the
/// points around it best, with weights (1 − |d|³)³ over the distance d. Unlike a
/// moving average it neither lags behind nor bends at the ends. `None` for few
/// points.
///
/// Source: Cleveland 1979, Journal of the American Statistical Association 74,
/// 829–836, without the robust iterations.
pub(super) fn smooth(points: &[Point]) -> Option<Vec<Point>> {
    if points.len() < MIN_SMOOTHED {
        return None;
    }
    // The nearest points, as many at the ends as in the middle.
    let half = (points.len() / 25).clamp(4, 200);
    let n = 2 * half + 1;
    let fitted = (0..points.len()).map(|i| {
        let start = i.saturating_sub(half).min(points.len() - n);
        (points[i].0, fit(&points[start..start + n], points[i].0))
    });
    Some(fitted.collect())
}

/// The value at `x` of the weighted line through `points`.
fn fit(points: &[Point], x: f64) -> f64 {
    let reach = points.iter().map(|p| (p.0 - x).abs()).fold(0.0, f64::max) * 1.001;
    let (mut w, mut wx, mut wy, mut wxx, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (px, y) in points {
        let dx = px - x;
        let d = if reach > 0.0 { (dx / reach).abs() } else { 0.0 };
        let weight = (1.0 - d * d * d).powi(3);
        w += weight;
        wx += weight * dx;
        wy += weight * y;
        wxx += weight * dx * dx;
        wxy += weight * dx * y;
    }
    let det = w * wxx - wx * wx;
    if det > 1e-12 * w * wxx { (wxx * wy - wx * wxy) / det } else { wy / w }
}

/// Keeps least and greatest of each of equal pieces, in their order, so that
/// spikes stay visible.
pub(super) fn thin(points: &[Point]) -> Vec<Point> {
    if points.len() <= MAX_POINTS {
        return points.to_vec();
    }
    let piece = points.len().div_ceil(MAX_POINTS / 2);
    let mut out = Vec::with_capacity(MAX_POINTS + 2);
    for points in points.chunks(piece) {
        let by_y = |a: &&Point, b: &&Point| a.1.total_cmp(&b.1);
        let (least, greatest) = (points.iter().min_by(by_y), points.iter().max_by(by_y));
        if let (Some(least), Some(greatest)) = (least, greatest) {
            let (first, second) =
                if least.0 <= greatest.0 { (least, greatest) } else { (greatest, least) };
            out.push(*first);
            if second.0 > first.0 {
                out.push(*second);
            }
        }
    }
    let last = points[points.len() - 1];
    if out.last() != Some(&last) {
        out.push(last);
    }
    out
}

/// The value below which `part` of the values lie.
pub(super) fn quantile(points: &[Point], part: f64) -> Option<f64> {
    let mut values: Vec<f64> = points.iter().map(|p| p.1).collect();
    values.sort_by(f64::total_cmp);
    let idx = ((values.len() as f64 * part) as usize).min(values.len().checked_sub(1)?);
    Some(values[idx])
}

/// A range that holds `low..=high` and starts and ends at ticks, and the ticks:
/// about `n` multiples of 1, 2 or 5 times a power of ten.
pub(super) fn nice_range(low: f64, high: f64, n: usize) -> (f64, f64, Vec<f64>) {
    let span = if high > low { high - low } else { low.abs().max(1.0) };
    let (low, high) = if high > low { (low, high) } else { (low - span / 2.0, low + span / 2.0) };
    let step = nice_step(span / n.max(1) as f64);
    let (first, last) = ((low / step).floor(), (high / step).ceil());
    let count = (last - first) as usize;
    let ticks: Vec<f64> = (0..=count).map(|i| (first + i as f64) * step).collect();
    (first * step, last * step, ticks)
}

/// Ticks inside `low..=high`.
pub(super) fn inner_ticks(low: f64, high: f64, n: usize) -> Vec<f64> {
    if high <= low {
        return vec![low];
    }
    let (_, _, ticks) = nice_range(low, high, n);
    ticks.into_iter().filter(|tick| (low..=high).contains(tick)).collect()
}

/// The least of 1, 2, 5 times a power of ten that is not below `step`.
fn nice_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = step / power;
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| factor <= f * (1.0 + 1e-9));
    nice.unwrap_or(10.0) * power
}
