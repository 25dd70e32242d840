#!/usr/bin/env python3
"""Whether peaks are particles as often as their scores say: a table, and a diagram on request.

usage: reliability.py RUN TRUTH RADIUS_PX [--svg FILE] [--name NAME]     (nothing to install)

RUN is a run directory with stored peaks (picks.all), TRUTH a folder with one STAR or CSV file of known
particles for each micrograph, RADIUS_PX the particle radius. A peak is a particle if it lies within one
radius of one, one-to-one, nearest pairs first, of all peaks of a micrograph. Peaks are counted in bins of
the score; beside the share of them that are particles stands the probability that their scores stand for,
mean over the bin. The last line is the logistic regression that src/pick/threshold.rs takes its calibration
from.
"""
import argparse
import csv
import math
import pathlib
import sys

SPREAD = 4  # of the log-odds of a peak to those of its score: src/pick/odds.rs
BINS = 20


def probability(score):
    score = min(max(score, 1e-6), 1 - 1e-6)
    return 1 / (1 + ((1 - score) / score) ** SPREAD)


def peaks_of(path):
    with open(path, newline="") as file:
        return [(float(row["x"]), float(row["y"]), float(row["score"])) for row in csv.DictReader(file)]


def particles_of(path):
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            return [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
    columns, rows = {}, []
    for line in path.read_text().splitlines():
        words = line.split()
        if words and words[0].startswith("_rln"):
            columns[words[0]] = len(columns)
        elif columns and len(words) >= len(columns) and not words[0].startswith("#"):
            rows.append(words)
    x, y = columns["_rlnCoordinateX"], columns["_rlnCoordinateY"]
    return [(float(row[x]), float(row[y])) for row in rows]


def hits(peaks, particles, radius):
    """The peaks that are particles: one-to-one, nearest pairs first."""
    cells = {}
    for number, (x, y) in enumerate(particles):
        cells.setdefault((int(x // radius), int(y // radius)), []).append(number)
    near = []
    for peak, (x, y, _) in enumerate(peaks):
        column, row = int(x // radius), int(y // radius)
        for cell in ((column + dx, row + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)):
            for particle in cells.get(cell, []):
                distance = math.hypot(particles[particle][0] - x, particles[particle][1] - y)
                if distance <= radius:
                    near.append((distance, peak, particle))
    found, taken = set(), set()
    for _, peak, particle in sorted(near):
        if peak not in found and particle not in taken:
            found.add(peak)
            taken.add(particle)
    return found


def read(run, truth, radius):
    """(score, whether it is a particle) of all stored peaks of micrographs with known particles."""
    known = {path.stem: path for path in truth.iterdir() if path.suffix in (".star", ".csv")}
    judged = []
    for path in sorted((run / "picks.all").rglob("*.csv")):
        own = known.get(path.stem)
        if own is None:
            print(f"{path.stem}: no known particles, left out", file=sys.stderr)
            continue
        peaks = peaks_of(path)
        found = hits(peaks, particles_of(own), radius)
        judged += [(peak[2], number in found) for number, peak in enumerate(peaks)]
    return judged


def table(judged):
    """(from, to, peaks, share that are particles, probability that the scores stand for) of each bin."""
    bins = [[] for _ in range(BINS)]
    for score, is_particle in judged:
        bins[min(int(score * BINS), BINS - 1)].append((score, is_particle))
    return [
        (number / BINS, (number + 1) / BINS, len(own), sum(hit for _, hit in own) / len(own),
         sum(probability(score) for score, _ in own) / len(own))
        for number, own in enumerate(bins) if own
    ]  # fmt: skip


def calibration(judged):
    """(slope, shift): logistic regression of particles on the log-odds of scores, by Newton's method."""
    points = [(SPREAD * math.log(score / (1 - score)), hit) for score, hit in judged if 0 < score < 1]

    def loss(slope, shift):
        margins = [(slope * log_odds + shift) * (1 if hit else -1) for log_odds, hit in points]
        return sum(max(-margin, 0) + math.log1p(math.exp(-abs(margin))) for margin in margins)

    slope, shift = 1.0, 0.0
    for _ in range(20):
        gradient, curvature = [0.0, 0.0], [0.0, 0.0, 0.0]
        for log_odds, hit in points:
            p = 0.5 + 0.5 * math.tanh(0.5 * (slope * log_odds + shift))
            gradient = [gradient[0] + (hit - p) * log_odds, gradient[1] + hit - p]
            weight = p * (1 - p)
            curvature = [a + weight * b for a, b in zip(curvature, (log_odds**2, log_odds, 1.0))]
        a, b, c = curvature
        determinant = a * c - b * b
        steps = (
            (c * gradient[0] - b * gradient[1]) / determinant,
            (a * gradient[1] - b * gradient[0]) / determinant,
        )
        # A whole step can go too far where the scores fit badly.
        share = 1.0
        while share > 1e-3 and loss(slope + share * steps[0], shift + share * steps[1]) > loss(slope, shift):
            share /= 2
        slope, shift = slope + share * steps[0], shift + share * steps[1]
    return slope, shift


def svg(rows, name):
    """Share of particles over the probability that the scores stand for; the areas are the counts."""
    side, edge = 320, 44
    def at(x, y):
        return edge + x * side, edge + (1 - y) * side

    most = max(row[2] for row in rows)
    text = 'font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{side + 2 * edge}" height="{side + 2 * edge}">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<rect x="{edge}" y="{edge}" width="{side}" height="{side}" fill="none" stroke="#666"/>',
        '<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="#999" stroke-dasharray="4"/>'.format(*at(0, 0), *at(1, 1)),
        f'<text x="{edge + side / 2}" y="24" text-anchor="middle" {text}>{name}</text>',
        f'<text x="{edge + side / 2}" y="{side + 2 * edge - 8}" text-anchor="middle" {text}>probability of the score</text>',
        f'<text x="14" y="{edge + side / 2}" text-anchor="middle" transform="rotate(-90 14 {edge + side / 2})" {text}>particles among the peaks</text>',
    ]
    for tick in (0, 0.5, 1):
        x, y = at(tick, tick)
        parts.append(f'<text x="{x}" y="{edge + side + 16}" text-anchor="middle" {text}>{tick}</text>')
        parts.append(f'<text x="{edge - 6}" y="{y + 4}" text-anchor="end" {text}>{tick}</text>')
    line = " ".join("{:.1f},{:.1f}".format(*at(row[4], row[3])) for row in rows)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#0072b2"/>')
    for row in rows:
        x, y = at(row[4], row[3])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2 + 8 * math.sqrt(row[2] / most):.1f}" fill="#0072b2" fill-opacity=".6"/>')
    return "\n".join([*parts, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("truth", type=pathlib.Path)
    parser.add_argument("radius", type=float)
    parser.add_argument("--svg", type=pathlib.Path, help="write the diagram to this file")
    parser.add_argument("--name", default="", help="title of the diagram")
    args = parser.parse_args()
    judged = read(args.run, args.truth, args.radius)
    if not judged:
        sys.exit(f"no stored peaks of micrographs with known particles in {args.run}")
    rows = table(judged)
    print("score        peaks  particles  probability")
    for least, most, count, share, expected in rows:
        print(f"{least:.2f}–{most:.2f} {count:10} {share:10.3f} {expected:12.3f}")
    off = sum(row[2] * abs(row[3] - row[4]) for row in rows) / len(judged)
    print(f"all       {len(judged):10} {sum(hit for _, hit in judged) / len(judged):10.3f} "
          f"{sum(probability(score) for score, _ in judged) / len(judged):12.3f}")
    print(f"mean distance of share and probability, by peaks: {off:.3f}")
    slope, shift = calibration(judged)
    print(f"log-odds of a particle: {slope:.2f} times those of the score, and {shift:+.2f}")
    if args.svg:
        args.svg.write_text(svg(rows, args.name))


if __name__ == "__main__":
    main()
