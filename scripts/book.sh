#!/usr/bin/env bash
# Builds the book from docs/ into target/book; a warning of mdBook is an error.
# An mdbook in PATH is used; otherwise it is built once into target/mdbook (about two minutes).
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.5.4
mdbook=$(command -v mdbook || echo target/mdbook/bin/mdbook)
if [ ! -x "$mdbook" ]; then
  echo "mdBook $version: building it once, about two minutes on two cores"
  cargo install mdbook --version "$version" --locked --no-default-features --quiet --root target/mdbook
fi
log=$("$mdbook" build docs 2>&1) || { printf '%s\n' "$log" >&2; exit 1; }
printf '%s\n' "$log"
if grep -qE 'WARN|ERROR' <<< "$log"; then
  echo "error: mdBook warns; see above" >&2
  exit 1
fi
echo "book: target/book/index.html"
