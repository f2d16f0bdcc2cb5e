#!/usr/bin/env bash
# Fetches DataFusion's sqllogictest scripts, and prints the directory that holds `test_files`. They are texts of the crate
# datafusion-sqllogictest in the pinned version; the crate itself is not built. Does nothing where they are there already.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^datafusion = "=\([0-9.]*\)"$/\1/p' Cargo.toml)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/springald/slt/$version"
# Scripts name data by paths from here, as `../core/tests/data`.
root="$cache/datafusion/sqllogictest"

# The newest unpacked source of a crate in the cargo registry; nothing if it is not there.
unpacked() {
  local folder
  for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$1-$version"; do
    [ -d "$folder/$2" ] && echo "$folder/$2" && return
  done
  return 0
}

# A text of which no COPY statement writes the like, below datafusion/core/tests/data.
text() {
  mkdir -p "$(dirname "$cache/datafusion/core/tests/data/$1")"
  cat >"$cache/datafusion/core/tests/data/$1"
}

state=$(cksum <scripts/slt.sh)
if [ "$(cat "$cache/complete" 2>/dev/null)" != "$state" ]; then
  rm -rf "$cache"
  mkdir -p "$root" "$cache/datafusion/datasource-arrow/tests/data"
  for crate in datafusion-sqllogictest datafusion-datasource-arrow; do
    # Outside of the workspace, whose lock file it would look into.
    (cd / && cargo info --quiet "$crate@$version" >/dev/null) || { echo "$crate $version cannot be fetched" >&2; exit 1; }
  done
  scripts=$(unpacked datafusion-sqllogictest test_files)
  [ -n "$scripts" ] || { echo "datafusion-sqllogictest $version has no test_files" >&2; exit 1; }
  cp -r "$scripts" "$root/test_files"
  [ ! -d "$(dirname "$scripts")/data" ] || cp -r "$(dirname "$scripts")/data" "$root/data"
  arrow=$(unpacked datafusion-datasource-arrow tests/data)
  [ -z "$arrow" ] || cp "$arrow"/* "$cache/datafusion/datasource-arrow/tests/data/"
  for part in 123 456; do
    mkdir -p "$cache/datafusion/core/tests/data/partitioned_table_arrow_stream/part=$part"
    [ -z "$arrow" ] || cp "$arrow/example_stream.arrow" "$cache/datafusion/core/tests/data/partitioned_table_arrow_stream/part=$part/"
  done
  text empty.csv <<<'c1,c2,c3'
  text quote.csv <<<$'c1,c2\nid0,~value0~\nid1,~val,ue1~\nid2,~value2~\nid3,~val~~ue3~'
  text escape.csv <<<$'c1,c2\nid0,"value\\"0"\nid1,"value\\"1"\nid2,"val,ue2"\nid3,plain'
  text double_quote.csv <<<$'c1,c2\nid0,"value""0"\nid1,"value""1"\nid2,"""value2"""\nid3,plain'
  printf 'id,message\r1,hello\r2,world\r3,again\r' | text cr_terminator.csv
  text newlines_in_values.csv <<<$'id,message\n1,"hello\nworld"\n2,"something\nelse"\n3,"many\nlines\nhere"\n4,unquoted'
  text json_array.json <<<'[{"a": 1, "b": "hello"}, {"a": 2, "b": "world"}, {"a": 3, "b": "test"}]'
  text 3.json <<<'{"mycol": null}'
  echo "$state" >"$cache/complete"
fi
echo "$root"
