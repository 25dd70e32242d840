#!/usr/bin/env python3
"""Fetches nine pictures without particles for the training of the default model.

usage: pictures_without_particles.py OUT     (needs: pip install pillow)

They are examples of MicAssess (Li et al. 2020; copyright 2019 Cianfrocco Lab, MIT licence): three each of
empty holes, crystalline ice, and vitreous ice without particles. OUT/micrographs gets each at three sizes,
and OUT/coordinates the empty lists of their particles. Once they are complete, they are left as they are.
"""
import hashlib
import io
import pathlib
import sys
import urllib.request

from PIL import Image

FROM = (
    "https://raw.githubusercontent.com/cianfrocco-lab/Automatic-cryoEM-preprocessing/"
    "075304d867ebf08b2e3f8ebf58b6deb3270eeeeb/Examples/"
)
# The network is trained on particles of 9.5 px, which at these sizes are 16, 12 and 9.5 px of the original picture.
SIZES = (0.58, 0.77, 1.0)
NO_PARTICLES = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n"
PICTURES = {
    "3Empty_no_ice/19apr30a_grid1_00056gr_00011sq_00003hl_00003en-a.png":
        "9b66c2951ae91686664e472f14625f6f95bac930224dae7950fd2293a4631e01",
    "3Empty_no_ice/19aug17a_grid5_00090gr_00048sq_00002hl_00012en-a.png":
        "23109e99c5cf7362123fc763e62733eafec23e2072c72a7f481c99b380a67c38",
    "3Empty_no_ice/19jun18a_grid4e_9_00107gr_00017sq_00009hl_00004en-a.png":
        "79855d536b9f3803ca1557dc7c7184456c4d6e1875ef4382479250b96259db7c",
    "4Crystalline_ice/19aug17a_grid5_00055gr_00037sq_00007hl_00002en-a.png":
        "501c19d32ffba749750c7fd4ee654f37722b889e9846e379521afa731ee94412",
    "4Crystalline_ice/19may13c_grid4e_8_00084gr_00028sq_v02_00003hl_00014en-a.png":
        "1577c267ed471da3925d04227c7d04d518ea8d2a57dee2ec30dca7e9e6423706",
    "4Crystalline_ice/19sep04c_enc_1B_00110gr_00007sq_v01_00002hl_00017en-a.png":
        "1626776efed92ccd6e8e99acc7df7896569f3842f5c7dcb1a04f9536a087775d",
    "5Empty_ice_no_particles_but_vitreous_ice/18sep28b_grid4e_5_00111gr_00025sq_v02_00008hl_00003en-a.png":
        "e648620550ac1e81269dbe0e12538316fa5edd2dce33e3d28e42b36b782bc167",
    "5Empty_ice_no_particles_but_vitreous_ice/19apr12a_grid2_00012gr_00010sq_v02_00003hl_00013en-a.png":
        "e4d8b4823b64be450e3a3bbd9b56e6a4abe9b8ad29aa12b2ac5897cff8cae733",
    "5Empty_ice_no_particles_but_vitreous_ice/19nov08e_grid8a_00085gr_00002sq_v01_00003hl_00010en-a.png":
        "695d5e558282ff61b8e508a0450d2e54ebef5e1ce8a788bbd9ada268d5924113",
}


def fetch(name, sha256):
    try:
        with urllib.request.urlopen(FROM + name) as answer:
            picture = answer.read()
    except OSError as error:
        sys.exit(f"{FROM}{name} could not be fetched: {error}; run the same command again")
    if hashlib.sha256(picture).hexdigest() != sha256:
        sys.exit(f"{FROM}{name} is not the picture that the default model was trained on: its checksum differs")
    return picture


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    if (out / "complete").exists():
        return
    micrographs, coordinates = out / "micrographs", out / "coordinates"
    for folder in (micrographs, coordinates):
        folder.mkdir(parents=True, exist_ok=True)
    for name, sha256 in PICTURES.items():
        picture = fetch(name, sha256)
        stem = pathlib.Path(name).stem
        for size in SIZES:
            if size == 1.0:
                # Unchanged, so that picker knows the picture again by its content.
                called, content = stem, picture
            else:
                image = Image.open(io.BytesIO(picture)).convert("L")
                scaled = image.resize([round(side * size) for side in image.size], Image.Resampling.LANCZOS)
                file = io.BytesIO()
                scaled.save(file, "PNG")
                called, content = f"{stem}_{size}", file.getvalue()
            (coordinates / f"{called}.star").write_text(NO_PARTICLES)
            (micrographs / f"{called}.png").write_bytes(content)
    (out / "complete").touch()


main()
