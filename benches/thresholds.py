#!/usr/bin/env python3
"""Compares rules that choose a threshold on validation micrographs, from the picks that thresholds.sh stored.

usage: thresholds.py MODEL_DIR...     (what thresholds.sh wrote; nothing to install)

Regret: the best F1 on the test micrographs that any threshold gives, less F1 at the threshold that the rule
chooses on validation. Every micrograph that a model was not trained on is the validation micrograph in turn
("one"), every pair of them ("two"), and the lower quarter of each ("quarter"); the others are the test.
"Lone": the lower quarter of the only micrograph that the model was trained on, which training leaves out.
Figures are means over sets of means over models; "worst" is the worst of all splits.
"""
import csv
import itertools
import json
import math
import pathlib
import statistics
import sys

# Scores are read as the probabilities that they stand for (src/pick/odds.rs).
GENERAL = 0.7
THRESHOLDS = [i / 100 for i in range(5, 100)]


def probability(score):
    return 1 / (1 + ((1 - score) / score) ** 4)


def star(path):
    columns, rows = [], []
    for line in path.read_text().splitlines():
        words = line.split()
        if words and words[0].startswith("_rln"):
            columns.append(words[0])
        elif len(words) >= len(columns) > 0:
            rows.append([float(words[columns.index(f"_rlnCoordinate{axis}")]) for axis in "XY"])
    return rows


def counts(picks, truth, radius):
    """(hits, picks, particles) at each threshold; one-to-one, nearest pairs first."""
    near = sorted(
        (math.dist(pick[:2], particle), i, j)
        for i, pick in enumerate(picks)
        for j, particle in enumerate(truth)
        if abs(pick[0] - particle[0]) <= radius and math.dist(pick[:2], particle) <= radius
    )
    table = []
    for threshold in THRESHOLDS:
        used, found = set(), set()
        for _, i, j in near:
            if picks[i][2] >= threshold and i not in used and j not in found:
                used.add(i)
                found.add(j)
        table.append((len(found), sum(pick[2] >= threshold for pick in picks), len(truth)))
    return table


def f1(hits, picks, particles):
    return 1.0 if picks + particles == 0 else 2 * hits / (picks + particles)


def curve(tables):
    """Macro F1 at each threshold."""
    return [statistics.mean(f1(*table[i]) for table in tables) for i in range(len(THRESHOLDS))]


def closest(allowed):
    return min(allowed, key=lambda i: abs(THRESHOLDS[i] - GENERAL))


def within(tables, tolerance):
    """The nearest to the general threshold among those within a tolerance of the best."""
    values = curve(tables)
    return closest(i for i, value in enumerate(values) if value >= max(values) - tolerance(max(values), tables))


def standard_error(best, tables):
    return math.sqrt(best * (1 - best) / max(1, sum(table[0][2] for table in tables)))


def plateau(tables, depth=0.005):
    """The middle of the range around the best in which F1 stays within a depth of it."""
    values = curve(tables)
    top = closest(i for i, value in enumerate(values) if value == max(values))
    first = last = top
    while first > 0 and values[first - 1] >= values[top] - depth:
        first -= 1
    while last + 1 < len(values) and values[last + 1] >= values[top] - depth:
        last += 1
    return (first + last) // 2


def smoothed(tables, width=5):
    values = curve(tables)

    def at(i):
        weights = [math.exp(-(((j - i) / width) ** 2) / 2) for j in range(len(values))]
        return sum(w * v for w, v in zip(weights, values)) / sum(weights)

    return max(range(len(values)), key=at)


def shrunk(tables, particles, bounded=False):
    """The middle of the plateau, drawn to the general threshold; bounded: within .03 or 1 SE of the best."""
    share = (n := sum(table[0][2] for table in tables)) / (n + particles)
    chosen = GENERAL + share * (THRESHOLDS[plateau(tables)] - GENERAL)
    values = curve(tables)
    least = max(values) - max(0.03, standard_error(max(values), tables)) if bounded else 0.0
    allowed = [i for i, value in enumerate(values) if value >= least]
    return min(allowed, key=lambda i: abs(THRESHOLDS[i] - chosen))


def penalised(tables, price):
    values = curve(tables)
    return max(range(len(values)), key=lambda i: values[i] - price * abs(THRESHOLDS[i] - GENERAL))


def paired(tables, errors):
    """Nearest to the general one whose F1 is so many standard errors of the *difference* from the best."""
    values = curve(tables)
    top = values.index(max(values))

    def allowed(i):
        variance = 0.0
        for table in tables:
            (hits, picks, particles), (other_hits, other_picks, _) = table[top], table[i]
            score, size = f1(hits, picks, particles), max(1, picks + particles)
            gained = abs(hits - other_hits)
            lost = abs((picks - hits) - (other_picks - other_hits))
            variance += (gained * (2 - score) ** 2 + lost * score**2) / size**2
        return values[top] - values[i] <= errors * math.sqrt(variance) / len(tables) + 1e-12

    return closest(i for i in range(len(values)) if allowed(i))


