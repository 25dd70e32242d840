#!/usr/bin/env python3
"""Writes the files of this folder with the programs that README.md names: make.py OUT_FOLDER.

Needs the Python packages of README.md; RELION's files are made only where relion_autopick is found.
"""
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import types
from unittest.mock import MagicMock

import mrcfile
import numpy as np
import pandas as pd
import starfile
import tifffile
from PIL import Image

# Only writers run; what trains networks and draws windows is left out.
for name in (
    "torch", "topaz.utils.data.loader", "napari", "matplotlib", "matplotlib.pyplot", "numpy.array_api",
    "numpy.array_api._array_object", "box_manager._qt", "box_manager._qt.OrganizeBox",
):
    sys.modules[name] = MagicMock()
# The packages themselves would load their windows.
box_manager = importlib.util.find_spec("box_manager").submodule_search_locations[0]
for name, folder in [("box_manager", box_manager), ("box_manager.io", os.path.join(box_manager, "io"))]:
    package = types.ModuleType(name)
    package.__path__ = [folder]
    sys.modules[name] = package
from box_manager.io import box, cbox
from topaz.utils import files as topaz

WIDTH, HEIGHT = 32, 24
# What every image holds: 2 · row + column, from the first row of the file.
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
RAMP = 2 * ROWS + COLUMNS


def mrc(out):
    for name, kind in [("int8", "i1"), ("int16", "i2"), ("float32", "f4"), ("uint16", "u2"), ("float16", "f2")]:
        with mrcfile.new(out(f"mrcfile_{name}.mrc"), overwrite=True) as file:
            file.set_data(RAMP.astype(kind))
            file.voxel_size = 1.25
    with mrcfile.new(out("mrcfile_extended.mrc"), overwrite=True) as file:
        file.set_data(RAMP.astype("i2"))
        file.set_extended_header(np.frombuffer(b"made of 80 bytes".ljust(80), dtype="V80"))
        file.header.exttyp = b"MRCO"
        file.voxel_size = 1.25
    with mrcfile.new(out("mrcfile_gzip.mrc.gz"), compression="gzip", overwrite=True) as file:
        file.set_data(RAMP.astype("f4"))
        file.voxel_size = 1.25


def pictures(out):
    tifffile.imwrite(out("tifffile_float32.tif"), RAMP.astype("f4"))
    tifffile.imwrite(out("tifffile_deflate_predictor.tif"), RAMP.astype("u2"), compression="zlib", predictor=True)
    tifffile.imwrite(out("tifffile_big_endian.tif"), RAMP.astype("i2"), byteorder=">")
    tifffile.imwrite(out("tifffile_bigtiff.tif"), RAMP.astype("u1"), bigtiff=True)
    tifffile.imwrite(out("tifffile_tiles.tif"), RAMP.astype("u2"), tile=(16, 16))
    Image.fromarray(RAMP.astype("u1")).save(out("pillow_lzw.tif"), compression="tiff_lzw")
    Image.fromarray(RAMP.astype("u1")).save(out("pillow_8bit.png"))
    Image.fromarray(RAMP.astype("u2")).save(out("pillow_16bit.png"))
    Image.fromarray(RAMP.astype("u1")).save(out("pillow.jpg"), quality=100)


def starfiles(out):
    one = pd.DataFrame({"rlnCoordinateX": [100.5, 300.0], "rlnCoordinateY": [20.0, 40.25]})
    starfile.write(one, out("starfile_autopick.star"), overwrite=True)
    many = pd.DataFrame(
        {
            "rlnMicrographName": ["a b/grid 1.mrc", "c/grid_2.mrc", "a b/grid 1.mrc"],
            "rlnCoordinateX": [1, 2, 3],
            "rlnCoordinateY": [10, 20, 30],
            "rlnAutopickFigureOfMerit": [0.5, 0.25, -0.125],
        }
    )
    optics = pd.DataFrame({"rlnOpticsGroup": [1], "rlnImagePixelSize": [1.5]})
    starfile.write({"optics": optics, "particles": many}, out("starfile_particles.star"), overwrite=True)


