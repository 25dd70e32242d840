#!/usr/bin/env python3
"""Prints the licences of all crates in the program, each text once."""

import json
import pathlib
import subprocess
import sys

metadata = json.loads(subprocess.check_output(
    ["cargo", "metadata", "--format-version", "1", "--locked",
     "--filter-platform", "x86_64-unknown-linux-gnu"]))
packages = {package["id"]: package for package in metadata["packages"]}
dependencies = {
    node["id"]: [d["pkg"] for d in node["deps"] if any(k["kind"] is None for k in d["dep_kinds"])]
    for node in metadata["resolve"]["nodes"]
}

own = metadata["resolve"]["root"]
inside, waiting = set(), [own]
while waiting:
    crate = waiting.pop()
    if crate not in inside:
        inside.add(crate)
        waiting += dependencies[crate]

crates, texts = [], {}
for crate in sorted(inside - {own}, key=lambda crate: (packages[crate]["name"], crate)):
    package = packages[crate]
    title = f"{package['name']} {package['version']}"
    folder = pathlib.Path(package["manifest_path"]).parent
    names = ("LICEN", "COPYING", "NOTICE", "UNLICENSE")
    files = [f for f in sorted(folder.iterdir()) if f.is_file() and f.name.upper().startswith(names)]
    remark = "" if files else "; the crate has no file with the text"
    crates.append(f"{title}: {package['license']}{remark}; {package['repository']}")
    for file in files:
        texts.setdefault(file.read_text(errors="replace").strip(), []).append(title)

print("Crates in picker with their licences as declared. The texts follow.\n")
print("\n".join(crates))
for text, titles in texts.items():
    print(f"\n{'-' * 80}\n{', '.join(titles)}\n\n{text}")
print(f"{len(crates)} crates, {len(texts)} texts", file=sys.stderr)
