#!/usr/bin/env python3
"""How many clicks a model takes: F1 on unseen micrographs after so many clicks in `picker inspect`.

usage: clicks.py DATA WORK [--sets 10017,10146,10028,single] [--seeds 1] [--modes proposals,full]
       [--clicks 20,50,100,200] [--picker target/release/picker] [--threads 2] [--device cpu]

  DATA     folder with empiar-10017, empiar-10146 and empiar-10028, each with micrographs/*.mrc and
           coordinates/*.star (10146 also with single_frames/*.mrc)
  WORK     folder for runs; results are also added to WORK/clicks.jsonl
  MODES    proposals: labels what the program proposes; random: micrographs and picks at random;
           full: all particles of all micrographs that are not judged on, in one round

Everything goes through the interface (docs/src/inspect-api.md), and the truth plays the user. Where the picks of
a micrograph can be set right within the clicks that are left, the user confirms them all (a click), removes
each false one and adds each missing one (a click each), and says that the micrograph is complete (a click).
Else each click judges one pick or adds one particle, on up to four micrographs a round, as many in every mode.
On sets whose labels lack many visible particles (10028) a pick without a label is no mistake: the user passes it
over, which costs a click, and never says that a micrograph is complete.
Needs Python alone.
"""

import argparse
import json
import math
import pathlib
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request

# Folder, folder of micrographs, particle radius in px, micrographs (the last by name) that are judged on, whether
# labels are nearly complete.
SETS = {
    "10017": ("empiar-10017", "micrographs", 54, 3, True),
    "10146": ("empiar-10146", "micrographs", 38, 3, True),
    "10028": ("empiar-10028", "micrographs", 28, 2, False),
    "single": ("empiar-10146", "single_frames", 38, 3, True),
}

# Micrographs that are labelled in a round, unless fewer clicks than five each are left.
MICROGRAPHS = 4


def coordinates(path):
    """Points of a STAR file."""
    names, points = [], []
    for line in path.read_text().splitlines():
        words = line.split()
        if line.startswith("_"):
            names.append(words[0])
        elif len(words) == len(names) > 1 and words[0][0] in "-0123456789":
            at = [names.index(f"_rlnCoordinate{axis}") for axis in "XY"]
            points.append([float(words[i]) for i in at])
    return points


def match(picks, truth, radius):
    """Places of picks and of particles that belong together, nearest pairs first."""
    pairs = []
    for i, pick in enumerate(picks):
        for j, particle in enumerate(truth):
            apart = math.hypot(pick[0] - particle[0], pick[1] - particle[1])
            if apart <= radius:
                pairs.append((apart, i, j))
    found, hit = {}, set()
    for _, i, j in sorted(pairs):
        if i not in found and j not in hit:
            found[i] = j
            hit.add(j)
    return found


def f1(picks, truth, radius):
    hits = len(match(picks, truth, radius))
    return 2 * hits / (len(picks) + len(truth)) if picks or truth else 1.0


class Server:
    """`picker inspect`, and requests to it."""

    def __init__(self, options, micrographs, out, seed):
        words = [options.picker, "--threads", str(options.threads), "--device", options.device]
        words += ["--seed", str(seed), "inspect", "--no-open"]
        words += ["--port", "0", "--out", str(out), *map(str, micrographs)]
        self.log = open(out.with_name(out.name + ".log"), "w")
        self.child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=self.log, text=True)
        url = self.child.stdout.readline().strip()
        if not url:
            sys.exit(f"no address; see {self.log.name}")
        self.base = url.split("/?")[0]
        self.authorization = self.child.stdout.readline().strip().split(": ", 1)[1]

    def ask(self, path, method="GET", body=None, headers=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data=data, method=method)
        request.add_header("Authorization", self.authorization)
        request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return json.load(answer), answer.headers.get("ETag")
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {path}: {error.code} {error.read().decode()}")

    def wait(self, path, key, busy):
        while True:
            state = self.ask(path)[0][key]
            if state["phase"] not in busy:
                if state["phase"] != "done":
                    sys.exit(f"{path}: {state}")
                return state
            time.sleep(0.2)

    def end(self):
        self.child.terminate()
        self.child.wait()
        self.log.close()


