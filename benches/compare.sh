#!/usr/bin/env bash
# Picking side by side with RELION's Laplacian-of-Gaussian: the same 10 simulated 4096² micrographs,
# two processors, RUNS times in turn, nothing else running.
#
# usage: compare.sh WORK
# Needs relion_autopick (Debian's package relion). PICKER names the program, RUNS how often.
# RELION's picker has one thread: it runs as two processes, each with half of the micrographs.
set -euo pipefail

picker=$(realpath "${PICKER:-target/release/picker}")
runs=${RUNS:-5}
mkdir -p "$1"
cd "$1"
if [ ! -f model/model/best.safetensors ]; then
  "$picker" simulate --out . --count 10 --size 4096 --particle-radius 54 --pixel-size 1.77 --seed 1 --quiet
  printf '[train]\nepochs = 2\npatches_per_epoch = 256\n' > quick.toml
  "$picker" train micrographs/sim_000[1-3].mrc --particle-radius 54 --config quick.toml --seed 1 \
    --out model > train.log 2>&1
fi
cat micrographs/*.mrc > /dev/null

seconds() { # seconds COMMAND...: its wall-clock time
  local start=$EPOCHREALTIME
  "$@" > run.log 2>&1
  awk "BEGIN { print $EPOCHREALTIME - $start }"
}
with_picker() {
  rm -rf picked
  "$picker" pick micrographs --model model --out picked --threads 2
}
with_log() {
  rm -rf log && mkdir log
  local options=(--angpix 1.77 --odir log/ --pickname log --LoG --LoG_diam_min 172 --LoG_diam_max 210
    --shrink 0 --lowpass 20)
  relion_autopick --i 'micrographs/sim_000[1-5].mrc' "${options[@]}" &
  relion_autopick --i 'micrographs/sim_00[01][06-9].mrc' "${options[@]}" &
  wait
}
for _ in $(seq "$runs"); do
  echo "picker $(seconds with_picker)"
  echo "LoG $(seconds with_log)"
done | tee times
[ "$(find log -name '*_log.star' | wc -l)" = 10 ] || { echo "LoG did not pick all" >&2; exit 1; }
python3 - times <<'PY'
import statistics, sys

times = {}
for line in open(sys.argv[1]):
    name, seconds = line.split()
    times.setdefault(name, []).append(float(seconds) / 10)
for name, own in times.items():
    print(f"{name}: {min(own):.3f} / {statistics.median(own):.3f} / {max(own):.3f} s a micrograph (min / median / max)")
ratio = statistics.median(times["picker"]) / statistics.median(times["LoG"])
print(f"picker takes {ratio:.2f} of the time of LoG")
PY
