//! Plots as SVG: training, precision against recall, scores, picks of micrographs.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::plot::{Axis, Canvas, Chart, GREY, Painted, SIZE, Sample, TEXT, axes, draw, draw_named};
use crate::error::Result;
use crate::eval::{Evaluation, Point};
use crate::radius::{Proposal, Rung, witnesses};
use crate::train::Epoch;
use crate::units::counted;

/// Okabe and Ito's blue, vermillion and green, which colour-blind readers can tell apart, and a
/// grey that stands out from dark and from light ground.
const BLUE: RGBColor = RGBColor(0, 114, 178);
const VERMILLION: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);

/// Bins of a histogram of scores.
pub const SCORE_BINS: usize = 40;
/// Curves of at most so many points show each of them; a single point is nothing but its mark.
const MOST_MARKED: usize = 30;
/// Plots of more micrographs name only those that stand out, so that the page stays small.
const MOST_NAMED: usize = 2000;
/// Names that are written beside their points.
const MOST_WRITTEN: usize = 6;
const LONGEST_NAME: usize = 26;

/// Counts scores from 0 to 1 in equal bins.
pub fn count_scores(bins: &mut [u64; SCORE_BINS], scores: impl Iterator<Item = f32>) {
    for score in scores {
        bins[((score * SCORE_BINS as f32) as usize).min(SCORE_BINS - 1)] += 1;
    }
}

/// One of an epoch's figures.
type Figure = fn(&Epoch) -> f64;

/// Precision against recall (means over micrographs); a dot marks the threshold that is used.
pub fn precision_recall(evaluation: &Evaluation) -> Result<String> {
    let point = |p: &Point| (p.macro_.recall, p.macro_.precision);
    let used = (evaluation.macro_.recall, evaluation.macro_.precision);
    let title = format!(
        "F1 {:.3}, average precision {:.3}",
        evaluation.macro_.f1, evaluation.average_precision
    );
    let legend =
        [Sample::Line("all thresholds", BLUE), Sample::Dot("threshold that is used", VERMILLION)];
    draw(|area| {
        let (recall, precision) = (Axis::of(0.0..1.0, "recall"), Axis::of(0.0..1.0, "precision"));
        let mut chart = axes(area, &title, &legend, (&recall, &precision))?;
        chart.draw_series(LineSeries::new(
            evaluation.curve.iter().map(point),
            BLUE.stroke_width(2),
        ))?;
        chart.draw_series([Circle::new(used, 5, VERMILLION.filled())])?;
        Ok(())
    })
}

/// A curve, with its points where these are few.
fn curve(chart: &mut Chart, color: RGBColor, points: &[(f64, f64)]) -> Painted {
    chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?;
    if points.len() <= MOST_MARKED {
        chart.draw_series(points.iter().map(|at| Circle::new(*at, 3, color.filled())))?;
    }
    Ok(())
}

/// Training loss, and precision, recall and F1 on validation, against epochs.
pub fn learning(epochs: &[Epoch]) -> Result<String> {
    let top = epochs.iter().map(|epoch| epoch.loss).fold(1.0, f64::max);
    let last = epochs.last().map_or(1, |epoch| epoch.epoch);
    let lines: [(&str, RGBColor, Figure); 4] = [
        ("loss", GREY, |epoch| epoch.loss),
        ("precision", BLUE, |epoch| epoch.precision),
        ("recall", GREEN, |epoch| epoch.recall),
        ("F1", VERMILLION, |epoch| epoch.f1),
    ];
    let legend = lines.map(|(name, color, _)| Sample::Line(name, color));
    draw(|area| {
        let (x, y) = (Axis::of_numbers(last, "epoch"), Axis::of(0.0..top, ""));
        let mut chart = axes(area, "training", &legend, (&x, &y))?;
        for (_, color, value) in lines {
            let points: Vec<_> =
                epochs.iter().map(|epoch| (epoch.epoch as f64, value(epoch))).collect();
            curve(&mut chart, color, &points)?;
        }
        Ok(())
    })
}

