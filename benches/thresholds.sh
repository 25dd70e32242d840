#!/usr/bin/env bash
# Models for the comparison of threshold rules: trained from the default model on some micrographs of a
# set, with all peaks of all its micrographs stored. thresholds.py compares the rules.
#
# usage: thresholds.sh SET RADIUS_PX LABELLED SEED WORK
#   SET       folder with micrographs/ and coordinates/ (STAR)
#   LABELLED  so many micrographs, drawn with SEED, have labels; the last of them is for validation (of a
#             single one its lower quarter); 0: the default model without training
#   WORK      folder for models, one subfolder each
#        thresholds.sh simulated WORK: twelve proteins with carbon and ice, six micrographs each, as sets
# PICKER names the program, EPOCHS the epochs.
set -euo pipefail

picker=${PICKER:-target/release/picker}
if [ "$1" = simulated ]; then
  shapes=(compact elongated ring barrel shell multi-domain disc)
  for number in $(seq 12); do
    radius=$((12 + 6 * (number % 6)))
    snr=$(awk "BEGIN { printf \"%.4f\", (0.15 + 0.1 * ($number % 4)) * (9.5 / $radius) ^ 2 }")
    "$picker" simulate --out "$2/sim$number" --count 6 --size $((34 * radius)) --particle-radius "$radius" \
      --pixel-size "$(awk "BEGIN { print 90 / $radius }")" --shape "${shapes[$((number % 7))]}" --snr "$snr" \
      --carbon 0.25 --ice-blobs 2 --seed $((2000 + number)) --quiet
    echo "$2/sim$number, radius $radius px"
  done
  exit
fi
set_dir=$(realpath "$1") radius=$2 labelled=$3 seed=$4
model=$5/$(basename "$set_dir").$labelled.$seed
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