def median(tables):
    return int(statistics.median_low([plateau([table]) for table in tables]))


RULES = {
    "the general threshold, .7": lambda t: THRESHOLDS.index(GENERAL),
    "nearest to .7 within .03 or 1 SE of the best (picker)": lambda t: within(t, lambda *a: max(0.03, standard_error(*a))),
    "nearest to .7 within .02": lambda t: within(t, lambda *_: 0.02),
    "nearest to .7 within .01": lambda t: within(t, lambda *_: 0.01),
    "nearest to .7 within 1 SE of the difference": lambda t: paired(t, 1),
    "F1 less .1 of the distance to .7": lambda t: penalised(t, 0.1),
    "F1 less .02 of the distance to .7": lambda t: penalised(t, 0.02),
    "the best": lambda t: plateau(t, 0.0),
    "the best of the smoothed curve, ±.05": smoothed,
    "middle of the plateau, .01": lambda t: plateau(t, 0.01),
    "middle of the plateau, .005": plateau,
    "the same, median over micrographs": median,
    "the same, drawn to .7 as by 10 particles": lambda t: shrunk(t, 10),
    "by 50 particles": lambda t: shrunk(t, 50),
    "by 100 particles": lambda t: shrunk(t, 100),
    "by 100 particles, within .03 or 1 SE of the best": lambda t: shrunk(t, 100, True),
    "by 400 particles": lambda t: shrunk(t, 400),
}


def splits(folder):
    """(kind, validation tables, test tables) of one model."""
    info = json.loads((folder / "model.json").read_text())
    border = 0.75 * info["height"]
    whole, quarter = {}, {}
    for micrograph in info["micrographs"]:
        path = pathlib.Path(micrograph)
        truth = star(pathlib.Path(info["coordinates"]) / (path.stem + ".star"))
        stored = list((folder / "picked" / "picks.all").rglob(path.stem + ".csv"))
        rows = csv.DictReader(stored[0].open()) if stored else []
        picks = [[float(row["x"]), float(row["y"]), probability(float(row["score"]))] for row in rows]
        whole[micrograph] = counts(picks, truth, info["radius"])
        lower = [[p for p in points if p[1] >= border] for points in (picks, truth)]
        quarter[micrograph] = counts(*lower, info["radius"])
    unseen = [micrograph for micrograph in whole if micrograph not in info["trained"]]
    if info["lone"]:
        return [("lone", [quarter[info["trained"][0]]], [whole[name] for name in unseen])]
    result = []
    for kind, number in [("one", 1), ("two", 2)]:
        for chosen in itertools.combinations(unseen, number):
            test = [whole[name] for name in unseen if name not in chosen]
            if len(test) >= 2:
                result.append((kind, [whole[name] for name in chosen], test))
                if number == 1:
                    result.append(("quarter", [quarter[chosen[0]]], test))
    return result


def mean_of_means(models):
    """Over sets, of models, of splits."""
    return statistics.mean(statistics.mean(statistics.mean(splits) for splits in one.values()) for one in models)


def main():
    regrets = {}  # kind, rule, set, model: a list
    for folder in map(pathlib.Path, sys.argv[1:]):
        name = json.loads((folder / "model.json").read_text())["set"]
        for kind, validation, test in splits(folder):
            values = curve(test)
            for rule, choose in RULES.items():
                lost = max(values) - values[choose(validation)]
                of_rule = regrets.setdefault(kind, {}).setdefault(rule, {})
                of_rule.setdefault(name, {}).setdefault(str(folder), []).append(lost)
    kinds = [kind for kind in ["one", "two", "quarter", "lone"] if kind in regrets]
    names = sorted({name for of_rules in regrets.values() for name in next(iter(of_rules.values()))})
    print("| rule |", " | ".join(kinds), "| worst |", " | ".join(names), "|")
    print("|---|" + "---|" * (len(kinds) + 1 + len(names)))
    for rule in RULES:
        cells = [f"{mean_of_means(regrets[kind][rule].values()):.4f}" for kind in kinds]
        lists = [x for kind in kinds for models in regrets[kind][rule].values() for x in models.values()]
        cells.append(f"{max(map(max, lists)):.3f}")
        for name in names:
            of_kinds = [regrets[kind][rule][name] for kind in kinds if name in regrets[kind][rule]]
            cells.append(f"{mean_of_means(of_kinds):.4f}")
        print(f"| {rule} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
