#!/usr/bin/env python3
"""Picks of the fast number format beside those of plain f32, on micrographs with labels.

usage: agreement.py WORK MODEL MICROGRAPHS COORDINATES RADIUS

Picks twice, with train.precision = "auto" and "f32", at the model's own threshold, and says how
many picks have a counterpart within 1 px, and what both score against the labels. PICKER names the
program.
"""
import csv
import json
import os
import pathlib
import subprocess
import sys

picker = os.environ.get("PICKER", "target/release/picker")
work, model, micrographs, coordinates, radius = sys.argv[1:]
work = pathlib.Path(work)
work.mkdir(parents=True, exist_ok=True)


def picked(precision):
    config = work / f"{precision}.toml"
    config.write_text(f'[train]\nprecision = "{precision}"\n')
    out = work / precision
    subprocess.run(
        [picker, "pick", micrographs, "--model", model, "--particle-radius", radius,
         "--config", config, "--out", out, "--quiet"],
        check=True, stdout=subprocess.DEVNULL,
    )
    scores = subprocess.run(
        [picker, "evaluate", "--picks", out / "picks", "--truth", coordinates, "--json",
         "--micrographs", micrographs, "--particle-radius", radius],
        capture_output=True, text=True,
    )
    # With code 3 some particles are listed twice, as in some of these sets.
    if scores.returncode not in (0, 3):
        sys.exit(scores.stderr)
    by_micrograph = {}
    for row in csv.DictReader(open(out / "picks" / "picks.csv")):
        place = (float(row["x"]), float(row["y"]))
        by_micrograph.setdefault(row["micrograph"], []).append(place)
    return by_micrograph, json.loads(scores.stdout)


def alone(picks, others):
    """How many picks have no counterpart within 1 px."""
    cells = {}
    for name, places in others.items():
        for x, y in places:
            cells.setdefault((name, int(x), int(y)), []).append((x, y))
    count = 0
    for name, places in picks.items():
        for x, y in places:
            near = (
                place
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
                for place in cells.get((name, int(x) + i, int(y) + j), [])
            )
            count += not any((x - a) ** 2 + (y - b) ** 2 <= 1 for a, b in near)
    return count


def f1(scores):
    """Mean over micrographs."""
    each = [
        2 * one["hits"] / max(1, 2 * one["hits"] + one["false_picks"] + one["misses"])
        for one in scores["per_micrograph"]
    ]
    return sum(each) / len(each)


(fast, fast_scores), (plain, plain_scores) = picked("auto"), picked("f32")
total = sum(map(len, fast.values())) + sum(map(len, plain.values()))
apart = alone(fast, plain) + alone(plain, fast)
print(f"{total // 2} picks; {100 * (1 - apart / total):.2f} % have a counterpart within 1 px")
print(f"F1 {f1(fast_scores):.4f} fast, {f1(plain_scores):.4f} plain")
