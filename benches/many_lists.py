#!/usr/bin/env python3
"""Writes many small micrographs and coordinate files, to measure how commands scale.

    benches/many_lists.py FOLDER [--count 20000] [--side 64]

FOLDER/micrographs/mic_00001.mrc …  images of noise with blobs at the particles
FOLDER/files/mic_00001.star …       one file a micrograph, 5 to 20 points each
FOLDER/table.csv, table.star        the same points as one table of many micrographs
FOLDER/one_stem/d00001/m.star …     the same points in files of one name in many folders
FOLDER/one_stem.csv                 the same as a table that names them d00001/m.mrc

Needs nothing but Python.
"""
import argparse
import array
import os
import random
import struct

STAR = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnAutopickFigureOfMerit #3\n"


def header(side):
    head = bytearray(1024)
    struct.pack_into("<10i", head, 0, side, side, 1, 0, 0, 0, 0, side, side, 1)
    struct.pack_into("<6f3i", head, 40, side, side, 1, 90, 90, 90, 1, 2, 3)
    head[208:216] = b"MAP DD\0\0"
    return bytes(head)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--side", type=int, default=64)
    args = parser.parse_args()
    random.seed(1)
    at = lambda name: os.path.join(args.folder, name)
    for name in ("micrographs", "files", "one_stem"):
        os.makedirs(at(name))
    head, side = header(args.side), args.side
    table, named, table_star = [], [], []
    for index in range(1, args.count + 1):
        name = f"mic_{index:05}"
        noise = array.array("b", random.randbytes(side * side))
        points = []
        for _ in range(random.randint(5, 20)):
            x, y = random.randrange(3, side - 3), random.randrange(3, side - 3)
            points.append((x, y, round(random.random(), 3)))
            for row in range(y - 2, y + 3):
                noise[row * side + x - 2 : row * side + x + 3] = array.array("b", [-120] * 5)
        with open(at(f"micrographs/{name}.mrc"), "wb") as file:
            file.write(head + noise.tobytes())
        rows = "".join(f"{x} {y} {score}\n" for x, y, score in points)
        with open(at(f"files/{name}.star"), "w") as file:
            file.write(STAR + rows)
        os.mkdir(at(f"one_stem/d{index:05}"))
        with open(at(f"one_stem/d{index:05}/m.star"), "w") as file:
            file.write(STAR + rows)
        table += [f"{name}.mrc,{x},{y},{score}\n" for x, y, score in points]
        named += [f"d{index:05}/m.mrc,{x},{y},{score}\n" for x, y, score in points]
        table_star += [f"{name}.mrc {x} {y} {score}\n" for x, y, score in points]
    for name, rows in (("table.csv", table), ("one_stem.csv", named)):
        with open(at(name), "w") as file:
            file.write("micrograph,x,y,score\n" + "".join(rows))
    labels = ["MicrographName", "CoordinateX", "CoordinateY", "AutopickFigureOfMerit"]
    with open(at("table.star"), "w") as file:
        file.write("data_\n\nloop_\n" + "".join(f"_rln{label}\n" for label in labels))
        file.writelines(table_star)


main()
