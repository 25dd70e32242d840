#!/usr/bin/env bash
# The main job on simulated micrographs: simulate, train, pick, evaluate, report.
# usage: demo.sh FOLDER COUNT SIZE_PX SEED [more flags for `picker train`]
# The last third of the micrographs is the test set: neither training nor the threshold sees it.
set -euo pipefail

folder=$1 count=$2 size=$3 seed=$4
shift 4
picker=${PICKER:-picker}
run=$folder/picker_run

step() { printf '\n[%s/5] %s\n' "$1" "$2"; }

echo "demo: $count simulated micrographs of $size × $size px in $folder; about 3 minutes on two cores, most of"
echo "      them for training"
if [ -e "$folder" ] && [ ! -f "$folder/simulate.json" ]; then
  echo "error: $folder is there and is not from an earlier demo; name another folder with DEMO=…" >&2
  exit 1
fi
rm -rf "$folder"

step 1 "simulating micrographs with known particles (seconds)"
"$picker" simulate --out "$folder" --count "$count" --size "$size" --seed "$seed" --carbon 0
radius=$(sed -n 's/^ *"particle_radius_px": *\([0-9.]*\),*$/\1/p' "$folder/simulate.json" | head -1)
mapfile -t all < <(find "$folder/micrographs" -name '*.mrc' | sort)
held=$(((count + 2) / 3))
train=("${all[@]:0:count-held}") test=("${all[@]:count-held}")
# The particles of the training set alone: those of the test set are for the evaluation.
labels=()
for micrograph in "${train[@]}"; do
  labels+=("$folder/coordinates/$(basename "$micrograph" .mrc).star")
done

step 2 "training on ${#train[@]} micrographs (minutes)"
"$picker" train "${train[@]}" --coordinates "${labels[@]}" --particle-radius "$radius" \
  --seed "$seed" --out "$run" "$@"

step 3 "picking the ${#test[@]} micrographs that training has not seen (seconds)"
printf '%s\n' "${test[@]}" > "$folder/test.txt"
"$picker" pick "$folder/test.txt" --out "$run"

step 4 "comparing the picks with the known particles"
"$picker" evaluate --picks "$run/picks/picks.csv" --truth "$folder/coordinates" \
  --micrographs "$folder/test.txt" --particle-radius "$radius" --out "$run/report" \
  > "$folder/evaluation.txt"
cat "$folder/evaluation.txt"

step 5 "drawing the picks and writing the report"
"$picker" overlay "${test[0]}" --picks "$run/picks" --truth "$folder/coordinates" \
  --particle-radius "$radius" --out "$run/report/overlay.png"
"$picker" report --out "$run" > "$folder/report.txt"

echo
sed -n 's/^macro: /demo: /p' "$folder/evaluation.txt"
echo "report:    $run/report/report.html (open it in a browser)"
echo "picture:   $run/report/overlay.png"
echo "picks:     $run/picks"
echo "try next:  $picker inspect $run"
echo "           shows micrographs and picks in the browser and takes your labels; then, for your own"
echo "           micrographs: $picker pick FOLDER --particle-radius PX"
