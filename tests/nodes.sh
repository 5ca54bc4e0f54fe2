#!/usr/bin/env bash
# Nodes of a small cluster on one Linux machine, for tests. Needs root.
#
# A node has its own network, file systems of its own at /dev/shm and /proc, host name, IPC and process ids; it shares
# all other files with the machine, as nodes share a parallel file system. Node i is 10.78.0.(i+1), named node<i>.
#
#   nodes.sh up N            makes node 0 .. N-1 (after taking down what an earlier run left)
#   nodes.sh down            takes all down
#   nodes.sh exec I CMD...   runs a command on node I, with this terminal and working directory
#   nodes.sh cut I           pulls the cable of node I: packets are lost, nobody is told
#   nodes.sh heal I          plugs it in again
#   nodes.sh deaf I J        packets from node I to node J are lost; the other way they arrive
#   nodes.sh hear I J        undoes that
#   nodes.sh freeze I        stops all processes of node I
#   nodes.sh thaw I          lets them go on
#   nodes.sh crash I         kills all processes of node I; its kernel lives and says so to others
#   nodes.sh off I           switches node I off: nobody says anything
set -euo pipefail
net=10.78.0 bridge=dragon-bed state=${TMPDIR:-/tmp}/dragon-bed.$(id -u)

first() { cat "$state/$1.pid"; }
inside() { local node=$1; shift; nsenter -t "$(first "$node")" -m -u -i -n -p --wd=. -- "$@"; }

# The first process of a node: makes the node's own file systems and then only waits.
init() {
  mount --make-rprivate /
  mount -t proc proc /proc
  mount -t tmpfs -o size=2g,mode=1777 "shm-node$1" /dev/shm
  mount --bind "$state/hosts" /etc/hosts
  hostname "node$1"
  touch "$state/$1.ready"
  exec sleep infinity
}

up() {
  down
  mkdir -p "$state"
  { echo "127.0.0.1 localhost"; for ((i = 0; i < $1; i++)); do echo "$net.$((i + 1)) node$i"; done; } >"$state/hosts"
  ip link add "$bridge" type bridge
  ip addr add "$net.254/24" dev "$bridge"
  ip link set "$bridge" up
  for ((i = 0; i < $1; i++)); do
    ip netns add "dragon-bed$i"
    ip link add "dragon-bed$i" type veth peer name eth0 netns "dragon-bed$i"
    ip link set "dragon-bed$i" master "$bridge" up
    ip -n "dragon-bed$i" addr add "$net.$((i + 1))/24" dev eth0
    ip -n "dragon-bed$i" link set eth0 up
    ip -n "dragon-bed$i" link set lo up
    ip netns exec "dragon-bed$i" unshare --mount --uts --ipc --pid --fork --kill-child=KILL \
      bash "$0" init "$i" </dev/null >"$state/$i.log" 2>&1 &
    local outer=$!
    for ((look = 0; look < 500; look++)); do
      [ -e "$state/$i.ready" ] && break
      kill -0 "$outer" 2>/dev/null || break
      sleep 0.01
    done
    [ -e "$state/$i.ready" ] || { echo "node $i does not come up: $(cat "$state/$i.log")" >&2; exit 1; }
    # unshare stays outside and has one child, which is process 1 of the node.
    tr -d ' ' <"/proc/$outer/task/$outer/children" >"$state/$i.pid"
  done
}

down() {
  local pid
  for pid in "$state"/*.pid; do [ -e "$pid" ] && kill -KILL "$(cat "$pid")" 2>/dev/null || true; done
  for link in /sys/class/net/dragon-bed?*; do
    case $link in */"$bridge" | *'?*') ;; *) ip link del "$(basename "$link")" 2>/dev/null || true ;; esac
  done
  for name in $(ip netns list | sed -n 's/^\(dragon-bed[0-9]*\).*/\1/p'); do ip netns del "$name"; done
  ip link del "$bridge" 2>/dev/null || true
  rm -rf "$state"
}

command=${1:-help}
shift || true
case $command in
  up) up "$1" ;;
  down) down ;;
  init) init "$1" ;;
  exec) node=$1; shift; exec nsenter -t "$(first "$node")" -m -u -i -n -p --wd=. -- "$@" ;;
  cut) ip link set "dragon-bed$1" down ;;
  heal) ip link set "dragon-bed$1" up ;;
  deaf) ip -n "dragon-bed$1" route add blackhole "$net.$(($2 + 1))/32" ;;
  hear) ip -n "dragon-bed$1" route del blackhole "$net.$(($2 + 1))/32" ;;
  freeze) inside "$1" bash -c 'kill -STOP -1' ;;
  # Who waits outside for a stopped command has stopped too.
  thaw) inside "$1" bash -c 'kill -CONT -1 || true'; pkill -CONT -f "^nsenter -t $(first "$1") " || true ;;
  crash) inside "$1" bash -c 'kill -KILL -1 || true' ;;
  off) ip link set "dragon-bed$1" down && kill -KILL "$(first "$1")" ;;
  *) sed -n '2,19p' "$0" ;;
esac
