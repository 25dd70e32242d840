#!/usr/bin/env bash
# What each ingredient of the simulated training set, and the size of the network, is worth on real
# micrographs: models with a small budget that differ in one thing, at the best threshold (oracle) of
# each set.
#
# usage: randomisation.sh WORK SEED SET:RADIUS_PX...
#   SET   folder with micrographs/ and coordinates/ (STAR), for judging alone
# PICKER names the program; VARIANTS which of them; COUNT the simulated micrographs; PATCHES an epoch.
set -euo pipefail
# With code 3 some particles are listed twice, as in some of these sets.
judge_picks() { "$picker" evaluate "$@" || [ $? -eq 3 ]; }

work=$1 seed=$2
shift 2
picker=${PICKER:-target/release/picker}
mkdir -p "$work"

none='{ probability = 0.0, most = 0.0 }'
ingredients() { # ingredients VARIANT: what is changed in configs/teaching.toml
  case $1 in
    all) ;;
    true-size) echo 'true_radius = [1.0, 1.0]' ;;
    one-shape) echo 'shapes = ["compact"]' ;;
    no-empty) echo 'without_particles = 0.0' ;;
    no-contamination)
      printf '%s\n' 'carbon = 0.0' 'shadow = 0.0' "ice_blobs = $none" "gold_beads = $none"
      printf '%s\n' "aggregates = $none" "fragments = $none"
      ;;
    no-blur) printf '%s\n' "detector_blur_px = $none" "filter_blur_px = $none" ;;
    one-defocus) printf '%s\n' 'defocus_um = [2.0, 2.0]' 'b_factor_a2 = [150.0, 150.0]' ;;
    even-ice) printf '%s\n' 'ice_mottle = [0.01, 0.01]' 'ice_gradient = [0.0, 0.0]' ;;
  esac
}
size() { # size VARIANT: what is changed in configs/default-model.toml
  case $1 in
    *-features) echo "base_features = ${1%-features}" ;;
    *-levels) echo "levels = ${1%-levels}" ;;
  esac
}

ingredients="true-size one-shape no-empty no-contamination no-blur one-defocus even-ice"
sizes="8-features 32-features 3-levels"
for variant in ${VARIANTS:-all $ingredients $sizes}; do
  run=$work/$variant.$seed
  rm -rf "$run"
  mkdir -p "$run"
  ingredients "$variant" > "$run/teaching.toml"
  {
    sed "s/^patches_per_epoch = .*/patches_per_epoch = ${PATCHES:-1200}/" configs/default-model.toml
    echo '[model]'
    size "$variant"
  } > "$run/training.toml"
  "$picker" simulate --preset training --config "$run/teaching.toml" --count "${COUNT:-150}" \
    --seed "$seed" --threads 1 --out "$run/set" --quiet
  "$picker" train "$run/set/micrographs" --coordinates "$run/set/coordinates" --particle-radius 9.5 \
    --config "$run/training.toml" --from-scratch --epochs 4 --seed "$seed" --threads 1 \
    --out "$run" > "$run/log" 2>&1
  rm -rf "$run/set"
  line="$variant $seed"
  for set in "$@"; do
    radius=${set##*:} set=${set%:*}
    name=$(basename "$set")
    "$picker" pick "$set/micrographs" --model "$run" --particle-radius "$radius" --threads 1 \
      --out "$run/$name" >> "$run/log" 2>&1 || true
    oracle=$(judge_picks --picks "$run/$name/picks.all" --min-score 0 --truth "$set/coordinates" \
      --micrographs "$set/micrographs" --particle-radius "$radius" 2> /dev/null |
      sed -n 's/^oracle.*f1=//p')
    line+=" $name=$oracle"
  done
  echo "$line"
done
