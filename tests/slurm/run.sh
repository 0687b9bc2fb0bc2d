#!/usr/bin/env bash
# Run the smoke tier through a Slurm cluster of this one machine, set up for the purpose in a temporary folder and taken down again.
#
#   tests/slurm/run.sh [FOLDER OF PROGRAMS]     (default: .venv/bin; needs root, and Debian's slurm-wlm and munge)
#
# Nothing of an existing Slurm or munge is touched: the daemons have their own sockets, ports and state. Only the configuration is where
# Slurm's programs look for it, because Snakemake clears Slurm's variables inside a job; with another one there, this refuses to run.
set -euo pipefail

repository=$(cd "$(dirname "$0")/../.." && pwd)
bin=$(cd "${1:-$repository/.venv/bin}" && pwd)
for program in slurmctld slurmd munged sbatch squeue; do
    command -v "$program" > /dev/null || { echo "$program is missing: apt-get install slurm-wlm munge" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "slurmd and munged need root here" >&2; exit 1; }

configuration=/etc/slurm/slurm.conf
[ ! -e "$configuration" ] || { echo "$configuration is there already: this machine has a Slurm of its own" >&2; exit 1; }

place=$(mktemp -d /tmp/irepa-slurm.XXXXXX)
chmod 755 "$place"
cleanup() {
    code=$?
    for name in watch slurmctld slurmd munged; do
        [ -f "$place/$name.pid" ] && kill "$(cat "$place/$name.pid")" 2> /dev/null || true
    done
    sleep 1
    if [ "$code" != 0 ]; then tail -n 20 "$place"/*.log >&2 || true; fi
    [ "$(readlink "$configuration")" = "$place/slurm.conf" ] && rm "$configuration"
    rm -rf "$place"
    exit "$code"
}
trap cleanup EXIT

mkdir -p "$place"/{state,spool,munge}
chmod 700 "$place/munge"
head -c 1024 /dev/urandom > "$place/munge/key"
chmod 400 "$place/munge/key"
munged --force --key-file="$place/munge/key" --socket="$place/munge.socket" --pid-file="$place/munged.pid" \
    --log-file="$place/munged.log" --seed-file="$place/munge/seed"

cores=$(nproc)
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
host=$(hostname -s)
cat > "$place/slurm.conf" <<CONF
ClusterName=irepa
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$place/munge.socket
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
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=cpu Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
mkdir -p "$(dirname "$configuration")"
ln -s "$place/slurm.conf" "$configuration"
slurmctld
slurmd
for _ in $(seq 30); do
    [ "$(sinfo --noheader --format=%T 2> /dev/null)" = idle ] && break
    sleep 1
done
sinfo

project=$place/project
git -C "$repository" ls-files -z | (cd "$repository" && xargs -0 cp --parents -t "$(mkdir -p "$project" && echo "$project")")
cd "$project"
(while sleep 2; do squeue --noheader --format="%i %j %T %C %m %l" 2> /dev/null; done | awk '!seen[$0]++ { print; fflush() }' > "$place/squeue.txt") &
echo $! > "$place/watch.pid"

PATH="$bin:$PATH" snakemake --workflow-profile workflow/profiles/slurm --config tier=smoke --jobs "$cores" \
    --slurm-status-command squeue --slurm-no-account --slurm-init-seconds-before-status-checks 3 \
    --latency-wait 10 --default-resources slurm_partition=cpu

echo
echo "Jobs that squeue saw (id, name, state, cores, memory, time limit):"
sort -n -u "$place/squeue.txt"
ids=$(awk '{print $1}' "$place/squeue.txt" | sort -u | wc -l)
[ "$ids" -ge 10 ] || { echo "squeue saw $ids jobs only" >&2; exit 1; }
test -s results/smoke/report.html
test -s results/smoke/table.csv
PATH="$bin:$PATH" PYTHONPATH=src irepa status --tier smoke
PATH="$bin:$PATH" snakemake --workflow-profile workflow/profiles/default --config tier=smoke 2>&1 | grep "Nothing to be done"
