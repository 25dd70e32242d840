#!/usr/bin/env bash
# One labelled micrograph: training that starts from the default model against training from nothing.
# F1 on test micrographs at the model's own threshold, and the seconds that training took.
#
# usage: fine_tuning.sh SET RADIUS_PX TESTS WORK [SEED...]
#   SET    folder with micrographs/ and coordinates/ (STAR)
#   TESTS  so many micrographs, the last by name, are judged on
#   SEED   the SEED-th micrograph is the labelled one; also the seed of the training
# PICKER names the program; KINDS what is trained, as START-EPOCHS; LABELS=partial calls its labels
# partial, LABELS=complete insists that they are complete.
set -euo pipefail
# With code 3 some particles are listed twice, as in some of these sets.
judge_picks() { "$picker" evaluate "$@" || [ $? -eq 3 ]; }

set_dir=$1 radius=$2 tests=$3 work=$4
shift 4
name=$(basename "$set_dir")
picker=${PICKER:-target/release/picker}
labels=${LABELS:-auto}
said=()
[ "$labels" = auto ] || said=(--labels "$labels")
mkdir -p "$work"
mapfile -t all < <(find -L "$set_dir/micrographs" -name '*.mrc' | sort)
printf '%s\n' "${all[@]: -tests}" > "$work/$name.test.txt"

for seed in "${@:-1}"; do
  for kind in ${KINDS:-default-8 default-20 scratch-20}; do
    run=$work/$name.$kind.$labels.$seed
    rm -rf "$run"
    mkdir "$run"
    printf '[train]\nstart = "%s"\nepochs = %s\n' "${kind%-*}" "${kind#*-}" > "$run/config.toml"
    started=$(date +%s)
    "$picker" train "${all[$((seed - 1))]}" --coordinates "$set_dir/coordinates" "${said[@]}" \
      --particle-radius "$radius" --config "$run/config.toml" --seed "$seed" --out "$run" > "$run.log" 2>&1
    seconds=$(($(date +%s) - started))
    "$picker" pick "$work/$name.test.txt" --out "$run" >> "$run.log" 2>&1
    scores=$(judge_picks --picks "$run/picks/picks.csv" --truth "$set_dir/coordinates" \
      --micrographs "$work/$name.test.txt" --particle-radius "$radius" 2>> "$run.log" |
      sed -n 's/^macro: //p')
    echo "$name $kind $labels seed $seed $scores $seconds s"
  done
done
