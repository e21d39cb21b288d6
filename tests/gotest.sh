#!/bin/sh
# Runs go test -race with the given packages. Shows the closing line of each
# package, and all that a failed package said. A skipped test is a failure.
# The last line is "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/.." || exit 1

log=$(mktemp)
status=$(mktemp)
trap 'rm -f "$log" "$status"' EXIT

{
    go test -race -count=1 -timeout 30m -v "$@"
    echo $? >"$status"
} | tee "$log" | awk '
    /^ok  \t/                 { print; fflush(); said = ""; next }
    /^FAIL\t/                 { printf "%s%s\n", said, $0; fflush(); said = ""; next }
    /^\?   \t/ || /^(PASS|FAIL)$/ { next }
    /^=== / || /^ *--- PASS: / { next }
    /^ *--- SKIP: /           { print; fflush(); next }
                              { said = said $0 "\n" }
    END                       { printf "%s", said }
'

awk -v rc="$(cat "$status")" '
    /^ *--- PASS: / { passed++ }
    /^ *--- FAIL: / { failed++; inside++ }
    /^ *--- SKIP: / { skipped++ }
    /^FAIL\t/       { if (!inside) failed++; inside = 0 } # did not build, or panicked
    /^ok  \t/       { inside = 0 }
    END {
        if (rc != 0 && !failed) failed = 1
        printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
        exit (rc != 0 || failed || skipped) ? 1 : 0
    }
' "$log"
