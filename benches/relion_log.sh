#!/usr/bin/env bash
# RELION's Laplacian-of-Gaussian picker on a labelled set, judged by `picker evaluate`.
#
# usage: relion_log.sh SET RADIUS_PX PIXEL_SIZE VALIDATION TEST WORK
#   SET         folder with micrographs/*.mrc and coordinates/ (STAR)
#   PIXEL_SIZE  Å/px
#   VALIDATION  name of the micrograph (without .mrc) on which LoG's threshold is chosen: it has none
#   TEST        so many micrographs, the last by name, are the test set
#   WORK        folder for what RELION writes
# PICKER names the program.
set -euo pipefail

set_dir=$(realpath "$1") radius=$2 pixel_size=$3 validation=$4 tests=$5
picker=$(realpath "${PICKER:-target/release/picker}")
mkdir -p "$6/mics"
cd "$6"
ln -sf "$set_dir"/micrographs/*.mrc mics/
mapfile -t all < <(find mics -name '*.mrc' | sort)
printf '%s\n' "${all[@]: -tests}" > test.txt
diameter() { awk "BEGIN { print $1 * 2 * $radius * $pixel_size }"; }
relion_autopick --i 'mics/*.mrc' --angpix "$pixel_size" --odir ./ --pickname log --LoG \
  --LoG_diam_min "$(diameter 0.9)" --LoG_diam_max "$(diameter 1.1)" --shrink 0 --lowpass 20 \
  --LoG_adjust_threshold 0 > autopick.log 2>&1
mkdir -p picks
for micrograph in "${all[@]}"; do
  mv "${micrograph%.mrc}_log.star" "picks/$(basename "${micrograph%.mrc}").star"
done
# With code 3 some particles are listed twice, as in some of these sets.
evaluate() { "$picker" evaluate --picks picks --truth "$set_dir/coordinates" --particle-radius "$radius" "$@" || [ $? -eq 3 ]; }
threshold=$(evaluate --micrographs "mics/$validation.mrc" --json |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["oracle"]["threshold"])')
echo "$(basename "$set_dir") LoG at $threshold $(evaluate --micrographs test.txt --threshold "$threshold" | sed -n 's/^macro: //p')"
