#!/usr/bin/env bash
# DragonHPC over tcp between two nodes of the test bed (root only): dragon_tcp.sh /path/to/dragon
#
# Its nodes are told apart by the kernel's boot id, so each gets one of its own, and 10 GB of shared memory, of which it
# uses little. It starts nodes by ssh, for which a script stands in.
set -euo pipefail
dragon=$(realpath -s "$1")
here=$(cd "$(dirname "$0")" && pwd)
bed=$here/../../tests/nodes.sh
work=$(mktemp -d)
trap 'bash "$bed" down >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
bash "$bed" up 2
for node in 0 1; do
  cat /proc/sys/kernel/random/uuid >"$work/boot.$node"
  bash "$bed" exec $node mount --bind "$work/boot.$node" /proc/sys/kernel/random/boot_id
  bash "$bed" exec $node mount -o remount,size=10g /dev/shm
done
cat >"$work/ssh" <<SSH
#!/usr/bin/env bash
while [[ \$1 == -* ]]; do shift; done
host=\$1
shift
exec bash "$bed" exec \$((\${host##*.} - 1)) bash -c "\$*"
SSH
chmod +x "$work/ssh"
cd "$here"
export PATH=$work:$(dirname "$dragon"):$PATH PYTHONDONTWRITEBYTECODE=1
timeout -k 5 120 "$dragon" -m -w ssh --hostlist 10.78.0.1,10.78.0.2 -t tcp -o tcp --network-prefix '^(eth|dragon-bed)' \
  dragon_tcp.py