/// How many stored peaks have which score; those from the threshold up are picks.
pub fn scores(bins: &[u64; SCORE_BINS], threshold: f32) -> Result<String> {
    let peaks = Axis::of_counts(bins.iter().copied().max().unwrap_or(1) as usize, "peaks");
    let width = 1.0 / SCORE_BINS as f64;
    let title = format!("scores of peaks; threshold {threshold:.3}");
    let legend = [
        Sample::Area("picks", BLUE.into()),
        Sample::Area("not picked", GREY.into()),
        Sample::Line("threshold", VERMILLION),
    ];
    draw(|area| {
        let mut chart = axes(area, &title, &legend, (&Axis::of(0.0..1.0, "score"), &peaks))?;
        chart.draw_series(bins.iter().enumerate().map(|(bin, count)| {
            let left = bin as f64 * width;
            let color = if left + width / 2.0 >= f64::from(threshold) { BLUE } else { GREY };
            Rectangle::new([(left, 0.0), (left + 0.9 * width, *count as f64)], color.filled())
        }))?;
        let cut = f64::from(threshold);
        let line = [(cut, 0.0), (cut, peaks.ends().1)];
        chart.draw_series(LineSeries::new(line, VERMILLION.stroke_width(2)))?;
        Ok(())
    })
}

/// A micrograph in a plot.
#[derive(Debug)]
pub struct Dot<'a> {
    /// The micrograph's name.
    pub name: &'a str,
    /// Its picks.
    pub picks: usize,
    /// Whether it is to be looked at.
    pub stands_out: bool,
    /// Where the page shows it.
    pub link: Option<&'a str>,
}

/// Picks of each micrograph in their order, with the median as a line. Each point has its name, and
/// those that stand out have it written beside them.
pub fn picks_each(dots: &[Dot], median: f64) -> Result<String> {
    let most = dots.iter().map(|dot| dot.picks).max().unwrap_or(1);
    let (x, y) = (Axis::of_numbers(dots.len(), "micrograph"), Axis::of_counts(most, "picks"));
    let radius = if dots.len() < 100 { 4 } else { 2 };
    let median_name = format!("median {median}");
    let mut legend = vec![Sample::Dot("a micrograph", BLUE), Sample::Line(&median_name, GREY)];
    if dots.iter().any(|dot| dot.stands_out) {
        legend.insert(1, Sample::Dot("stands out", VERMILLION));
    }
    draw_named(|area, names| {
        let mut chart = axes(area, "picks of each micrograph", &legend, (&x, &y))?;
        let line = [(x.ends().0, median), (x.ends().1, median)];
        chart.draw_series(LineSeries::new(line, GREY.stroke_width(1)))?;
        let numbered = || (1..).zip(dots).map(|(n, dot)| ((f64::from(n), dot.picks as f64), dot));
        chart.draw_series(numbered().map(|(at, dot)| {
            let color = if dot.stands_out { VERMILLION } else { BLUE };
            Circle::new(at, radius, color.filled())
        }))?;
        let mut written = Vec::new();
        for (at, dot) in numbered() {
            let px = chart.backend_coord(&at);
            if dot.stands_out || dots.len() <= MOST_NAMED {
                let name = format!("{}: {}", dot.name, counted(dot.picks, "pick"));
                names.add(px, &name, dot.link);
            }
            if dot.stands_out && written.len() < MOST_WRITTEN {
                write_name(area, px, dot.name, &mut written)?;
            }
        }
        Ok(())
    })
}

/// Writes a name beside its point, unless another name is there.
fn write_name(
    area: &Canvas,
    (x, y): (i32, i32),
    name: &str,
    written: &mut Vec<(i32, i32, i32)>,
) -> Painted {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    // Names of one session differ at their ends.
    let cut = stem.char_indices().rev().nth(LONGEST_NAME - 1).map_or(0, |(at, _)| at);
    let text = if cut == 0 { stem.to_string() } else { format!("…{}", &stem[cut..]) };
    let left = x < SIZE.0 as i32 / 2;
    let style = (TEXT.0, 13).into_text_style(area).color(&BLACK);
    let wide = area.estimate_text_size(&text, &style)?.0 as i32;
    let start = if left { x + 8 } else { x - 8 - wide };
    let overlaps = |(other, other_wide, other_y): &(i32, i32, i32)| {
        (y - other_y).abs() < 14 && start < other + other_wide && *other < start + wide
    };
    if written.iter().any(overlaps) {
        return Ok(());
    }
    written.push((start, wide, y));
    let style = style.pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(text, (start, y), style))?;
    Ok(())
}

