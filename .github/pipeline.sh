#!/usr/bin/env bash
# What CI does with the pipeline, on any machine: `make ci`. Runs what is out of date, holds the result against the
# commit, and writes results/ci.md for the pull request. BASE: the branch to compare with, of the remote `origin`.
set -euo pipefail
cd "$(dirname "$0")/.."

python -m softprompt.config

# Secrets that a workflow has not got, as that of a fork, come as empty text, which AWS's client would take for values.
for name in "${!AWS_@}"; do [ -n "${!name}" ] || unset "$name"; done
# The remote is asked for what DVC's cache lacks. It need not have the outputs of stages: they can be made.
if [ -n "$(dvc config core.remote)" ] && [[ $(dvc data status --json) == *not_in_cache* ]]; then
  pulled=$(dvc pull --allow-missing 2>&1) ||
    echo "warning: dvc pull: $(grep -m1 '^ERROR' <<< "$pulled"); going on with what is here" >&2
fi
# `dvc repro` brings back outputs from the cache, but not data that was given to `dvc add`, which no stage can make.
dvc checkout --quiet --allow-missing
missing=$(dvc data status --json | python -c '
import json, os, sys
lost = [path.rstrip("/") for path in json.load(sys.stdin).get("not_in_cache", [])]
print(*(path for path in lost if os.path.exists(path + ".dvc") and not os.path.exists(path)), sep=", ")')
if [ -n "$missing" ]; then
  echo "error: $missing: given to dvc add, and neither in DVC's cache nor on a remote; run dvc push where the" \
    "data are (docs/ci.md)" >&2
  exit 1
fi
dvc repro
verdict=0
said=$(softprompt verify HEAD 2>&1) || verdict=$?
echo "$said"

comment=results/ci.md
{
  cat results/report.md
  printf '\n`%s`\n' "$said"
  if [ -n "${BASE:-}" ]; then
    # A shallow clone has neither the branch nor what lies between; a whole one must not become shallow.
    [ "$(git rev-parse --is-shallow-repository)" = false ] || depth=--depth=1
    git fetch --quiet ${depth:+"$depth"} origin "$BASE"
    base=$(git rev-parse FETCH_HEAD)
    for what in metrics params; do
      difference=$(dvc "$what" diff --md "$base" | python -m softprompt.runtime.secrets)
      # Without a difference it is nothing, or a table's head alone.
      [ "$(wc -l <<< "$difference")" -gt 2 ] || difference=none
      printf '\n## Change of %s against %s\n\n%s\n' "$what" "$BASE" "$difference"
    done
  fi
} > "$comment"
echo "comment: $comment"
# The summary of a workflow's run needs no permission to write, which a fork's pull request has not.
[ -z "${GITHUB_STEP_SUMMARY:-}" ] || cat "$comment" >> "$GITHUB_STEP_SUMMARY"
[ "$verdict" = 0 ] || exit 1
python -m softprompt.evaluation.headline
