#!/usr/bin/env bash
# Makes libtorch available to cargo as the link `.libtorch` in this checkout.
#
# A LIBTORCH that the user has set is used as it is, after a look at its version.
# Otherwise the CPU parts of the PyPI wheel are unpacked once into the user's
# cache folder, where every later run and every other clone finds them, with
# their licences. With CUDA=1 it is the whole wheel with the libraries of NVIDIA
# that it names, in a folder beside; the link is then `.libtorch-cuda`.
set -euo pipefail

version=2.13.0
root=$(cd "$(dirname "$0")/.." && pwd)
if [ "${CUDA:-}" = 1 ]; then
  kind=-cuda size="2.4 GB, 3.6 GB unpacked"
  # What torch 2.13.0 requires, less what only Python uses.
  packages=("torch==$version" nvidia-cudnn-cu13==9.20.0.48 nvidia-cusparselt-cu13==0.8.1 nvidia-nccl-cu13==2.29.7
    nvidia-nvshmem-cu13==3.4.5 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85 nvidia-cuda-nvrtc==13.0.88
    nvidia-cublas==13.1.1.3 nvidia-cufft==12.0.0.61 nvidia-cufile==1.15.1.6 nvidia-curand==10.4.0.35
    nvidia-cusolver==12.0.4.66 nvidia-cusparse==12.6.3.3 nvidia-nvjitlink==13.0.88 nvidia-nvtx==13.0.85)
else
  kind= size="540 MB"
  packages=("torch==$version" nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
fi
link=$root/.libtorch$kind

fail() { printf 'error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }

# The version a libtorch folder declares in its headers, "2.13.0".
declared_version() {
  sed -n -E 's/^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ([0-9]+).*/\2/p' \
    "$1/include/torch/headeronly/version.h" "$1/include/torch/csrc/api/include/torch/version.h" 2>/dev/null |
    head -3 | paste -sd.
}

check() {
  [ -f "$1/lib/libtorch_cpu.so" ] || fail "$1 holds no lib/libtorch_cpu.so" "$2"
  found=$(declared_version "$1")
  [ "$found" = "$version" ] || fail "$1 is libtorch ${found:-of unknown version}, this program needs $version" "$2"
}

if [ -n "${LIBTORCH:-}" ] && [ "$(readlink -f "$LIBTORCH")" != "$(readlink -f "$link/torch" || true)" ]; then
  check "$LIBTORCH" "unset LIBTORCH to have the right one fetched, or point it at libtorch $version"
  echo "libtorch $version: $LIBTORCH (set by the user)"
  exit 0
fi

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
  fail "libtorch is fetched for Linux on x86-64 only" "install libtorch $version by hand and set LIBTORCH to its folder"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/picker/libtorch-$version$kind"
if [ ! -d "$cache/licences" ]; then
  mkdir -p "$(dirname "$cache")"
  part=$(mktemp -d "$cache.part.XXXXXX")
  trap 'rm -rf "$part"' EXIT
  echo "libtorch $version: fetching (about $size, once) into $cache"
  quiet=--quiet
  [ ! -t 1 ] || quiet= # pip shows its progress on a terminal.
  python3 -m pip download $quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version 3.12 --implementation cp \
    $(printf -- '--platform manylinux_2_%s_x86_64 ' {28..17}) --platform manylinux2014_x86_64 \
    --dest "$part/wheels" "${packages[@]}" ||
    fail "the libtorch packages could not be downloaded" "check the network and that pip is installed, or set LIBTORCH to a libtorch $version folder"
  python3 - "$part" "${kind:-cpu}" <<'PY'
import pathlib, re, sys, zipfile

part = pathlib.Path(sys.argv[1])
libraries = {
    "cpu": r"torch/lib/(libtorch_cpu\.so|libtorch\.so|libc10\.so|libgomp\.so\.1|libshm\.so)$"
    r"|nvidia/cu13/lib/lib(cudart|cupti)\.so\.13$",
    "-cuda": r"torch/lib/lib(?!torch_python)[^/]*\.so[^/]*$|nvidia/.*\.so[^/]*$",
}
wanted = re.compile(libraries[sys.argv[2]] + r"|torch/include/|torch/version\.py$")
licence = re.compile(r"([^/]+)-[^/]+\.dist-info/licenses/(.*[^/])$")
for wheel in (part / "wheels").glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(part / "tree", [n for n in archive.namelist() if wanted.match(n)])
        for name in archive.namelist():
            if found := licence.match(name):
                text = part / "tree/licences" / found[1] / found[2]
                text.parent.mkdir(parents=True, exist_ok=True)
                text.write_bytes(archive.read(name))
PY
  check "$part/tree/torch" "the package index served another version: check the pip configuration"
  # Another clone may have finished first: its copy is as good as ours.
  mv -T "$part/tree" "$cache" 2>/dev/null || [ -d "$cache/licences" ] || mv "$part/tree/licences" "$cache/"
fi
check "$cache/torch" "delete $cache and run this again"
ln -sfn "$cache" "$link"
echo "libtorch $version: $cache"
