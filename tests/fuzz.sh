#!/bin/sh
# Fuzzes every target of the module, one after another, FUZZTIME each (60s; a
# count such as 1000x runs without a clock). With FUZZQUIET only failures are shown.
# go test keeps a failing case in the package's testdata/fuzz: commit it.
set -u
cd "$(dirname "$0")/.." || exit 1

list=$(go test -list '^Fuzz' ./...) || exit 1
rc=0
count=0
names=""
# "go test -list" prints the names of a package before its "ok" line.
while read -r first package _; do
    case $first in
    Fuzz*) names="$names $first" ;;
    ok)
        for name in $names; do
            if [ -n "${FUZZQUIET:-}" ]; then
                out=$(go test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-60s}" "$package" 2>&1) || { rc=1; echo "== $package $name"; echo "$out"; }
            else
                echo "== $package $name"
                go test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-60s}" "$package" || rc=1
            fi
            count=$((count + 1))
        done
        names=""
        ;;
    esac
done <<LIST
$list
LIST
echo "$count fuzz targets"
exit $rc
