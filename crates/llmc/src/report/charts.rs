//! The charts of a training: loss, learning rate, gradient norm, throughput.

use super::chart::{Chart, Series, Style, figure};
use super::html::{grouped, significant};
use super::series::{Point, quantile, smooth};
use crate::metrics::{Record, TrainRecord, ValidationRecord};

/// All charts for which there are records.
pub(super) fn curves(records: &[Record]) -> String {
    let train: Vec<&TrainRecord> = records
        .iter()
        .filter_map(|r| if let Record::Train(r) = r { Some(r) } else { None })
        .collect();
    let validation: Vec<&ValidationRecord> = records
        .iter()
        .filter_map(|r| if let Record::Validation(r) = r { Some(r) } else { None })
        .collect();
    let of = |value: fn(&TrainRecord) -> f64| -> Vec<Point> {
        let points = train.iter().map(|r| (r.step as f64, value(r)));
        points.filter(|(_, y)| y.is_finite()).collect()
    };
    let charts = [
        loss(&of(|r| r.loss), &validation, &train),
        rate(of(|r| r.lr)),
        gradient(of(|r| r.grad_norm)),
        throughput(of(|r| r.tokens_per_s)),
    ];
    let figures: String = charts.iter().map(figure).collect();
    if figures.is_empty() {
        return figures;
    }
    format!("<div class=\"charts\">\n{figures}</div>\n")
}

fn loss(train: &[Point], validation: &[&ValidationRecord], steps: &[&TrainRecord]) -> Chart {
    let n_steps = steps.len();
    let held_out: Vec<Point> =
        validation.iter().map(|r| (r.step as f64, r.loss)).filter(|(_, y)| y.is_finite()).collect();
    let mut series =
        smoothed(["training, this step", "training, smoothed", "training"], "a", train);
    let mut caption = String::new();
    if let (Some(first), Some(last)) = (train.first(), series.last().and_then(|s| s.points.last()))
    {
        caption = format!(
            "Training loss went from {} to {} in {} steps. ",
            significant(first.1, 4),
            significant(last.1, 4),
            grouped(n_steps as u64)
        );
    }
    if let Some(best) = held_out.iter().min_by(|a, b| a.1.total_cmp(&b.1)) {
        caption += &format!(
            "The best held-out loss is {} at step {}. ",
            significant(best.1, 4),
            grouped(best.0 as u64)
        );
    }
    if series.len() > 1 {
        caption += "The faint line is each step, the strong one is smoothed. ";
    }
    if n_steps > train.len() {
        caption += &format!("{} steps had a loss that is not finite. ", n_steps - train.len());
    }
    let n_overflows = steps.iter().filter(|r| r.is_overflow).count();
    let n_spikes = steps.iter().filter(|r| r.is_skipped).count() - n_overflows;
    if n_spikes > 0 {
        caption += &format!("{n_spikes} steps were spikes and changed nothing. ");
    }
    if n_overflows > 0 {
        caption += &format!("{n_overflows} steps overflowed float16 and changed nothing. ");
    }
    if let Some(loss) = validation.last().and_then(|r| r.ema_loss) {
        let loss = significant(loss, 4);
        caption +=
            &format!("The moving average of the weights ends at a held-out loss of {loss}. ");
    }
    series.push(Series { name: "held-out", colour: "b", style: Style::Points, points: held_out });
    series.retain(|series| !series.points.is_empty());
    Chart {
        title: "Loss",
        unit: "nats per token",
        caption: caption.trim_end().to_string(),
        class: "wide",
        is_from_zero: false,
        ceiling: None,
        series,
    }
}

fn rate(points: Vec<Point>) -> Chart {
    let peak = points.iter().map(|p| p.1).reduce(f64::max).unwrap_or(0.0);
    Chart {
        title: "Learning rate",
        unit: "",
        caption: format!("The peak is {}.", significant(peak, 4)),
        class: "",
        is_from_zero: true,
        ceiling: None,
        series: vec![Series { name: "learning rate", colour: "c", style: Style::Line, points }],
    }
}

fn gradient(points: Vec<Point>) -> Chart {
    let median = quantile(&points, 0.5).unwrap_or(0.0);
    let mut caption = format!("Before clipping; the median is {}.", significant(median, 3));
    let peak = points.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    // A single spike must not flatten all the rest.
    let usual = quantile(&points, 0.98).unwrap_or(0.0);
    let mut ceiling = None;
    if let Some((step, value)) = peak
        && value > 4.0 * usual
        && usual > 0.0
    {
        ceiling = Some(1.5 * usual);
        caption += &format!(
            " The axis is cut: the peak is {} at step {}.",
            significant(value, 3),
            grouped(step as u64)
        );
    }
    Chart {
        title: "Gradient norm",
        unit: "global norm",
        caption,
        class: "",
        is_from_zero: true,
        ceiling,
        series: smoothed(["this step", "smoothed", "gradient norm"], "d", &points),
    }
}

fn throughput(points: Vec<Point>) -> Chart {
    let median = quantile(&points, 0.5).unwrap_or(0.0);
    Chart {
        title: "Throughput",
        unit: "tokens per second",
        caption: format!("The median is {} tokens per second.", grouped(median.round() as u64)),
        class: "",
        is_from_zero: true,
        ceiling: None,
        series: smoothed(["this step", "smoothed", "tokens per second"], "a", &points),
    }
}

/// A faint series as measured and a smooth one; for few points one line. The
/// names are in this order.
fn smoothed(names: [&'static str; 3], colour: &'static str, points: &[Point]) -> Vec<Series> {
    let series = |name, style, points| Series { name, colour, style, points };
    let [raw, smoothed, only] = names;
    match smooth(points) {
        Some(fitted) => {
            vec![series(raw, Style::Faint, points.to_vec()), series(smoothed, Style::Line, fitted)]
        }
        None => vec![series(only, Style::Line, points.to_vec())],
    }
}
