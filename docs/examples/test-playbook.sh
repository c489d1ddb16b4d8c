#!/bin/sh
# Tests ecs-anywhere.yml without an AWS account: what it would change is told, is done, and is not done twice.
#
#   test-playbook.sh INVENTORY [FLAGS of anywhere emulator]...
#
# The hosts of the inventory must reach the emulator: --listen HOST:PORT names an address of this machine. They become
# instances of an emulated cluster, so take machines that are there for tests. Needs ansible, anywhere and python3.
set -eu

here=$(dirname "$0")
inventory=$1
shift
work=$(mktemp -d)
trap 'kill "$emulator" 2>/dev/null || :; wait; rm -rf "$work"' EXIT

anywhere emulator --seed "$here/seed.yaml" --ready-file "$work/ready.json" --ca-file-out "$work/ca.crt" "$@" >"$work/log" 2>&1 &
emulator=$!
until [ -e "$work/ready.json" ]; do
  kill -0 "$emulator" || { cat "$work/log" >&2; exit 1; }
  sleep 0.1
done

# What leads this machine's calls to the emulator, and the hosts' agents.
eval "$(python3 -c '
import json, shlex, sys
ready = json.load(open(sys.argv[1]))
for name, value in ready["environment"].items(): print(f"export {name}={shlex.quote(value)}")
json.dump({"emulator_flags": ready["flags"]}, open(sys.argv[2], "w"))
' "$work/ready.json" "$work/vars.json")"

# SSM Agent's message channel is TLS always: the hosts have to trust the emulator.
export ANSIBLE_HOST_KEY_CHECKING=False ANSIBLE_PIPELINING=True
ansible all -i "$inventory" --become -m copy -a "src=$work/ca.crt dest=/usr/local/share/ca-certificates/anywhere-emulator.crt"
ansible all -i "$inventory" --become -m command -a update-ca-certificates

# play NAME WANTED FLAGS...: what Ansible counts in the end has to have WANTED, and no failure.
play() {
  log=$work/$1 wanted=$2
  shift 2
  if ! ansible-playbook -i "$inventory" -e cluster=shop -e "@$work/vars.json" \
    -e '{"anywhere_flags": "{{ emulator_flags + extra_flags | default([]) }}"}' "$here/ecs-anywhere.yml" "$@" >"$log" 2>&1 ||
    ! grep -q "$wanted" "$log"; then
    cat "$log" >&2
    echo "test-playbook: expected $wanted" >&2
    exit 1
  fi
}
play first 'changed=[1-9]'
play second 'changed=0'
play check 'changed=0' --check
echo "test-playbook: the hosts are registered, and the second run changed nothing"