/// How steady picks are, and how many there are beside the most, over the particle radius that each
/// tried radius stands for; lines mark the proposal and the two radii that it lies between.
pub fn radius(rungs: &[Rung], proposal: Option<&Proposal>) -> Result<String> {
    let most = rungs.iter().map(|rung| rung.picks).max().unwrap_or(1).max(1) as f64;
    // Nothing of interest lies far beyond the particle.
    let last = proposal.map_or(f64::INFINITY, |proposal| 5.0 * proposal.radius_px);
    let shown: Vec<&Rung> = rungs.iter().filter(|rung| rung.stands_for_px() <= last).collect();
    let end = shown.last().map_or(1.0, |rung| rung.stands_for_px());
    let witnesses = witnesses(rungs).filter(|_| proposal.is_some());
    let title = match proposal {
        Some(proposal) => format!(
            "particle radius {:.1} px, steadiness {:.2}",
            proposal.radius_px, proposal.steadiness
        ),
        None => "no particle radius found".into(),
    };
    let names = witnesses.as_ref().map(|own| {
        [
            format!("steadiest around {:.1} px", own.by_steadiness_px),
            format!("bright rim at {:.1} px", own.by_rim_px),
        ]
    });
    let mut legend =
        vec![Sample::Line("steadiness", BLUE), Sample::Line("picks, share of the most", GREY)];
    if let Some([steadiest, rim]) = &names {
        legend.extend([
            Sample::Area(steadiest, BLUE.mix(0.25)),
            Sample::Line(rim, GREEN),
            Sample::Line("proposal, between both", VERMILLION),
        ]);
    }
    draw(|area| {
        let (x, y) = (Axis::of(0.0..end, "particle radius, px"), Axis::of(0.0..1.0, ""));
        let mut chart = axes(area, &title, &legend, (&x, &y))?;
        let mark = |at: f64| [(at, 0.0), (at, 1.0)];
        if let (Some(own), Some(proposal)) = (&witnesses, proposal) {
            let (low, high) = own.steady_px;
            let corners = [(low, 0.0), (high, 1.0)];
            chart.draw_series([Rectangle::new(corners, BLUE.mix(0.12).filled())])?;
            let steadiest = mark(own.by_steadiness_px);
            chart.draw_series(LineSeries::new(steadiest, BLUE.mix(0.6).stroke_width(1)))?;
            chart.draw_series(LineSeries::new(mark(own.by_rim_px), GREEN.stroke_width(1)))?;
            let line = mark(proposal.radius_px);
            chart.draw_series(LineSeries::new(line, VERMILLION.stroke_width(2)))?;
        }
        let line = |value: &dyn Fn(&Rung) -> f64| -> Vec<(f64, f64)> {
            shown.iter().map(|rung| (rung.stands_for_px(), value(rung))).collect()
        };
        curve(&mut chart, GREY, &line(&|rung| rung.picks as f64 / most))?;
        curve(&mut chart, BLUE, &line(&|rung| rung.steadiness))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radius::Confidence;

    fn texts(svg: &str) -> Vec<String> {
        let after = svg.split("<text").skip(1);
        let inner = after.filter_map(|part| part.split_once('>')?.1.split('<').next());
        inner.map(|text| text.trim().to_string()).collect()
    }

    /// Where a text stands, in px.
    fn place(svg: &str, text: &str) -> (i32, i32) {
        let before = svg[..svg.find(text).unwrap()].rsplit("<text").next().unwrap();
        let value = |key: &str| {
            let (_, rest) = before.split_once(&format!(" {key}=\"")).unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        };
        (value("x"), value("y"))
    }

    fn dot(name: &str, picks: usize, stands_out: bool) -> Dot<'_> {
        Dot { name, picks, stands_out, link: Some("#picture-1") }
    }

    fn epoch(epoch: usize) -> Epoch {
        Epoch {
            epoch,
            loss: 0.3,
            learning_rate: 1e-3,
            threshold: 0.4,
            precision: 0.7,
            recall: 0.6,
            f1: 0.65,
            criterion: 0.65,
            patches_per_second: 10.0,
            loader_wait: 0.0,
            seconds: 1.0,
        }
    }

    #[test]
    fn a_training_of_one_epoch_is_seen_in_its_plot() {
        let svg = learning(&[epoch(1)]).unwrap();
        // Beside those of the legend, which are lines.
        assert_eq!(svg.matches("<circle").count(), 4, "a mark a figure");
        assert!(texts(&svg).iter().all(|text| text != "1.5"), "{:?}", texts(&svg));
    }

    #[test]
    fn the_legend_stands_above_all_curves() {
        let svg = learning(&[epoch(1), epoch(2)]).unwrap();
        let (title, loss, top) = (place(&svg, "training"), place(&svg, "loss"), place(&svg, "1.0"));
        assert!(title.1 < loss.1 && loss.1 + 8 < top.1, "{title:?} {loss:?} {top:?}");
    }

    #[test]
    fn each_micrograph_is_named_and_counted_in_whole_numbers() {
        let dots = [dot("a/first.mrc", 1, false), dot("a/second.mrc", 0, true)];
        let svg = picks_each(&dots, 0.5).unwrap();
        assert!(svg.contains("<title>a/first.mrc: 1 pick</title>"), "{svg}");
        assert!(svg.contains("<title>a/second.mrc: 0 picks</title>"), "{svg}");
        let texts = texts(&svg);
        assert!(texts.contains(&"second".into()) && !texts.contains(&"first".into()), "{texts:?}");
        let numbers = texts.iter().filter(|text| text.parse::<f64>().is_ok());
        assert!(numbers.clone().all(|text| !text.contains('.')), "{texts:?}");
        assert!(numbers.count() >= 4, "{texts:?}");
    }

    #[test]
    fn the_plot_of_the_radius_peaks_where_it_says_that_it_does() {
        let rung = |radius_px: f64| Rung {
            radius_px,
            picks: 90,
            agreement: 0.9,
            rim_px: 30.0,
            edge_px: Some(25.0),
            steadiness: if (radius_px - 34.0).abs() < 1.0 { 0.8 } else { 0.2 },
        };
        let rungs: Vec<Rung> = [24.0, 28.6, 34.0, 40.4, 48.1].map(rung).to_vec();
        let radius_px = (34.0 / 1.1 * 30.0 / 1.05_f64).sqrt();
        let confidence = Confidence::Sure;
        let proposal = Proposal { radius_px, steadiness: 0.8, rival: 0.2, confidence };
        let svg = radius(&rungs, Some(&proposal)).unwrap();
        let texts = texts(&svg);
        for words in ["steadiest around 30.9 px", "bright rim at 28.6 px", "proposal, between both"]
        {
            assert!(texts.contains(&words.to_string()), "{words}: {texts:?}");
        }
        // The proposal lies between the peak of the curve and the rim, as the legend says.
        let line_at = |color: &str| -> Vec<f64> {
            let lines = svg.split("<polyline").skip(1).filter(|line| line.contains(color));
            let points =
                lines.filter_map(|line| line.split("points=\"").nth(1)?.split([',', ' ']).next());
            points.map(|x| x.parse().unwrap()).collect()
        };
        // The last line of each color is not that of the legend.
        let (proposed, rim) = (line_at("#D55E00"), line_at("#009E73"));
        let peak = svg.split("<circle").skip(1).filter(|mark| mark.contains("#0072B2"));
        let highest = peak
            .map(|mark| {
                let value = |key: &str| -> f64 {
                    let rest = mark.split_once(&format!("{key}=\"")).unwrap().1;
                    rest.split('"').next().unwrap().parse().unwrap()
                };
                (value("cx"), value("cy"))
            })
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap();
        let (proposed, rim) = (proposed.last().unwrap(), rim.last().unwrap());
        assert!(rim < proposed && *proposed < highest.0, "{rim} {proposed} {highest:?}");
    }
}
