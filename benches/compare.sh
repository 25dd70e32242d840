#!/usr/bin/env bash
# Picking side by side with its peers: the same 10 simulated 4096² micrographs, two processors, each
# program RUNS times in turn, nothing else running. Start-up is included in all of them.
#
# usage: compare.sh WORK
# Installs the peers in WORK (Topaz, from PyPI) or with apt (RELION, if it is missing and root asks).
# PICKER names the program, FORWARD the bench `network`; RUNS says how often, PEERS which to run.
# Peers with one thread run as two processes, each with half of the micrographs.
set -euo pipefail

cd "$(dirname "$0")/.."
picker=$(realpath "${PICKER:-target/release/picker}")
forward=$(realpath "${FORWARD:-$(cargo bench --bench network --no-run 2>&1 | sed -n 's/.*(\(.*network-.*\))/\1/p')}")
runs=${RUNS:-5}
peers=${PEERS:-picker forward log topaz}
mkdir -p "$1"
cd "$1"

if [ ! -f simulate.json ]; then
  "$picker" simulate --out . --count 10 --size 4096 --particle-radius 54 --pixel-size 1.77 --seed 1 --quiet
fi
if [[ $peers = *log* ]] && ! command -v relion_autopick > /dev/null; then
  apt-get install -y relion > apt.log 2>&1
fi
if [[ $peers = *topaz* ]] && [ ! -x topaz/bin/topaz ]; then
  python3 -m venv topaz
  topaz/bin/pip install --quiet topaz-em==0.3.20
fi
cat micrographs/*.mrc > /dev/null

half() { # half 0|1: five of the micrographs
  local all=(micrographs/*.mrc)
  echo "${all[@]:$((5 * $1)):5}"
}
with_picker() {
  rm -rf picked
  "$picker" pick micrographs --model default --particle-radius 54 --out picked --threads 2
}
# The bare network on ten images of that size, two at a time; memory is kept as picker keeps it.
with_forward() {
  MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2000000000 \
    MALLOC_TOP_PAD_=67108864 "$forward" forward
}
with_log() {
  rm -rf log && mkdir log
  local options=(--angpix 1.77 --odir log/ --pickname log --LoG --LoG_diam_min 172 --LoG_diam_max 210
    --shrink 0 --lowpass 20)
  relion_autopick --i 'micrographs/sim_000[1-5].mrc' "${options[@]}" &
  relion_autopick --i 'micrographs/sim_00[01][06-9].mrc' "${options[@]}" &
  wait
}
topaz_half() { # topaz_half 0|1
  # shellcheck disable=SC2046
  OMP_NUM_THREADS=1 topaz/bin/topaz preprocess -s 8 -t 0 -o "topaz_out/prepared$1/" $(half "$1")
  OMP_NUM_THREADS=1 topaz/bin/topaz extract -m resnet16 -r 7 -x 8 -d -1 -o "topaz_out/picks$1.txt" \
    "topaz_out/prepared$1/"*.mrc
}
with_topaz() {
  rm -rf topaz_out && mkdir -p topaz_out/prepared0 topaz_out/prepared1
  topaz_half 0 &
  topaz_half 1 &
  wait
}
for _ in $(seq "$runs"); do
  for peer in $peers; do
    start=$EPOCHREALTIME
    "with_$peer" > run.log 2>&1
    echo "$peer $(awk "BEGIN { print $EPOCHREALTIME - $start }")"
  done
done | tee times
if [[ $peers = *log* ]] && [ "$(find log -name '*_log.star' | wc -l)" != 10 ]; then
  echo "LoG did not pick all" >&2
  exit 1
fi
if [[ $peers = *topaz* ]] && [ "$(cut -f1 topaz_out/picks?.txt | grep -c -v image_name)" -lt 10 ]; then
  echo "Topaz did not pick" >&2
  exit 1
fi
python3 - times <<'PY'
import statistics, sys

times = {}
for line in open(sys.argv[1]):
    name, seconds = line.split()
    times.setdefault(name, []).append(float(seconds) / 10)
own = statistics.median(times["picker"])
for name, each in times.items():
    print(
        f"{name}: {min(each):.3f} / {statistics.median(each):.3f} / {max(each):.3f} s a micrograph"
        f" (min / median / max); picker takes {own / statistics.median(each):.3f} of it"
    )
PY
