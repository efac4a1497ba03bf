#!/usr/bin/env bash
# Two hosts on one machine: network namespaces that a switch joins, a torchrun in each.
#
#     sudo PYTHON=.venv/bin/python tests/stress/multinode.sh [seconds that the link is cut, 10]
#
# Trains Streets on one host, then on two, then on two while the link is cut and while one host is
# killed and started again, and prints which runs ended with the history of the first, as all must.
# Needs root and iproute2 with bridges. The addresses exist only inside of the namespaces; these
# and all files are gone at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."
cut=${1:-10}
python=$(realpath -s "${PYTHON:-python3}")
id=unet$$ # of the namespaces: $id-switch, $id-1, $id-2
work=$(mktemp -d)
export OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=eth0
# Without this a host that comes back is never told where to go (seen with PyTorch 2.14).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

[ "$(id -u)" = 0 ] || { echo "error: namespaces need root: run it with sudo" >&2; exit 1; }
command -v ip > /dev/null || { echo "error: there is no ip: install iproute2" >&2; exit 1; }

stop_host() { # host: end all that runs on it, at once
    ip netns pids "$id-$1" 2> /dev/null | xargs -r kill -9 || true
}

clean_up() {
    for host in 1 2; do stop_host $host; done
    for name in 1 2 switch; do ip netns delete "$id-$name" 2> /dev/null || true; done
    rm -rf "$work"
}
trap clean_up EXIT

wire() { # two hosts at the ports of a switch; a host that is unplugged sees no link go down
    ip netns add "$id-switch"
    ip -n "$id-switch" link add name bridge type bridge
    ip -n "$id-switch" link set bridge up
    for host in 1 2; do
        ip netns add "$id-$host"
        ip -n "$id-$host" link add name eth0 type veth peer name port$host netns "$id-switch"
        ip -n "$id-$host" address add 10.99.0.$host/24 dev eth0
        ip -n "$id-$host" link set lo up
        ip -n "$id-$host" link set eth0 up
        ip -n "$id-switch" link set port$host master bridge up
    done
}

declare -A started # host -> process
train=(train.py --recipe=recipes/streets.yaml --data_root="$work/data" --downscale=1 --width=8
    --epochs=5 --workers=1)

host() { # host, run: its torchrun, in the background
    ip netns exec "$id-$1" "$python" -m torch.distributed.run --nnodes=2 --nproc-per-node=1 \
        --max-restarts=3 --rdzv-id="$2" --rdzv-backend=c10d --rdzv-endpoint=10.99.0.1:29400 \
        --rdzv-conf=is_host=$((2 - $1)) --local-addr=10.99.0.$1 \
        -- "${train[@]}" --run="$work/$2" >> "$work/$2-$1.log" 2>&1 &
    started[$1]=$!
}

epochs() { # run: how many are done
    "$python" -c 'import json, sys; print(len(json.load(open(sys.argv[1]))))' \
        "$work/$1/history.json" 2> /dev/null || echo 0
}

until_epoch() { # run, epoch
    for _ in $(seq 600); do
        [ "$(epochs "$1")" -ge "$2" ] && return
        sleep 0.5
    done
    echo "error: $1 did not reach epoch $2" >&2
    tail -n 20 "$work/$1"*.log >&2
    exit 1
}

finish() { # run: wait for the hosts, and hold its history against that of one host
    local failed=0
    for job in "${started[@]}"; do wait "$job" || failed=1; done
    "$python" - "$work" "$1" $failed << 'END' || { tail -n 40 "$work/$1"-?.log >&2; broken=1; }
import json, sys

work, run, failed = sys.argv[1:]
one, two = (json.load(open(f"{work}/{name}/history.json")) for name in ("one-host", run))
same = [{**a, "seconds": 0} == {**b, "seconds": 0} for a, b in zip(one, two)]
starts = sum(line.count("images to train on") for host in "12"
             for line in open(f"{work}/{run}-{host}.log"))
held = len(two) == len(one) and all(same) and failed == "0"
print(f"{'held' if held else 'BROKEN'}: {run}: {sum(same)} of {len(one)} epochs as on one host, "
      f"restarts: {starts - 1}, {sum(r['seconds'] for r in two):.0f} s of training", flush=True)
sys.exit(not held)
END
}

"$python" -c 'import sys; from pathlib import Path; from streets import draw_tree
draw_tree(Path(sys.argv[1]), train=60, val=8, size=(128, 64), workers=2, quiet=True)' "$work/data"
wire

ip netns exec "$id-1" "$python" -m torch.distributed.run --standalone --nproc-per-node=2 \
    -- "${train[@]}" --run="$work/one-host" > "$work/one-host.log" 2>&1 ||
    { tail -n 20 "$work/one-host.log" >&2; exit 1; }
echo "one host, two processes: $(epochs one-host) epochs"

broken=0
host 1 two-hosts && host 2 two-hosts
finish two-hosts

host 1 link-cut && host 2 link-cut
until_epoch link-cut 1
ip -n "$id-switch" link set port2 nomaster
before=$(epochs link-cut)
sleep "$cut"
echo "link cut for $cut s: $(($(epochs link-cut) - before)) epochs done meanwhile"
ip -n "$id-switch" link set port2 master bridge
finish link-cut

host 1 host-killed && host 2 host-killed
until_epoch host-killed 1
stop_host 2
wait "${started[2]}" 2> /dev/null || true
echo "host 2 killed after epoch $(epochs host-killed)"
sleep 2
host 2 host-killed
finish host-killed
exit $broken
