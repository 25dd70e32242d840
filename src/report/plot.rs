//! What plots have in common: axes with ticks, a legend above the curves, names of points.

use std::fmt::Write as _;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::page::escape;
use crate::error::{Error, Result};

pub(super) const SIZE: (u32, u32) = (520, 372);
pub(super) const TEXT: (&str, u32) = ("sans-serif", 15);
pub(super) const GREY: RGBColor = RGBColor(140, 140, 140);
const MARGIN_PX: i32 = 10;
/// Height of the title, and of a row of the legend.
const ROW_PX: i32 = 22;
/// The sample of a colour in the legend, and the space after an entry.
const SAMPLE_PX: i32 = 16;
const GAP_PX: i32 = 14;
/// Most ticks of an axis, less one.
const INTERVALS: f64 = 5.0;

pub(super) type Painted<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;
pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Ticked, Ticked>>;

/// An axis.
#[derive(Debug)]
pub(super) struct Axis<'a> {
    range: Range<f64>,
    name: &'a str,
    /// Counts have no fractions.
    whole: bool,
}

impl<'a> Axis<'a> {
    /// Of shares and lengths.
    pub(super) fn of(range: Range<f64>, name: &'a str) -> Axis<'a> {
        Axis { range, name, whole: false }
    }

    /// Of counts from zero to at least `most`, with room above the highest.
    pub(super) fn of_counts(most: usize, name: &'a str) -> Axis<'a> {
        Axis { range: 0.0..1.05 * most.max(1) as f64, name, whole: true }
    }

    /// Of things in their order from the first to the `last`, which may be the same; with room beside
    /// both.
    pub(super) fn of_numbers(last: usize, name: &'a str) -> Axis<'a> {
        Axis { range: 0.5..last.max(1) as f64 + 0.5, name, whole: true }
    }

    /// Where it starts and ends.
    pub(super) fn ends(&self) -> (f64, f64) {
        (self.range.start, self.range.end)
    }

    /// The distance of its ticks: 1, 2 or 5 of a power of ten.
    fn step(&self) -> f64 {
        let least = (self.range.end - self.range.start) / INTERVALS;
        let power = 10_f64.powf(least.log10().floor());
        let steps = [1.0, 2.0, 5.0].map(|step| step * power);
        let step = steps.into_iter().find(|step| *step >= 0.999 * least).unwrap_or(10.0 * power);
        if self.whole { step.max(1.0) } else { step }
    }

    fn ticks(&self) -> Vec<f64> {
        let step = self.step();
        let first = (self.range.start / step - 1e-6).ceil() as i64;
        let last = (self.range.end / step + 1e-6).floor() as i64;
        (first..=last).map(|tick| tick as f64 * step).collect()
    }

    /// Decimals that tell its ticks apart.
    fn digits(&self) -> usize {
        (-self.step().log10()).ceil().max(0.0) as usize
    }
}

/// An axis with the ticks that it chooses itself.
pub(super) struct Ticked {
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Ticked {
    fn of(axis: &Axis) -> Ticked {
        Ticked { range: axis.range.clone(), ticks: axis.ticks() }
    }
}

impl Ranged for Ticked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        first + (share * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// An entry of a legend.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sample<'a> {
    /// A curve.
    Line(&'a str, RGBColor),
    /// A point.
    Dot(&'a str, RGBColor),
    /// A bar or an area.
    Area(&'a str, RGBAColor),
}

impl Sample<'_> {
    fn name(&self) -> &str {
        match self {
            Sample::Line(name, _) | Sample::Dot(name, _) | Sample::Area(name, _) => name,
        }
    }
}

/// Axes under a title and a legend, which has as many rows as it needs, so that it hides no curve.
pub(super) fn axes<'a, 'b>(
    area: &'a Canvas<'b>,
    title: &str,
    legend: &[Sample],
    (x, y): (&Axis, &Axis),
) -> Painted<Chart<'a, 'b>> {
    let text = TEXT.into_text_style(area).color(&BLACK);
    let middle = Pos::new(HPos::Center, VPos::Center);
    let place = (SIZE.0 as i32 / 2, MARGIN_PX + ROW_PX / 2 - 2);
    area.draw(&Text::new(title, place, text.pos(middle)))?;
    let head = MARGIN_PX + ROW_PX + write_legend(area, legend)?;
    let (x_digits, y_digits) = (x.digits(), y.digits());
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN_PX)
        .margin_top(head)
        .x_label_area_size(44)
        .y_label_area_size(58)
        .build_cartesian_2d(Ticked::of(x), Ticked::of(y))?;
    let text = TEXT.into_text_style(area).color(&BLACK);
    chart
        .configure_mesh()
        .x_label_formatter(&|v| format!("{v:.x_digits$}"))
        .y_label_formatter(&|v| format!("{v:.y_digits$}"))
        .x_desc(x.name)
        .y_desc(y.name)
        .label_style(text.clone())
        .axis_desc_style(text)
        .axis_style(GREY)
        .bold_line_style(GREY.mix(0.3))
        .light_line_style(TRANSPARENT)
        .draw()?;
    Ok(chart)
}

/// Writes the legend below the title; its height.
fn write_legend(area: &Canvas, legend: &[Sample]) -> Painted<i32> {
    let style = TEXT.into_text_style(area).color(&BLACK);
    let style = style.pos(Pos::new(HPos::Left, VPos::Center));
    let most = SIZE.0 as i32 - MARGIN_PX;
    let (mut x, mut row) = (MARGIN_PX + 58, 0);
    for (at, sample) in legend.iter().enumerate() {
        let wide = area.estimate_text_size(sample.name(), &style)?.0 as i32 + SAMPLE_PX + 6;
        if at > 0 && x + wide > most {
            (x, row) = (MARGIN_PX + 58, row + 1);
        }
        let y = MARGIN_PX + ROW_PX + row * ROW_PX + ROW_PX / 2 - 3;
        let (left, middle) = ((x, y), (x + SAMPLE_PX / 2, y));
        match sample {
            Sample::Line(_, color) => {
                area.draw(&PathElement::new([left, (x + SAMPLE_PX, y)], color.stroke_width(2)))?;
            }
            Sample::Dot(_, color) => area.draw(&Circle::new(middle, 5, color.filled()))?,
            Sample::Area(_, color) => {
                let corners = [(x, y - 5), (x + SAMPLE_PX, y + 5)];
                area.draw(&Rectangle::new(corners, color.filled()))?;
            }
        }
        area.draw(&Text::new(sample.name(), (x + SAMPLE_PX + 6, y), style.clone()))?;
        x += wide + GAP_PX;
    }
    Ok(if legend.is_empty() { 0 } else { (row + 1) * ROW_PX })
}

/// Names that a browser shows while the mouse is on a point; some lead to a picture.
#[derive(Debug, Default)]
pub(super) struct Names(String);

impl Names {
    /// Names the point at these px.
    pub(super) fn add(&mut self, (x, y): (i32, i32), name: &str, link: Option<&str>) {
        let name = escape(name);
        let spot = format!(
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"7\" fill=\"#000000\" fill-opacity=\"0\">\
             <title>{name}</title></circle>"
        );
        // Writing to a String cannot fail.
        let _ = match link {
            Some(link) => writeln!(self.0, "<a href=\"{}\">{spot}</a>", escape(link)),
            None => writeln!(self.0, "{spot}"),
        };
    }
}

/// A plot without names.
pub(super) fn draw(paint: impl FnOnce(&Canvas) -> Painted) -> Result<String> {
    draw_named(|area, _| paint(area))
}

/// A plot, with names above all that is painted.
pub(super) fn draw_named(paint: impl FnOnce(&Canvas, &mut Names) -> Painted) -> Result<String> {
    let (mut svg, mut names) = (String::new(), Names::default());
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let painted = area.fill(&WHITE).map_err(Into::into).and_then(|()| paint(&area, &mut names));
    let painted = painted.and_then(|()| area.present().map_err(Into::into));
    drop(area);
    painted.map_err(|error| {
        Error::missing(format!("a plot cannot be drawn: {error}"), "report this as a defect")
    })?;
    if let Some(end) = svg.rfind("</svg>") {
        svg.insert_str(end, &names.0);
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_whole_ticks_and_shares_as_many_decimals_as_they_need() {
        for last in [1, 2, 3, 4, 7, 12, 20, 333, 19_000] {
            let axis = Axis::of_numbers(last, "micrograph");
            let ticks = axis.ticks();
            assert!(ticks.iter().all(|tick| tick.fract() == 0.0), "{last}: {ticks:?}");
            assert!((1..=7).contains(&ticks.len()), "{last}: {ticks:?}");
            assert_eq!(axis.digits(), 0, "{last}");
            let ticks = Axis::of_counts(last - 1, "picks").ticks();
            assert!(ticks.iter().all(|tick| tick.fract() == 0.0), "{last}: {ticks:?}");
            assert!(ticks.len() > 1, "{last}: {ticks:?}");
        }
        let share = Axis::of(0.0..1.0, "recall");
        assert_eq!((share.ticks().len(), share.digits()), (6, 1));
        let narrow = Axis::of(0.913..0.947, "F1");
        assert_eq!(narrow.digits(), 2, "{:?}", narrow.ticks());
        assert!(narrow.ticks().iter().all(|tick| narrow.range.contains(tick)));
    }

    #[test]
    fn names_of_points_cannot_break_the_plot() {
        let svg = draw_named(|_, names| {
            names.add((3, 4), "<b>\"a\".mrc", Some("#picture-1"));
            Ok(())
        })
        .unwrap();
        let named = "<title>&lt;b&gt;&quot;a&quot;.mrc</title></circle></a>\n</svg>";
        assert!(svg.trim_end().ends_with(named), "{svg}");
    }
}
