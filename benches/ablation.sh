#!/usr/bin/env bash
# Architectures, and losses with complete and with few labels, each with three seeds on the same
# micrographs: `picker ablate` with a small budget.
#
# usage: ablation.sh SET RADIUS_PX WORK
#   SET   folder with micrographs/ and coordinates/ (STAR): three to train on, the next to validate
#         on, the last four by name to judge on
# PICKER names the program, THREADS how many it may use, PARTS what is done of: architectures complete
# partial.
set -euo pipefail

set_dir=$1 radius=$2 work=$3
picker=${PICKER:-target/release/picker}
mkdir -p "$work/few"
mapfile -t all < <(find -L "$set_dir/micrographs" -name '*.mrc' | sort)
printf '[train]\nepochs = 10\npatches_per_epoch = 200\n' > "$work/budget.toml"

# Every tenth label where training and validation look, all of them where it is judged.
for path in "${all[@]:0:4}"; do
  star=$(basename "$path" .mrc).star
  awk '$1 !~ /^[-0-9]/ || n++ % 10 == 0' "$set_dir/coordinates/$star" > "$work/few/$star"
done
for path in "${all[@]: -4}"; do
  cp "$set_dir/coordinates/$(basename "$path" .mrc).star" "$work/few/"
done

ablate() { # ablate NAME VARIANTS COORDINATES [flags]
  local name=$1 variants=$2 coordinates=$3
  shift 3
  echo "## $name"
  "$picker" ablate --variants "configs/$variants" --config "$work/budget.toml" "${all[@]:0:4}" \
    --validation "${all[3]}" --test "${all[@]: -4}" --coordinates "$coordinates" \
    --particle-radius "$radius" --seeds 1,2,3 --threads "${THREADS:-2}" --out "$work/$name" "$@" \
    2> "$work/$name.log"
}

for part in ${PARTS:-architectures complete partial}; do
  case $part in
    architectures) ablate architectures ablation.toml "$set_dir/coordinates" ;;
    complete) ablate complete ablation-losses.toml "$set_dir/coordinates" ;;
    partial) ablate partial ablation-losses.toml "$work/few" --labels partial ;;
  esac
done
