#!/usr/bin/env bash
# Models for the comparison of threshold rules: trained from the default model on some micrographs of a
# set, with all peaks of all its micrographs stored. thresholds.py compares the rules.
#
# usage: thresholds.sh SET RADIUS_PX LABELLED SEED WORK
#   SET       folder with micrographs/ and coordinates/ (STAR)
#   LABELLED  so many micrographs, drawn with SEED, have labels; the last of them is for validation (of a
#             single one its lower quarter); 0: the default model without training
#   WORK      folder for models, one subfolder each
# PICKER names the program, EPOCHS the epochs.
set -euo pipefail

set_dir=$(realpath "$1") radius=$2 labelled=$3 seed=$4
model=$5/$(basename "$set_dir").$labelled.$seed
picker=${PICKER:-target/release/picker}
rm -rf "$model"
mkdir -p "$model"
mapfile -t all < <(find "$set_dir/micrographs" -name '*.mrc' | sort | python3 -c "
import random, sys
paths = sys.stdin.read().split()
random.Random($seed).shuffle(paths)
print('\n'.join(paths))")

pick=(--model default --particle-radius "$radius")
trained=()
if [ "$labelled" -gt 0 ]; then
  some=("${all[@]:0:labelled}")
  trained=("${some[@]:0:labelled > 1 ? labelled - 1 : 1}")
  train=("${trained[@]}" --coordinates "$set_dir/coordinates" --particle-radius "$radius"
    --epochs "${EPOCHS:-6}" --seed "$seed" --threads 1 --out "$model/run")
  [ "$labelled" = 1 ] || train+=(--validation "${some[-1]}")
  "$picker" train "${train[@]}" > "$model/log" 2>&1
  pick=(--model "$model/run")
fi
"$picker" pick "${all[@]}" "${pick[@]}" --out "$model/picked" --threads 1 >> "$model/log" 2>&1
python3 - "$set_dir" "$radius" "$labelled" "${all[@]}" > "$model/model.json" <<'PY'
import json, pathlib, struct, sys

folder, radius, labelled = pathlib.Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
paths = sys.argv[4:]
with open(paths[0], "rb") as file:  # an MRC begins with its width and height
    height = struct.unpack("<ii", file.read(8))[1]
print(json.dumps({
    "set": folder.name, "radius": radius, "coordinates": str(folder / "coordinates"), "height": height,
    "micrographs": sorted(paths), "trained": paths[: max(labelled - 1, min(labelled, 1))], "lone": labelled == 1,
}))
PY
echo "$model"
