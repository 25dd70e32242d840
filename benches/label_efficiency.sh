#!/usr/bin/env bash
# How many labels are needed: supervised and self-trained F1 on fixed test micrographs.
#
# usage: label_efficiency.sh SET RADIUS_PX LABELLED TEST LABELS SEED WORK
#   SET       folder with micrographs/ and coordinates/ (STAR)
#   LABELLED  so many micrographs, the first by name, have labels; the last of them is for validation
#   TEST      so many micrographs, the last by name, are the test set
#   LABELS    0.1: that share of the labels of LABELLED, drawn at random, declared partial;
#             1: all labels; 1mic, 2mic: all labels of so many micrographs, the others have none
#   WORK      folder for runs; the line of results is also what is printed
# PICKER names the program, EPOCHS and RETRAIN the epochs of training and of one round.
set -euo pipefail
# With code 3 some particles are listed twice, as in some of these sets.
judge_picks() { "$picker" evaluate "$@" || [ $? -eq 3 ]; }

set_dir=$1 radius=$2 labelled=$3 tests=$4 labels=$5 seed=$6
work=$7/$(basename "$set_dir").$labels.$seed
picker=${PICKER:-target/release/picker}
rm -rf "$work"
mkdir -p "$work/coordinates"

mapfile -t all < <(find "$set_dir/micrographs" -name '*.mrc' | sort)
test=("${all[@]: -tests}")
case $labels in
  *mic) some=("${all[@]:0:labelled-1}") ;; # the validation micrograph of the other cases stays unused
  *) some=("${all[@]:0:labelled}") ;;
esac

python3 - "$set_dir/coordinates" "$work/coordinates" "$labels" "$seed" "${some[@]}" <<'PY'
import pathlib, random, sys

source, target, labels, seed = sys.argv[1:5]
stems = [pathlib.Path(path).stem for path in sys.argv[5:]]
draw = random.Random(int(seed))
if labels.endswith("mic"):
    stems, share = draw.sample(stems, int(labels[:-3])), 1.0
else:
    share = float(labels)
for stem in stems:
    head, rows = [], []
    for line in pathlib.Path(source, stem + ".star").read_text().splitlines():
        (rows if line.strip()[:1] in set("0123456789-") - {""} else head).append(line)
    kept = rows if share == 1 else draw.sample(rows, max(1, round(share * len(rows))))
    pathlib.Path(target, stem + ".star").write_text("\n".join(head + kept) + "\n")
PY

train=("${some[@]}" --coordinates "$work/coordinates" --particle-radius "$radius"
  --epochs "${EPOCHS:-10}" --seed "$seed" --threads 1 --out "$work/run")
case $labels in
  *mic) ;;
  1) train+=(--validation "${some[-1]}") ;;
  *) train+=(--validation "${some[-1]}" --labels partial) ;;
esac

judge() { # judge MODEL NAME: F1 on the test micrographs
  printf '%s\n' "${test[@]}" > "$work/test.txt"
  "$picker" pick "$work/test.txt" --model "$1" --out "$work/$2" --threads 1 >> "$work/log" 2>&1 || true
  judge_picks --picks "$work/$2/picks/picks.csv" --truth "$set_dir/coordinates" \
    --micrographs "$work/test.txt" --particle-radius "$radius" 2>> "$work/log" |
    sed -n 's/^macro: //p'
}

"$picker" train "${train[@]}" > "$work/log" 2>&1
echo "$(basename "$set_dir") $labels $seed supervised $(judge "$work/run/model/best.safetensors" supervised)"
if [ "$labels" != 1 ]; then
  "$picker" self-train --out "$work/run" --iterations "${ROUNDS:-1}" --retrain-epochs "${RETRAIN:-5}" \
    --threads 1 >> "$work/log" 2>&1
  for round in "$work"/run/model/round*/best.safetensors; do
    [ -f "$round" ] || continue
    name=$(basename "$(dirname "$round")")
    echo "$(basename "$set_dir") $labels $seed $name $(judge "$round" "$name")"
  done
  echo "$(basename "$set_dir") $labels $seed final $(judge "$work/run" final)"
fi
