#!/usr/bin/env bash
# Runs the Rust and the Python tests and ends with one line that counts them.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT

cargo test --workspace --quiet 2>&1 | tee "$log"
# Guests without the translator. Of the whole workspace again, as `--package` builds anew with other features.
guests=()
for file in cpu/engine/tests/*.rs; do
    guests+=(--test "$(basename "$file" .rs)")
done
KVMSHIM_TIER=0 cargo test --workspace --quiet "${guests[@]}" 2>&1 | tee --append "$log"
rust=$(grep -oE '[0-9]+ passed' "$log" | awk '{n += $1} END {print n + 0}')

pytest -q --ignore=tests/cuse "$@" 2>&1 | tee "$log"
summary=$(tail -n 1 "$log")
python=$(grep -oE '[0-9]+ passed' <<<"$summary" | awk '{print $1 + 0}')
skipped=$(grep -oE '[0-9]+ skipped' <<<"$summary" | awk '{print $1 + 0}' || true)

echo "kvmshim: $((rust + python)) tests passed ($rust Rust, $python Python), ${skipped:-0} skipped"
