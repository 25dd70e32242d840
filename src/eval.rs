//! Evaluation: picks and known particles → precision, recall, F1.

use crate::coords::Coordinate;

/// Best threshold.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Best { pub threshold: f32, pub precision: f64, pub recall: f64, pub f1: f64 }

/// One-to-one, nearest pairs first.
pub fn match_one_to_one(picks: &[Coordinate], truth: &[Coordinate], max: f64) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (i, p) in picks.iter().enumerate() {
        for (j, t) in truth.iter().enumerate() {
            let d = (p.x_mic_px - t.x_mic_px).hypot(p.y_mic_px - t.y_mic_px);
            if d <= max { pairs.push((d, i, j)); }
        }
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut a, mut b) = (vec![false; picks.len()], vec![false; truth.len()]);
    let mut out = Vec::new();
    for (_, i, j) in pairs { if !a[i] && !b[j] { a[i] = true; b[j] = true; out.push((i, j)); } }
    out
}

/// Scores at a threshold.
pub fn at(pairs: &[(&[Coordinate], &[Coordinate])], radius: f64, t: f32) -> Best {
    let (mut p, mut r, mut f) = (0.0, 0.0, 0.0);
    for (picks, truth) in pairs {
        let n = picks.partition_point(|c| c.score.unwrap_or(0.0) >= t);
        let tp = match_one_to_one(&picks[..n], truth, radius).len() as f64;
        let (a, b) = (if n > 0 { tp / n as f64 } else { 0.0 }, tp / truth.len().max(1) as f64);
        p += a; r += b; f += if a + b > 0.0 { 2.0 * a * b / (a + b) } else { 0.0 };
    }
    let n = pairs.len() as f64;
    Best { threshold: t, precision: p / n, recall: r / n, f1: f / n }
}

/// Best over thresholds.
pub fn best_threshold(pairs: &[(&[Coordinate], &[Coordinate])], radius: f64) -> Best {
    let all: Vec<Best> = (1..100).map(|i| at(pairs, radius, i as f32 * 0.01)).collect();
    let top = all.iter().enumerate().max_by(|a, b| a.1.f1.total_cmp(&b.1.f1)).unwrap().0;
    let tol: f64 = std::env::var("PLATEAU").ok().and_then(|s| s.parse().ok()).unwrap_or(0.0);
    let ok = |i: usize| all[i].f1 >= all[top].f1 - tol;
    let mut lo = top; while lo > 0 && ok(lo - 1) { lo -= 1; }
    let mut hi = top; while hi + 1 < all.len() && ok(hi + 1) { hi += 1; }
    all[(lo + hi) / 2]
}
