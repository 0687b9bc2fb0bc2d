#!/usr/bin/env bash
# Run the pipeline through a Slurm cluster of two nodes, set up for the purpose in a temporary folder and taken down again.
#
#   tests/slurm/run.sh [FOLDER OF PROGRAMS] [PART...]     (default: .venv/bin, both parts; needs root, and Debian's slurm-wlm and munge)
#
# smoke:  the smoke tier, from images to the report, on both nodes.
# faults: two trainings; one is preempted by a job of a higher priority, the other's node dies. Both go on from a checkpoint, and end
#         with the bytes of trainings that nothing disturbed.
#
# A node is a slurmd in namespaces of its own, for processes and the host's name: to kill the first process in there is to pull the plug.
# Nothing of an existing Slurm or munge is touched: the daemons have their own sockets, ports and state. Only the configuration is where
# Slurm's programs look for it, because Snakemake clears Slurm's variables inside a job; with another one there, this refuses to run.
set -euo pipefail

repository=$(cd "$(dirname "$0")/../.." && pwd)
bin=$(cd "${1:-$repository/.venv/bin}" && pwd)
parts=${*:2}
parts=${parts:-smoke faults}
for program in slurmctld slurmd munged sbatch squeue unshare; do
    command -v "$program" > /dev/null || { echo "$program is missing: apt-get install slurm-wlm munge util-linux" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "slurmd and munged need root here" >&2; exit 1; }

configuration=/etc/slurm/slurm.conf
[ ! -e "$configuration" ] || { echo "$configuration is there already: this machine has a Slurm of its own" >&2; exit 1; }

