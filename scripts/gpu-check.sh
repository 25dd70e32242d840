#!/usr/bin/env bash
# Checks picker on an NVIDIA card and measures it against the CPU of the same machine. Prints a
# Markdown table; exits 1 if a check fails.
#
# usage: gpu-check.sh [FOLDER]      simulated data and logs go into FOLDER (default gpu_check)
# PICKER names the program [default: target/release/picker, built first if it is missing];
# SIZE and COUNT the micrographs to pick, EPOCHS and PATCHES (in each) the length of the training,
# CPU_THREADS what the GPU is compared with.
set -euo pipefail

folder=${1:-gpu_check}
size=${SIZE:-4096} count=${COUNT:-8} epochs=${EPOCHS:-2} patches=${PATCHES:-512}
threads=${CPU_THREADS:-$(nproc)}
root=$(cd "$(dirname "$0")/.." && pwd)
picker=${PICKER:-$root/target/release/picker}
[ -x "$picker" ] || make -C "$root" build
mkdir -p "$folder"
log=$folder/log
failures=0

row() { printf '| %s | %s | %s |\n' "$1" "$2" "$3"; }
check() { # check WHAT RESULT CONDITION: a row of the table, counted if the condition fails
  if python3 -c "import sys; sys.exit(not ($3))"; then row "$1" "$2" ok; else row "$1" "$2" FAILED; failures=$((failures + 1)); fi
}
seconds() { # seconds COMMAND...: the time it takes
  local start end
  start=$(date +%s.%N)
  "$@" >> "$log" 2>&1
  end=$(date +%s.%N)
  python3 -c "print(f'{$end - $start:.2f}')"
}
radius() { sed -n 's/^ *"particle_radius_px": *\([0-9.]*\),*$/\1/p' "$1/simulate.json" | head -1; }
f1() { # f1 RUN SET
  { "$picker" evaluate --picks "$1/picks/picks.csv" --truth "$2/coordinates" --micrographs "$2/micrographs" \
    --particle-radius "$(radius "$2")" 2>> "$log" || [ $? -eq 3 ]; } | sed -n 's/^macro:.* f1=\([0-9.]*\).*/\1/p'
}
agreement() { # agreement RUN RUN: percent of all picks that have a partner within 1 px
  python3 - "$1/picks/picks.csv" "$2/picks/picks.csv" <<'PY'
import csv, math, sys

def read(path):
    picks = {}
    for row in csv.DictReader(open(path)):
        picks.setdefault(row["micrograph"], []).append((float(row["x"]), float(row["y"])))
    return picks

first, second = map(read, sys.argv[1:])
found = total = 0
for own, other in ((first, second), (second, first)):
    for micrograph, picks in own.items():
        cells = {}
        for x, y in other.get(micrograph, []):
            cells.setdefault((int(x) // 2, int(y) // 2), []).append((x, y))
        for x, y in picks:
            near = (p for i in (-1, 0, 1) for j in (-1, 0, 1) for p in cells.get((int(x) // 2 + i, int(y) // 2 + j), ()))
            found += any(math.dist((x, y), p) <= 1 for p in near)
            total += 1
print(f"{100 * found / max(total, 1):.2f}")
PY
}
cards=$(nvidia-smi --query-gpu=name --format=csv,noheader)
echo "Card: $(echo "$cards" | sort | uniq -c | sed 's/^ *//' | paste -sd,); CPU: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $threads of $(nproc) threads used"
printf '[train]\npatches_per_epoch = %s\n' "$patches" > "$folder/short.toml"
printf '[train]\npatches_per_epoch = 16384\npatches_at_once = 16384\n' > "$folder/large.toml"
"$picker" doctor >> "$log" 2>&1 || true

"$picker" simulate --out "$folder/pick" --count "$count" --size "$size" --seed 5 >> "$log" 2>&1
"$picker" simulate --out "$folder/train" --count 24 --size 1024 --seed 6 >> "$log" 2>&1
pick() { # pick NAME DEVICE [flags]
  rm -rf "$folder/$1"
  seconds "$picker" pick "$folder/pick/micrographs" --particle-radius "$(radius "$folder/pick")" --out "$folder/$1" --device "$2" "${@:3}"
}
train() { # train NAME DEVICE [flags]
  rm -rf "$folder/$1"
  seconds "$picker" train "$folder/train/micrographs" --coordinates "$folder/train/coordinates" --from-scratch \
    --particle-radius "$(radius "$folder/train")" --epochs "$epochs" --config "$folder/short.toml" --seed 1 --out "$folder/$1" --device "$2" "${@:3}"
}

echo
echo "| check | result | |"
echo "| --- | --- | --- |"
pick gpu_first cuda:0 > /dev/null # the first start of CUDA and cuDNN
gpu=$(pick gpu cuda:0)
cpu=$(pick cpu cpu --threads "$threads")
same=$(agreement "$folder/cpu" "$folder/gpu")
check "picks within 1 px of the CPU's" "$same %" "$same >= 99.5"
on_cpu=$(f1 "$folder/cpu" "$folder/pick") on_gpu=$(f1 "$folder/gpu" "$folder/pick")
check "F1, CPU and GPU" "$on_cpu, $on_gpu" "abs($on_cpu - $on_gpu) <= .002"

trained=$(train train_gpu cuda:0)
again=$(train train_again cuda:0)
on_cpu_trained=$(train train_cpu cpu --threads "$threads")
losses() { tail -1 "$1/report/metrics.csv" 2> /dev/null | cut -d, -f2; }
first=$(losses "$folder/train_gpu") second=$(losses "$folder/train_again") cpu_loss=$(losses "$folder/train_cpu")
check "last loss, one seed twice on the GPU, once on the CPU" "$first, $second; $cpu_loss" \
  "abs($first - $second) <= .02 * $first and abs($first - $cpu_loss) <= .05 * $first"

if [ "$(echo "$cards" | wc -l)" -gt 1 ]; then
  train train_two cuda:0,cuda:1 > /dev/null
  two=$(losses "$folder/train_two")
  check "last loss, two cards against one" "$two, $first" "abs($two - $first) <= .02 * $first"
else
  row "two cards against one" "one card only" "not run"
fi

status=0
CUDA_VISIBLE_DEVICES='' "$picker" pick "$folder/pick/micrographs" --particle-radius 40 --device cuda --out "$folder/none" >> "$log" 2>&1 || status=$?
check "no visible card and --device cuda: exit code" "$status" "$status == 2"

# Halved until they fit.
status=0
rm -rf "$folder/large"
"$picker" train "$folder/train/micrographs" --coordinates "$folder/train/coordinates" --from-scratch \
  --particle-radius "$(radius "$folder/train")" --epochs 1 --batch-size 16384 --config "$folder/large.toml" --seed 1 \
  --device cuda:0 --out "$folder/large" > "$folder/large.log" 2>&1 || status=$?
smaller=$(grep -c "do not fit into the GPU's memory" "$folder/large.log" || true)
check "16,384 patches at once: exit code, times halved" "$status, $smaller" "$status == 0"

# Three times the same micrographs more, so that the start does not count.
rm -rf "$folder/more"
mkdir -p "$folder/more/micrographs"
for copy in 1 2 3 4; do
  for micrograph in "$folder/pick/micrographs"/*.mrc; do
    cp "$micrograph" "$folder/more/micrographs/$copy-$(basename "$micrograph")"
  done
done
pick_more() { # pick_more NAME DEVICE SECONDS [flags]: milliseconds a micrograph; SECONDS without the further ones
  local all
  rm -rf "$folder/$1"
  all=$(seconds "$picker" pick "$folder/more/micrographs" --particle-radius "$(radius "$folder/pick")" \
    --out "$folder/$1" --device "$2" "${@:4}")
  python3 -c "print(f'{1000 * ($all - $3) / (3 * $count):.1f}')"
}
gpu_more=$(pick_more gpu_more cuda:0 "$gpu")
cpu_more=$(pick_more cpu_more cpu "$cpu" --threads "$threads")

echo
echo "| measured | CPU, $threads threads | GPU | ratio |"
echo "| --- | --- | --- | --- |"
ratio() { python3 -c "print(f'{$1 / $2:.1f}')"; }
rate() { tail -1 "$1/report/metrics.csv" | cut -d, -f9 | xargs printf '%.0f'; }
echo "| picking $count micrographs of $size², start included | $cpu s | $gpu s | $(ratio "$cpu" "$gpu") |"
echo "| each further micrograph | $cpu_more ms | $gpu_more ms | $(ratio "$cpu_more" "$gpu_more") |"
echo "| training, start, reading and validation included | $on_cpu_trained s | $trained s | $(ratio "$on_cpu_trained" "$trained") |"
echo "| patches a second in the last epoch | $(rate "$folder/train_cpu") | $(rate "$folder/train_gpu") | $(ratio "$(rate "$folder/train_gpu")" "$(rate "$folder/train_cpu")") |"
exit $((failures > 0))
