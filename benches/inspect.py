#!/usr/bin/env python3
"""How quickly `picker inspect` answers, through its interface: the first picture, a move of the threshold over many
micrographs, and memory after many pictures.

usage: inspect.py WORK [--count 1000] [--pictures 500] [--picker target/release/picker] [--seed 1]

Makes one micrograph of 4096×4096 px, and COUNT of 512×512 px, a copy each of ten simulated ones, and picks them.
Prints the seconds from the start of the server to the first thumbnail of the large one, the milliseconds of 100
answers to /api/counts over COUNT micrographs (median, 95 %, most), and the server's memory before and after PICTURES
pictures of 512 px. Needs Linux and Python alone.
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess
import time
import urllib.request


class Server:
    def __init__(self, picker, *words):
        self.begun = time.monotonic()
        words = [picker, "inspect", "--no-open", "--port", "0", *map(str, words)]
        self.child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.base = self.child.stdout.readline().strip().split("/?")[0]
        self.authorization = self.child.stdout.readline().strip().split(": ", 1)[1]

    def ask(self, path):
        request = urllib.request.Request(self.base + path)
        request.add_header("Authorization", self.authorization)
        with urllib.request.urlopen(request, timeout=600) as answer:
            return answer.read()

    def micrographs(self):
        return [row["id"] for row in json.loads(self.ask("/api/micrographs"))["micrographs"]]

    def memory_mib(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def end(self):
        self.child.terminate()
        self.child.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--picker", default="target/release/picker")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    work, picker = options.work, options.picker

    def simulate(name, count, side):
        words = ["--out", work / name, "--count", count, "--size", side, "--particle-radius", side // 40]
        subprocess.run([picker, "simulate", *map(str, words), "--seed", str(options.seed), "--quiet"], check=True)
        return sorted((work / name / "micrographs").iterdir())

    large = simulate("large", 1, 4096)
    server = Server(picker, *large, "--out", work / "large_run")
    server.ask(f"/api/micrographs/{server.micrographs()[0]}/image?size=256")
    print(f"first thumbnail of 4096 × 4096 px: {time.monotonic() - server.begun:.2f} s after the start")
    server.end()

    small = simulate("small", 10, 512)
    many = work / "many"
    many.mkdir(exist_ok=True)
    for number in range(options.count):
        shutil.copy(small[number % len(small)], many / f"mic_{number:05}.mrc")
    run = work / "many_run"
    words = [picker, "pick", many, "--particle-radius", 512 // 40, "--out", run]
    subprocess.run([*map(str, words), "--quiet"], check=True, stdout=subprocess.DEVNULL)
    server = Server(picker, run)
    identities = server.micrographs()
    while not json.loads(server.ask("/api/micrographs"))["scores_ready"]:
        time.sleep(0.1)
    rng = random.Random(options.seed)
    spans = []
    for _ in range(100):
        begun = time.monotonic()
        total = json.loads(server.ask(f"/api/counts?threshold={rng.uniform(0.2, 0.9):.3f}"))["total"]
        spans.append(1000 * (time.monotonic() - begun))
        assert total >= 0
    spans.sort()
    print(f"counts over {len(identities)} micrographs: {spans[50]:.1f} ms median, {spans[95]:.1f} at 95 %, {spans[-1]:.1f} most")
    shown = rng.sample(identities, min(options.pictures, len(identities)))
    for identity in shown[:20]:
        server.ask(f"/api/micrographs/{identity}/image?size=1024")
    before = server.memory_mib()
    for identity in shown:
        server.ask(f"/api/micrographs/{identity}/image?size=1024")
    print(f"memory: {before:.0f} MiB after 20 pictures, {server.memory_mib():.0f} after {len(shown)}")
    server.end()


if __name__ == "__main__":
    main()
