#!/usr/bin/env python3
"""How time and memory of `picker pick` grow with micrograph area, their number, threads and the
network's width.

usage: growth.py WORK [SVG]

Everything is simulated in WORK. Each case runs three times (once if it takes minutes); the median
time and the highest memory are told. PICKER names the program. SVG is drawn with matplotlib.
"""
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

picker = os.environ.get("PICKER", "target/release/picker")
work = pathlib.Path(sys.argv[1])
work.mkdir(parents=True, exist_ok=True)
RADIUS = 54


def run(*words):
    """Wall-clock seconds and peak memory in MB."""
    start = time.monotonic()
    log = open(work / "log", "w+")
    process = subprocess.Popen([picker, *map(str, words)], stdout=log, stderr=log)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{words} failed: {pathlib.Path(log.name).read_text()}")
    return time.monotonic() - start, usage.ru_maxrss / 1e3


def model(features):
    folder = work / f"model{features}"
    if not (folder / "model" / "best.safetensors").exists():
        config = work / f"{features}.toml"
        config.write_text(
            f"[model]\nbase_features = {features}\n[train]\nepochs = 1\npatches_per_epoch = 64\n"
        )
        labelled = micrographs(4096, 4096, 2)
        run("train", labelled, "--coordinates", labelled.parent / "coordinates", "--particle-radius", RADIUS, "--config", config, "--seed", 1, "--out", folder)
    return folder


def micrographs(width, height, count):
    """A folder with so many micrographs, copies of the same two."""
    made = work / f"{width}x{height}"
    if not made.exists():
        if width == height:
            run("simulate", "--out", made, "--count", 2, "--size", width,
                "--particle-radius", RADIUS, "--pixel-size", 1.77, "--seed", 1)
        else:
            # The simulator makes squares; of one that is large enough, a part.
            large = min(micrographs(12288, 12288, 2).glob("*.mrc"))
            (made / "micrographs").mkdir(parents=True)
            for name in ("a.mrc", "b.mrc"):
                cut(large, made / "micrographs" / name, width, height)
    if count == 2 and width == height:
        return made / "micrographs"
    folder = work / f"{width}x{height}.{count}"
    if not folder.exists():
        folder.mkdir()
        files = sorted((made / "micrographs").glob("*.mrc"))
        for i in range(count):
            shutil.copy(files[i % len(files)], folder / f"m{i}.mrc")
    return folder


def cut(source, target, width, height):
    with open(source, "rb") as file, open(target, "wb") as out:
        header = bytearray(file.read(1024))
        columns = int.from_bytes(header[0:4], "little")
        header[0:4] = header[28:32] = width.to_bytes(4, "little")
        header[4:8] = header[32:36] = height.to_bytes(4, "little")
        header[40:52] = bytes(12)  # the cell belongs to the larger image: no pixel size
        out.write(header)
        for _ in range(height):
            out.write(file.read(4 * columns)[: 4 * width])


def pick(folder, features=16, threads=2, times=3):
    seconds, memory = [], 0
    for _ in range(times):
        subprocess.run(["rm", "-rf", work / "out"], check=True)
        wall, peak = run("pick", folder, "--model", model(features), "--out", work / "out", "--threads", threads)
        seconds.append(wall)
        memory = max(memory, peak)
    return statistics.median(seconds), memory


def table(title, head, rows):
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    sys.stdout.flush()


start_up = statistics.median(run("--version")[0] for _ in range(5))
print(f"start-up {start_up:.2f} s, taken off the times per micrograph")
each = lambda seconds, count: (seconds - start_up) / count

areas, rows = [], []
for width, height in [(1024, 1024), (2048, 2048), (4096, 4096), (8192, 8192), (11520, 8184), (12288, 12288)]:
    count = 40 if width <= 2048 else 10 if width == 4096 else 4
    seconds, memory = pick(micrographs(width, height, count))
    areas.append((width * height / 1e6, each(seconds, count), memory))
    rows.append([f"{width} × {height}", f"{each(seconds, count):.3f}", f"{1e3 * each(seconds, count) / (width * height / 1e6):.1f}", f"{memory:.0f}"])
table("Area, two threads", ["px", "s a micrograph", "ms a megapixel", "MB at most"], rows)

numbers, rows = [], []
for count in (1, 10, 100, 1000, 10000):
    seconds, memory = pick(micrographs(1024, 1024, count), times=3 if count <= 100 else 1)
    numbers.append((count, seconds, memory))
    rows.append([f"{count:,}", f"{seconds:.2f}", f"{1e3 * each(seconds, count):.1f}", f"{memory:.0f}"])
table("Number of micrographs of 1024², two threads", ["number", "s in all", "ms a micrograph", "MB at most"], rows)

rows = []
for count in (10, 1000):
    seconds, memory = pick(micrographs(4096, 4096, count), times=3 if count == 10 else 1)
    rows.append([f"{count:,}", f"{seconds:.1f}", f"{each(seconds, count):.3f}", f"{memory:.0f}"])
table("Number of micrographs of 4096², two threads", ["number", "s in all", "s a micrograph", "MB at most"], rows)

rows = []
for threads in (1, 2):
    seconds, memory = pick(micrographs(4096, 4096, 10), threads=threads)
    rows.append([str(threads), f"{each(seconds, 10):.3f}", f"{memory:.0f}"])
table("Threads, 4096²", ["threads", "s a micrograph", "MB at most"], rows)

widths, rows = [], []
for features in (8, 16, 32, 64):
    seconds, memory = pick(micrographs(4096, 4096, 10), features=features)
    widths.append((features, each(seconds, 10), memory))
    rows.append([str(features), f"{each(seconds, 10):.3f}", f"{memory:.0f}"])
table("Base features, 4096², two threads", ["base features", "s a micrograph", "MB at most"], rows)

if len(sys.argv) > 2:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(11, 6), layout="constrained")
    columns = [(areas, "megapixels", "s a micrograph"), (numbers, "micrographs of 1024²", "s in all"), (widths, "base features", "s a micrograph")]
    for (values, along, unit), (upper, lower) in zip(columns, axes.T):
        x, seconds, memory = zip(*values)
        upper.loglog(x, seconds, "o-")
        lower.loglog(x, memory, "o-")
        upper.set_ylabel(unit)
        lower.set_ylabel("MB at most")
        lower.set_ylim(100, 5000)
        lower.set_xlabel(along)
        for one in (upper, lower):
            one.grid(alpha=0.3)
    figure.savefig(sys.argv[2], metadata={"Date": None})
