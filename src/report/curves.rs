//! Plots as SVG: training, precision against recall, scores, picks of micrographs.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::error::{Error, Result};
use crate::eval::{Evaluation, Point};
use crate::radius::{Proposal, Rung};
use crate::train::Epoch;

const SIZE: (u32, u32) = (520, 360);
const TEXT: (&str, u32) = ("sans-serif", 15);
/// Okabe and Ito's blue, vermillion and green, which colour-blind readers can tell apart, and a
/// grey that stands out from dark and from light ground.
const BLUE: RGBColor = RGBColor(0, 114, 178);
const VERMILLION: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const GREY: RGBColor = RGBColor(140, 140, 140);

/// Bins of a histogram of scores.
pub const SCORE_BINS: usize = 40;

/// Counts scores from 0 to 1 in equal bins.
pub fn count_scores(bins: &mut [u64; SCORE_BINS], scores: impl Iterator<Item = f32>) {
    for score in scores {
        bins[((score * SCORE_BINS as f32) as usize).min(SCORE_BINS - 1)] += 1;
    }
}

/// One of an epoch's figures.
type Figure = fn(&Epoch) -> f64;
type Painted = std::result::Result<(), Box<dyn std::error::Error>>;
type Canvas<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Precision against recall (means over micrographs); a dot marks the threshold that is used.
pub fn precision_recall(evaluation: &Evaluation) -> Result<String> {
    let point = |p: &Point| (p.macro_.recall, p.macro_.precision);
    let used = (evaluation.macro_.recall, evaluation.macro_.precision);
    let title = format!(
        "F1 {:.3}, average precision {:.3}",
        evaluation.macro_.f1, evaluation.average_precision
    );
    draw(|area| {
        let mut chart = axes(area, &title, (0.0..1.0, "recall"), (0.0..1.0, "precision"))?;
        chart.draw_series(LineSeries::new(
            evaluation.curve.iter().map(point),
            BLUE.stroke_width(2),
        ))?;
        chart.draw_series([Circle::new(used, 5, VERMILLION.filled())])?;
        Ok(())
    })
}

/// Training loss, and precision, recall and F1 on validation, against epochs.
pub fn learning(epochs: &[Epoch]) -> Result<String> {
    let last = epochs.len().max(2) as f64;
    let top = epochs.iter().map(|epoch| epoch.loss).fold(1.0, f64::max);
    draw(|area| {
        let mut chart = axes(area, "training", (1.0..last, "epoch"), (0.0..top, ""))?;
        let lines: [(&str, RGBColor, Figure); 4] = [
            ("loss", GREY, |epoch| epoch.loss),
            ("precision", BLUE, |epoch| epoch.precision),
            ("recall", GREEN, |epoch| epoch.recall),
            ("F1", VERMILLION, |epoch| epoch.f1),
        ];
        for (name, color, value) in lines {
            let points = epochs.iter().map(|epoch| (epoch.epoch as f64, value(epoch)));
            chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?.label(name).legend(
                move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)),
            );
        }
        legend(&mut chart, area)
    })
}

/// How many stored peaks have which score; those from the threshold up are picks.
pub fn scores(bins: &[u64; SCORE_BINS], threshold: f32) -> Result<String> {
    let top = bins.iter().copied().max().unwrap_or(1).max(1) as f64;
    let width = 1.0 / SCORE_BINS as f64;
    draw(|area| {
        let mut chart = axes(area, "scores of peaks", (0.0..1.0, "score"), (0.0..top, "peaks"))?;
        chart.draw_series(bins.iter().enumerate().map(|(bin, count)| {
            let left = bin as f64 * width;
            let color = if left + width / 2.0 >= f64::from(threshold) { BLUE } else { GREY };
            Rectangle::new([(left, 0.0), (left + 0.9 * width, *count as f64)], color.filled())
        }))?;
        let cut = f64::from(threshold);
        chart.draw_series(LineSeries::new([(cut, 0.0), (cut, top)], VERMILLION.stroke_width(2)))?;
        Ok(())
    })
}

/// Picks of each micrograph in their order, with the median as a line.
pub fn picks_each(counts: &[usize], median: f64) -> Result<String> {
    let last = counts.len().max(2) as f64;
    let top = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let radius = if counts.len() < 100 { 4 } else { 2 };
    draw(|area| {
        let title = "picks of each micrograph";
        let mut chart = axes(area, title, (1.0..last, "micrograph"), (0.0..top * 1.05, "picks"))?;
        let dots = counts.iter().enumerate();
        chart.draw_series(dots.map(|(i, count)| {
            Circle::new(((i + 1) as f64, *count as f64), radius, BLUE.filled())
        }))?;
        let line = [(1.0, median), (last, median)];
        chart.draw_series(LineSeries::new(line, VERMILLION.stroke_width(1)))?;
        Ok(())
    })
}