def topaz_files(out):
    table = pd.DataFrame(
        {
            "image_name": ["grid_1", "grid_1", "grid_2"],
            "x_coord": [100, 300, 7],
            "y_coord": [20, 40, 9],
            "score": [1.5, -2.25, -1.0],
        }
    )
    topaz.write_coordinates(out("topaz.txt"), table, format="coord")
    topaz.write_coordinates(out("topaz_via.csv"), table, format="csv")
    topaz.write_coordinates(os.path.dirname(out("")), table, format="box", boxsize=64, suffix="_topaz")
    topaz.write_coordinates(os.path.dirname(out("")), table, format="json")
    with open(out("topaz.star"), "w") as file:
        topaz.write_coordinates(file, table, format="star", image_ext=".mrc")


def boxes(out):
    centres = [(20.0, 100.0), (40.5, 300.0)]  # y, x
    features = pd.DataFrame({"confidence": [0.75, 0.5], "size": [60, 61], "numboxes": [1, 2]})
    box._write_box(out("boxmanager.box"), box._make_df_data_particle(centres, [64, 64]))
    cbox.write_cbox(out("boxmanager.cbox"), cbox._make_df_data(centres, [64, 64], features))


def relion(out):
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:192, :256]
    image = rng.normal(0, 1, rows.shape)
    for x, y in [(60, 50), (180, 60), (120, 130), (200, 150)]:
        image -= 4 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 200)
    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: os.path.join(folder, name)
        call = lambda *words: subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name in ("Mics", "Import/job001", "AutoPick/job002", "Extract/job003"):
            os.makedirs(at(name))
        with mrcfile.new(at("Mics/grid_1.mrc")) as file:
            file.set_data(image.astype("f4"))
            file.voxel_size = 2
        with mrcfile.new(at("ramp.mrc")) as file:
            file.set_data(RAMP.astype("f4"))
            file.voxel_size = 1.25
        call("relion_image_handler", "--i", "ramp.mrc", "--o", "scaled.mrc", "--multiply_constant", "2")
        call("relion_import", "--do_micrographs", "--i", "Mics/*.mrc", "--odir", "Import/job001/", "--ofile",
             "micrographs.star", "--angpix", "2", "--kV", "300", "--Cs", "2.7", "--Q0", "0.1")
        call("relion_autopick", "--i", "Import/job001/micrographs.star", "--odir", "AutoPick/job002/", "--pickname",
             "autopick", "--LoG", "--LoG_diam_min", "70", "--LoG_diam_max", "100", "--shrink", "0", "--lowpass", "20")
        call("relion_preprocess", "--i", "Import/job001/micrographs.star", "--coord_dir", "AutoPick/job002/",
             "--coord_suffix", "_autopick.star", "--part_star", "Extract/job003/particles.star", "--part_dir",
             "Extract/job003/", "--extract", "--extract_size", "32")
        for source, name in [
            ("scaled.mrc", "relion_image_handler.mrc"),
            ("Import/job001/micrographs.star", "relion_micrographs.star"),
            ("AutoPick/job002/Mics/grid_1_autopick.star", "relion_autopick.star"),
            ("Extract/job003/particles.star", "relion_particles.star"),
        ]:
            shutil.copy(at(source), out(name))


def cryosparc(out):
    fields = [("uid", "<u8"), ("location/micrograph_uid", "<u8"), ("location/exp_group_id", "<u4"),
              ("location/micrograph_path", "S48"), ("location/micrograph_shape", "<u4", (2,)),
              ("location/center_x_frac", "<f4"), ("location/center_y_frac", "<f4"), ("pick_stats/ncc_score", "<f4")]
    table = np.zeros(2, dtype=fields)
    table["uid"] = [1, 2]
    table["location/micrograph_path"] = b"J2/motioncorrected/000000000000000000001_m.mrc"
    table["location/micrograph_shape"] = (300, 400)
    table["location/center_x_frac"] = [0.25, 0.75]
    table["location/center_y_frac"] = [0.2, 0.66]
    with open(out("numpy.cs"), "wb") as file:
        np.save(file, table)


def main():
    os.makedirs(sys.argv[1], exist_ok=True)
    out = lambda name: os.path.join(sys.argv[1], name)
    mrc(out)
    pictures(out)
    starfiles(out)
    topaz_files(out)
    boxes(out)
    cryosparc(out)
    if shutil.which("relion_autopick"):
        relion(out)


main()
