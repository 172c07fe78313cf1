#!/usr/bin/env bash
# What CI does with the pipeline, on any machine: `make ci`. Runs what is out of date, holds the result against the
# commit, and writes results/ci.md for the pull request. BASE: the branch to compare with, of the remote `origin`.
set -euo pipefail
cd "$(dirname "$0")/.."

python -m stages.params
# `dvc repro` brings back outputs from the cache, but not data that was given to `dvc add`.
dvc checkout --quiet --allow-missing
dvc repro
verdict=0
said=$(prompt-tuning verify HEAD 2>&1) || verdict=$?
echo "$said"

comment=results/ci.md
{
  cat results/report.md
  printf '\n`%s`\n' "$said"
  if [ -n "${BASE:-}" ]; then
    # A shallow clone has neither the branch nor what lies between.
    git fetch --quiet --depth=1 origin "$BASE"
    base=$(git rev-parse FETCH_HEAD)
    for what in metrics params; do
      difference=$(dvc "$what" diff --md "$base")
      # Without a difference it is nothing, or a table's head alone.
      [ "$(wc -l <<< "$difference")" -gt 2 ] || difference=none
      printf '\n## Change of %s against %s\n\n%s\n' "$what" "$BASE" "$difference"
    done
  fi
} > "$comment"
echo "comment: $comment"
[ "$verdict" = 0 ] || exit 1
python -m stages.scoring.headline