/// How steady picks are (blue), and how many there are beside the most (grey), at each radius that
/// was tried; a line marks the proposal.
pub fn radius(rungs: &[Rung], proposal: Option<&Proposal>) -> Result<String> {
    let most = rungs.iter().map(|rung| rung.picks).max().unwrap_or(1).max(1) as f64;
    // Nothing of interest lies far beyond the particle.
    let last = proposal.map_or(f64::INFINITY, |proposal| 5.0 * proposal.radius_px);
    let shown: Vec<&Rung> = rungs.iter().filter(|rung| rung.radius_px <= last).collect();
    let end = shown.last().map_or(1.0, |rung| rung.radius_px);
    let title = match proposal {
        Some(proposal) => format!(
            "particle radius {:.1} px, steadiness {:.2}",
            proposal.radius_px, proposal.steadiness
        ),
        None => "no particle radius found".into(),
    };
    draw(|area| {
        let mut chart = axes(area, &title, (0.0..end, "radius tried, px"), (0.0..1.0, ""))?;
        let line = |value: &dyn Fn(&Rung) -> f64| -> Vec<(f64, f64)> {
            shown.iter().map(|rung| (rung.radius_px, value(rung))).collect()
        };
        for (name, color, points) in [
            ("picks, beside the most", GREY, line(&|rung| rung.picks as f64 / most)),
            ("steadiness", BLUE, line(&|rung| rung.steadiness)),
        ] {
            chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?.label(name).legend(
                move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)),
            );
        }
        if let Some(proposal) = proposal {
            let line = [(proposal.radius_px, 0.0), (proposal.radius_px, 1.0)];
            chart.draw_series(LineSeries::new(line, VERMILLION.stroke_width(2)))?;
        }
        legend(&mut chart, area)
    })
}

/// F1 of each variant, by name: a dot a seed, a line from lowest to highest, a larger dot for the
/// mean.
pub fn ablation(rows: &[(&str, &[f64])]) -> Result<String> {
    let of_all = || rows.iter().flat_map(|(_, f1)| f1.iter().copied());
    let (low, high) = (of_all().fold(1.0, f64::min), of_all().fold(0.0, f64::max));
    // A little room, and never a range of nothing.
    let room = (0.1 * (high - low)).max(0.005);
    let name = |at: &f64| {
        let near = (at - at.round()).abs() < 1e-6 && *at >= 0.0;
        let row = near.then(|| rows.get(at.round() as usize)).flatten();
        row.map(|(name, _)| (*name).to_string()).unwrap_or_default()
    };
    draw(|area| {
        let text = TEXT.into_text_style(area).color(&BLACK);
        let range = (low - room)..(high + room);
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .caption("F1 on the test micrographs", text.clone())
            .x_label_area_size(44)
            .y_label_area_size(150)
            .build_cartesian_2d(range, -0.5..rows.len() as f64 - 0.5)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(2 * rows.len() + 1)
            .y_label_formatter(&name)
            .x_label_formatter(&|f1| format!("{f1:.3}"))
            .x_labels(5)
            .label_style(text)
            .axis_style(GREY)
            .bold_line_style(GREY.mix(0.3))
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (at, (_, f1)) in rows.iter().enumerate() {
            let (at, mean) = (at as f64, f1.iter().sum::<f64>() / f1.len() as f64);
            let line = f1.iter().map(|f1| (*f1, at));
            chart.draw_series(LineSeries::new(line, GREY.stroke_width(2)))?;
            chart.draw_series(f1.iter().map(|f1| Circle::new((*f1, at), 3, GREY.filled())))?;
            chart.draw_series([Circle::new((mean, at), 5, BLUE.filled())])?;
        }
        Ok(())
    })
}

fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>, area: &Canvas) -> Painted {
    chart
        .configure_series_labels()
        .label_font(TEXT.into_text_style(area).color(&BLACK))
        .background_style(WHITE)
        .border_style(GREY)
        .draw()?;
    Ok(())
}

fn axes<'a, 'b>(
    area: &'a Canvas<'b>,
    title: &str,
    (x, x_name): (std::ops::Range<f64>, &str),
    (y, y_name): (std::ops::Range<f64>, &str),
) -> std::result::Result<Chart<'a, 'b>, Box<dyn std::error::Error>> {
    let text = TEXT.into_text_style(area).color(&BLACK);
    // Shares want decimals, counts do not.
    let digits = |range: &std::ops::Range<f64>| usize::from(range.end <= 5.0);
    let (x_digits, y_digits) = (digits(&x), digits(&y));
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .caption(title, text.clone())
        .x_label_area_size(44)
        .y_label_area_size(58)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_label_formatter(&|v| format!("{v:.x_digits$}"))
        .y_label_formatter(&|v| format!("{v:.y_digits$}"))
        .x_desc(x_name)
        .y_desc(y_name)
        .x_labels(6)
        .y_labels(6)
        .label_style(text.clone())
        .axis_desc_style(text)
        .axis_style(GREY)
        .bold_line_style(GREY.mix(0.3))
        .light_line_style(TRANSPARENT)
        .draw()?;
    Ok(chart)
}

fn draw(paint: impl FnOnce(&Canvas) -> Painted) -> Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let painted = area.fill(&WHITE).map_err(Into::into).and_then(|()| paint(&area));
    let painted = painted.and_then(|()| area.present().map_err(Into::into));
    drop(area);
    painted.map_err(|error| {
        Error::missing(format!("a plot cannot be drawn: {error}"), "report this as a defect")
    })?;
    Ok(svg)
}
