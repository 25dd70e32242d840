//! Curves as SVG: precision against recall, and training against epochs.

use std::path::Path;

use plotters::prelude::*;

use crate::error::{Error, Result};
use crate::eval::{Evaluation, Point};
use crate::publish::publish_text;
use crate::train::Epoch;

const SIZE: (u32, u32) = (640, 480);
/// Okabe and Ito's blue, vermillion and green, which colour-blind readers can tell apart.
const BLUE: RGBColor = RGBColor(0, 114, 178);
const VERMILLION: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);

/// Writes the precision–recall curve (means over micrographs) with the picks as judged marked.
pub fn precision_recall(path: &Path, evaluation: &Evaluation) -> Result<()> {
    let point = |p: &Point| (p.macro_.recall, p.macro_.precision);
    let used = (evaluation.macro_.recall, evaluation.macro_.precision);
    draw(path, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(16)
            .caption(
                format!(
                    "F1 {:.3}, average precision {:.3}",
                    evaluation.macro_.f1, evaluation.average_precision
                ),
                ("sans-serif", 18),
            )
            .x_label_area_size(40)
            .y_label_area_size(50)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        chart
            .configure_mesh()
            .x_desc("recall")
            .y_desc("precision")
            .light_line_style(WHITE)
            .draw()?;
        chart.draw_series(LineSeries::new(
            evaluation.curve.iter().map(point),
            BLUE.stroke_width(2),
        ))?;
        chart.draw_series([Circle::new(used, 5, VERMILLION.filled())])?;
        Ok(())
    })
}

/// Writes training loss and validation precision, recall and F1 against epochs.
pub fn learning(path: &Path, epochs: &[Epoch]) -> Result<()> {
    let last = epochs.len().max(2) as f64;
    let top = epochs.iter().map(|epoch| epoch.loss).fold(1.0, f64::max);
    draw(path, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(16)
            .caption("training", ("sans-serif", 18))
            .x_label_area_size(40)
            .y_label_area_size(50)
            .build_cartesian_2d(1.0..last, 0.0..top)?;
        chart.configure_mesh().x_desc("epoch").light_line_style(WHITE).draw()?;
        let lines: [(&str, RGBColor, Figure); 4] = [
            ("loss", BLACK, |epoch| epoch.loss),
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
        chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
        Ok(())
    })
}

type Figure = fn(&Epoch) -> f64;
type Canvas<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(
    path: &Path,
    paint: impl FnOnce(&Canvas) -> std::result::Result<(), Box<dyn std::error::Error>>,
) -> Result<()> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let painted = area.fill(&WHITE).map_err(Into::into).and_then(|()| paint(&area));
    let painted = painted.and_then(|()| area.present().map_err(Into::into));
    drop(area);
    painted.map_err(|e| Error::unusable(path, format!("the curve cannot be drawn: {e}"), ""))?;
    publish_text(path, &svg)
}
