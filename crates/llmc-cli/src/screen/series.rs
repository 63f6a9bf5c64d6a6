//! Numbers by step for a curve, in bounded memory: beyond a limit neighbours are joined.

/// Points that are kept, at most; more than a terminal has columns.
const MAX_POINTS: usize = 2048;

/// A curve that grows at its end.
#[derive(Clone, Debug)]
pub struct Series {
    /// Values that one point stands for.
    stride: usize,
    points: Vec<(f64, f64)>,
    /// Sum and number of the values of the next point.
    open: (f64, usize),
}

impl Default for Series {
    fn default() -> Self {
        Series { stride: 1, points: Vec::new(), open: (0.0, 0) }
    }
}

impl Series {
    /// Adds the value of a step. What is not finite has no place on a curve.
    pub fn push(&mut self, step: u64, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.open = (self.open.0 + value, self.open.1 + 1);
        if self.open.1 < self.stride {
            return;
        }
        self.points.push((step as f64, self.open.0 / self.open.1 as f64));
        self.open = (0.0, 0);
        if self.points.len() > MAX_POINTS {
            // The mean of two neighbours stands at the later step.
            let joined = self.points.chunks(2).map(|pair| {
                let sum: f64 = pair.iter().map(|p| p.1).sum();
                (pair[pair.len() - 1].0, sum / pair.len() as f64)
            });
            self.points = joined.collect();
            self.stride *= 2;
        }
    }

    /// Step and value, in order.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }
}

/// The least and the greatest value of some curves, a little apart.
pub fn range(curves: &[&[(f64, f64)]]) -> [f64; 2] {
    let values = || curves.iter().flat_map(|c| c.iter()).map(|p| p.1);
    let (low, high) =
        (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    if low > high {
        return [0.0, 1.0];
    }
    let gap = ((high - low) * 0.05).max(high.abs() * 1e-3).max(1e-9);
    [low - gap, high + gap]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_keeps_its_shape_in_few_points() {
        let mut series = Series::default();
        for step in 1..=100_000u64 {
            series.push(step, step as f64);
        }
        let points = series.points();
        assert!(points.len() <= MAX_POINTS && points.len() > MAX_POINTS / 4, "{}", points.len());
        assert!(points.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
        assert!(points.iter().all(|(step, value)| (step - value).abs() <= 64.0));
    }

    #[test]
    fn a_range_holds_all_values_and_is_never_empty() {
        assert_eq!(range(&[]), [0.0, 1.0]);
        let [low, high] = range(&[&[(1.0, 2.0), (2.0, 4.0)], &[(1.0, 1.0)]]);
        assert!(low < 1.0 && high > 4.0 && high < 4.5);
        let [low, high] = range(&[&[(1.0, 3.0)]]);
        assert!(low < 3.0 && high > 3.0);
        let mut series = Series::default();
        series.push(1, f64::NAN);
        assert!(series.points().is_empty());
    }
}