class User:
    """Clicks as the truth says."""

    def __init__(self, server, rng, truth, pool, radius, proposed, labels_complete):
        self.server, self.rng, self.truth, self.radius = server, rng, truth, radius
        self.labels_complete = labels_complete
        self.pool, self.proposed = pool, proposed
        self.complete, self.passed_over = set(), {}

    def picks(self, identity):
        threshold = self.server.ask("/api/run")[0]["threshold"]
        peaks = self.server.ask(f"/api/micrographs/{identity}")[0]["peaks"]
        return [peak for peak in peaks if peak[2] >= threshold]

    def choose(self, seen):
        """The next micrograph."""
        open_ones = [identity for identity in self.pool if identity not in self.complete | seen]
        if not open_ones:
            return None
        if self.proposed:
            for own in self.server.ask("/api/proposals?most=1000")[0]["micrographs"]:
                if own["id"] in open_ones:
                    return own["id"]
        return self.rng.choice(open_ones)

    def put(self, identity, change):
        path = f"/api/micrographs/{identity}/labels"
        labels, tag = self.server.ask(path)
        labels.pop("schema")
        change(labels)
        self.server.ask(path, "PUT", labels, {"If-Match": tag})

    def work(self, clicks):
        """Labels with so many clicks; how many were needed."""
        left, seen = clicks, set()
        each = max(5, math.ceil(clicks / MICROGRAPHS))
        while left > 0:
            identity = self.choose(seen)
            if identity is None:
                break
            seen.add(identity)
            left -= self.label(identity, left, min(left, each))
        return clicks - left

    def label(self, identity, left, each):
        truth, picks = self.truth[identity], self.picks(identity)
        found = match(picks, truth, self.radius)
        false = [pick[:2] for i, pick in enumerate(picks) if i not in found]
        missing = [particle for j, particle in enumerate(truth) if j not in found.values()]
        cost = 2 + len(false) + len(missing)
        if cost <= left and self.labels_complete:
            def all_right(labels):
                labels.update(state="complete", positives=truth, negatives=labels["negatives"] + false)
            self.put(identity, all_right)
            self.complete.add(identity)
            return cost
        labels = self.server.ask(f"/api/micrographs/{identity}/labels")[0]
        passed_over = self.passed_over.setdefault(identity, [])
        known = labels["positives"] + labels["negatives"] + passed_over
        unknown = lambda at: not match([at], known, self.radius)
        if self.proposed:
            judged = [peak[:2] for peak in self.server.ask(f"/api/micrographs/{identity}/proposals")[0]["peaks"]]
        else:
            judged = self.rng.sample([pick[:2] for pick in picks], len(picks))
        judged = [at for at in judged if unknown(at)]
        missing = [at for at in missing if unknown(at)]
        self.rng.shuffle(missing)
        # Where half of the particles are missed, they are what is worth a click.
        share = 0.8 if len(found) < 0.5 * len(truth) else 0.4
        judged = judged[: each - min(len(missing), round(each * share))]
        added = missing[: each - len(judged)]
        right = match(judged, truth, self.radius)
        positives = added + [truth[j] for j in right.values()]
        negatives = [at for i, at in enumerate(judged) if i not in right]
        if not self.labels_complete:
            passed_over += negatives
            negatives = []
        def some(labels):
            labels.update(state="partial", positives=labels["positives"] + positives,
                          negatives=labels["negatives"] + negatives)
        self.put(identity, some)
        return max(1, len(added) + len(judged))

    def everything(self):
        for identity in self.pool:
            state = "complete" if self.labels_complete else "partial"
            self.put(identity, lambda labels: labels.update(state=state, positives=self.truth[identity]))


def run(options, name, seed, mode):
    folder, sub, radius, tests, labels_complete = SETS[name]
    data = options.data / folder
    micrographs = sorted((data / sub).glob("*.mrc"))
    out = options.work / f"{name}.{mode}.{seed}"
    if out.exists():
        sys.exit(f"{out} is there already: name another WORK")
    out.mkdir(parents=True)
    server = Server(options, micrographs, out, seed)
    try:
        server.ask("/api/picking", "POST", {"radius_px": radius})
        server.wait("/api/picking", "picking", ["picking"])
        rows = server.ask("/api/micrographs")[0]["micrographs"]
        truth = {}
        for row in rows:
            star = data / "coordinates" / (pathlib.Path(row["name"]).stem + ".star")
            truth[row["id"]] = coordinates(star)
        by_name = sorted(rows, key=lambda row: pathlib.Path(row["name"]).name)
        order = [row["id"] for row in by_name]
        pool, test = order[:-tests], order[-tests:]
        rng = random.Random(seed)
        user = User(server, rng, truth, pool, radius, mode == "proposals", labels_complete)

        def report(clicks, seconds):
            scores = [f1(user.picks(identity), truth[identity], radius) for identity in test]
            row = {"set": name, "seed": seed, "mode": mode, "clicks": clicks, "seconds": round(seconds, 1),
                   "f1": round(sum(scores) / len(scores), 3)}
            print(json.dumps(row), flush=True)
            with open(options.work / "clicks.jsonl", "a") as file:
                file.write(json.dumps(row) + "\n")

        def learn():
            started = time.monotonic()
            server.ask("/api/learning", "POST", {})
            server.wait("/api/learning", "learning", ["training", "picking"])
            return time.monotonic() - started

        report(0, 0.0)
        if mode == "full":
            user.everything()
            report("all", learn())
            return
        done = 0
        for clicks in options.clicks:
            spent = user.work(clicks - done)
            if spent == 0:
                break
            done += spent
            report(done, learn())
    finally:
        server.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = lambda kind: lambda text: [kind(word) for word in text.split(",")]
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--sets", type=listed(str), default=list(SETS))
    parser.add_argument("--seeds", type=listed(int), default=[1])
    parser.add_argument("--modes", type=listed(str), default=["proposals", "full"])
    parser.add_argument("--clicks", type=listed(int), default=[20, 50, 100, 200])
    parser.add_argument("--picker", default="target/release/picker")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    for seed in options.seeds:
        for name in options.sets:
            for mode in options.modes:
                run(options, name, seed, mode)


if __name__ == "__main__":
    main()
