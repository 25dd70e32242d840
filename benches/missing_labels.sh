#!/usr/bin/env bash
# Labels that miss particles: F1 on test micrographs after a training that is not told of it (`auto`), and one that
# is told that every particle has a label (`complete`).
#
# usage: missing_labels.sh SET RADIUS_PX LABELLED TESTS SHARE WORK [SEED...]
#   SET       folder with micrographs/ and coordinates/ (STAR)
#   LABELLED  numbers of the labelled micrographs by name, as 1,2,3; of several the last one is for validation
#   TESTS     so many micrographs, the last by name, are judged on
#   SHARE     share of the labels that is removed at random, with the seed
# PICKER names the program, EPOCHS the epochs, KINDS the trainings (auto, complete, partial).
set -euo pipefail
# With code 3 some particles are listed twice, as in some of these sets.
judge_picks() { "$picker" evaluate "$@" || [ $? -eq 3 ]; }

set_dir=$1 radius=$2 labelled=$3 tests=$4 share=$5 work=$6
shift 6
name=$(basename "$set_dir").$labelled.$share
picker=${PICKER:-target/release/picker}
mkdir -p "$work"
mapfile -t all < <(find -L "$set_dir/micrographs" -name '*.mrc' | sort)
printf '%s\n' "${all[@]: -tests}" > "$work/$name.test.txt"
mapfile -t numbers < <(tr , '\n' <<< "$labelled")
train=()
for number in "${numbers[@]}"; do train+=("${all[number - 1]}"); done
if [ "${#train[@]}" -gt 1 ]; then
  last=${train[-1]}
  unset 'train[-1]'
  train+=(--validation "$last")
fi

for seed in "${@:-1}"; do
  coordinates=$work/$name.$seed.coordinates
  python3 - "$set_dir/coordinates" "$coordinates" "$share" "$seed" <<'PY'
import pathlib, random, sys

source, target, share, seed = sys.argv[1:]
pathlib.Path(target).mkdir(exist_ok=True)
draw = random.Random(int(seed))
for star in sorted(pathlib.Path(source).glob("*.star")):
    is_row = lambda line: line.strip()[:1] in set("0123456789-") - {""}
    lines = [l for l in star.read_text().splitlines() if not is_row(l) or draw.random() >= float(share)]
    pathlib.Path(target, star.name).write_text("\n".join(lines) + "\n")
PY
  for kind in ${KINDS:-auto complete}; do
    run=$work/$name.$kind.$seed
    said=()
    [ "$kind" = auto ] || said=(--labels "$kind")
    "$picker" train "${train[@]}" --coordinates "$coordinates" --particle-radius "$radius" "${said[@]}" \
      --epochs "${EPOCHS:-8}" --seed "$seed" --out "$run" > "$run.log" 2>&1
    "$picker" pick "$work/$name.test.txt" --out "$run" >> "$run.log" 2>&1
    scores=$(judge_picks --picks "$run/picks/picks.csv" --truth "$set_dir/coordinates" \
      --micrographs "$work/$name.test.txt" --particle-radius "$radius" 2>> "$run.log" |
      sed -n 's/^macro: //p')
    left_out=$(sed -n 's/^\([0-9]*\) places\{0,1\} without a label left out.*/\1/p' "$run.log")
    echo "$name $kind seed $seed $scores, ${left_out:-0} places left out"
  done
done