place=$(mktemp -d /tmp/irepa-slurm.XXXXXX)
chmod 755 "$place"
cleanup() {
    code=$?
    # All of it is thrown away, so nothing need end well; munged deletes its socket.
    for name in snakemake watch slurmctld irepa1 irepa2 munged; do
        [ ! -f "$place/$name.pid" ] || kill -s "$([ $name = munged ] && echo TERM || echo KILL)" "$(cat "$place/$name.pid")" || true
    done 2> /dev/null
    sleep 1
    if [ "$code" != 0 ]; then tail -n 20 "$place"/*.log >&2 || true; fi
    [ "$(readlink "$configuration")" = "$place/slurm.conf" ] && rm "$configuration"
    rm -rf "$place"
    exit "$code"
}
trap cleanup EXIT

fail() {
    echo "$*" >&2
    exit 1
}

# eventually SECONDS WHAT COMMAND...: wait until the command succeeds.
eventually() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "not within the time: $what"
        sleep 0.2
    done
}

mkdir -p "$place"/{state,munge,irepa1,irepa2}
chmod 700 "$place/munge"
head -c 1024 /dev/urandom > "$place/munge/key"
chmod 400 "$place/munge/key"
munged --force --key-file="$place/munge/key" --socket="$place/munge.socket" --pid-file="$place/munged.pid" \
    --log-file="$place/munged.log" --seed-file="$place/munge/seed"

cores=$(nproc)
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.45)}' /proc/meminfo)
# JobRequeue=0: what goes back into the queue does so because the profile asks for it.
cat > "$place/slurm.conf" <<CONF
ClusterName=irepa
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$place/munge.socket,cred_expire=10
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
MinJobAge=600
SlurmdTimeout=10
JobRequeue=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldPort=16817
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/%n
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/%n/slurmd.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/%n.log
NodeName=irepa1 NodeAddr=127.0.0.1 Port=16818 CPUs=$cores RealMemory=$memory
NodeName=irepa2 NodeAddr=127.0.0.1 Port=16819 CPUs=$cores RealMemory=$memory
PartitionName=cpu Nodes=ALL Default=YES LLN=YES PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF
CONF
mkdir -p "$(dirname "$configuration")"
ln -s "$place/slurm.conf" "$configuration"
slurmctld
for node in irepa1 irepa2; do
    unshare --uts --pid --fork --kill-child --mount-proc bash -c "hostname $node; slurmd -D & wait" > /dev/null 2>&1 &
    echo $! > "$place/$node.pid"
    disown # its death is no news
done
idle() { [ "$(sinfo --noheader --partition=cpu --format='%T %D' 2> /dev/null)" = "idle 2" ]; }
eventually 30 "two idle nodes" idle
sinfo

project=$place/project
git -C "$repository" ls-files -z | (cd "$repository" && xargs -0 cp --parents -t "$(mkdir -p "$project" && echo "$project")")
cd "$project"
export PATH="$bin:$PATH" PYTHONPATH=src
while sleep 1; do squeue --noheader --format="%i %T %N %C %m %l %k" 2> /dev/null || true; done >> "$place/squeue.txt" &
echo $! > "$place/watch.pid"
# What this cluster lacks (accounting), and what is slow for jobs of seconds; everything else is the profile's.
submit=(snakemake --workflow-profile workflow/profiles/slurm --jobs "$((2 * cores))" --slurm-status-command squeue --slurm-no-account
    --slurm-init-seconds-before-status-checks 3 --latency-wait 10 --default-resources slurm_partition=cpu)

smoke() {
    "${submit[@]}" --config tier=smoke
    echo
    echo "Jobs that squeue saw (id, state, node, cores, memory, time limit, rule):"
    sort -n -u "$place/squeue.txt"
    ids=$(awk '{print $1}' "$place/squeue.txt" | sort -u | wc -l)
    [ "$ids" -ge 10 ] || fail "squeue saw $ids jobs only"
    for node in irepa1 irepa2; do grep -q " $node " "$place/squeue.txt" || fail "$node ran no job"; done
    test -s results/smoke/report.html
    test -s results/smoke/table.csv
    irepa status --tier smoke
    snakemake --workflow-profile workflow/profiles/default --config tier=smoke 2>&1 | grep "Nothing to be done"
}

runs=$project/results/smoke/runs
saved() { find "$runs/$1/checkpoints" -maxdepth 1 -name 'step-*' 2> /dev/null | sort | tail -n 1 | grep -o '[1-9][0-9]*$'; }
begun() { saved "$1" > /dev/null; }
says() { grep -q "$2" "$project/results/smoke/logs/train/$1.log" 2> /dev/null; }
# Jobs of a cell, as squeue saw them: id, state, node.
seen() { awk -v name="rule_train_wildcards_${1//\//_}" '$NF == name && !seen[$0]++ { print $1, $2, $3 }' "$place/squeue.txt"; }
node_of() { seen "$1" | awk '$2 == "RUNNING" { node = $3 } END { print node }'; }
bytes() { (cd "$runs" && sha256sum {"$1","$2"}/{model.safetensors,snapshots.safetensors,loss.jsonl}); }

faults() {
    # Cells of the same tier, longer, so that something can happen to them.
    local preempted=sit/nano-32/rgb/repa/seed0 orphan=sit/nano-32/hog/repa/seed0 cell dead began
    local what=(--config tier=smoke "overrides={training.steps: 2000, training.checkpoint_every: 50, resources.train.workers: 1}" --
        results/smoke/runs/{"$preempted","$orphan"}/train.json)
    snakemake --workflow-profile workflow/profiles/default --quiet all "${what[@]}"
    bytes "$preempted" "$orphan" | tee "$place/undisturbed.txt"
    rm -r "${runs:?}"/{"$preempted","$orphan"}
    : > "$place/squeue.txt"

    began=$SECONDS
    "${submit[@]}" "${what[@]}" &
    snakemake=$!
    echo "$snakemake" > "$place/snakemake.pid"
    placed() { [ "$(node_of "$preempted")" ] && [ "$(node_of "$orphan")" ]; }
    eventually 120 "a node for both" placed
    eventually 120 "a checkpoint of $preempted" begun "$preempted"
    eventually 120 "a checkpoint of $orphan" begun "$orphan"

    echo "+ $((SECONDS - began)) s: an urgent job takes $(node_of "$preempted")"
    sbatch --partition=urgent --nodelist="$(node_of "$preempted")" --exclusive --output=/dev/null --wrap "sleep 1"
    eventually 60 "SIGTERM reaches $preempted" says "$preempted" "SIGTERM at step"
    grep -o "SIGTERM at .*" "results/smoke/logs/train/$preempted.log"

    dead=$(node_of "$orphan")
    kill -KILL "$(cat "$place/$dead.pid")"
    echo "+ $((SECONDS - began)) s: $dead has died"
    local -A last=(["$preempted"]=$(saved "$preempted") ["$orphan"]=$(saved "$orphan"))
    for cell in "$preempted" "$orphan"; do
        eventually 200 "$cell goes on after step ${last[$cell]}" says "$cell" "goes on after step ${last[$cell]} of 2000"
        echo "+ $((SECONDS - began)) s: $cell goes on after step ${last[$cell]}"
    done
    sinfo
    wait "$snakemake"
    rm "$place/snakemake.pid"

    echo "Jobs of the two trainings (id, state, node):"
    for cell in "$preempted" "$orphan"; do seen "$cell"; done
    [ "$(node_of "$orphan")" != "$dead" ] || fail "$orphan did not move to the other node"
    bytes "$preempted" "$orphan" | diff "$place/undisturbed.txt" - || fail "not the bytes of undisturbed trainings"
    echo "Both trainings end with the bytes of undisturbed ones."
}

for part in $parts; do
    began=$SECONDS
    "$part"
    echo "$part: $((SECONDS - began)) s"
done
