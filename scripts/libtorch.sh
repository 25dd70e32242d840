#!/usr/bin/env bash
# Makes libtorch available to cargo as the link `.libtorch` in this checkout.
#
# A LIBTORCH that the user has set is used as it is, after a look at its version.
# Otherwise the CPU parts of the PyPI wheel are unpacked once into the user's
# cache folder, where every later run and every other clone finds them, with
# their licences.
set -euo pipefail

version=2.13.0
packages=("torch==$version" nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
root=$(cd "$(dirname "$0")/.." && pwd)

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

if [ -n "${LIBTORCH:-}" ] && [ "$(readlink -f "$LIBTORCH")" != "$(readlink -f "$root/.libtorch/torch" || true)" ]; then
  check "$LIBTORCH" "unset LIBTORCH to have the right one fetched, or point it at libtorch $version"
  echo "libtorch $version: $LIBTORCH (set by the user)"
  exit 0
fi

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
  fail "libtorch is fetched for Linux on x86-64 only" "install libtorch $version by hand and set LIBTORCH to its folder"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/picker/libtorch-$version"
if [ ! -d "$cache/licences" ]; then
  mkdir -p "$(dirname "$cache")"
  part=$(mktemp -d "$cache.part.XXXXXX")
  trap 'rm -rf "$part"' EXIT
  echo "libtorch $version: fetching (about 540 MB, once) into $cache"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version 3.12 --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest "$part/wheels" "${packages[@]}" ||
    fail "the libtorch packages could not be downloaded" "check the network and that pip is installed, or set LIBTORCH to a libtorch $version folder"
  python3 - "$part" <<'PY'
import pathlib, re, sys, zipfile

part = pathlib.Path(sys.argv[1])
wanted = re.compile(
    r"torch/lib/(libtorch_cpu\.so|libtorch\.so|libc10\.so|libgomp\.so\.1|libshm\.so)$"
    r"|torch/include/|torch/version\.py$"
    r"|nvidia/cu13/lib/lib(cudart|cupti)\.so\.13$"
)
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
ln -sfn "$cache" "$root/.libtorch"
echo "libtorch $version: $cache"
