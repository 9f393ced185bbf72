#!/usr/bin/env bash
# The card from end to end: a checkpoint is saved, shown, planned, converted and verified, and a mistake is refused.
set -euo pipefail
cd "$(dirname "$0")"
rm -rf out
mkdir out

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

run cat rules.sx
run python models.py out/in.pth
run statex show out/in.pth
run statex plan rules.sx out/in.pth --target models:DsCard
run statex apply rules.sx out/in.pth out/out.pth --target models:DsCard
run statex show out/out.pth
run statex verify out/out.pth --target models:DsCard

# The renamed state does not fit the plain model: that is said, and nothing is written.
if run statex apply rules.sx out/in.pth out/refused.pth --target models:Card; then
    echo "a result that does not fit was accepted" >&2
    exit 1
fi
if [[ -e out/refused.pth ]]; then
    echo "a refused result was written" >&2
    exit 1
fi
