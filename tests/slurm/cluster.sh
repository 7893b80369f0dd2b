#!/usr/bin/env bash
# Starts and stops a Slurm of two nodes, n1 and n2, on this machine alone; as root, without systemd:
#
#   tests/slurm/cluster.sh start DIR; export SLURM_CONF=DIR/slurm.conf; sinfo
#   tests/slurm/cluster.sh stop DIR
#
# All files are written to DIR. Jobs of the partition `high` preempt those of `low`, which have GRACE seconds to save, and
# those of `sudden`, which have none.
set -euo pipefail

verb=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
export SLURM_CONF=$dir/slurm.conf

start() {
  cat >"$SLURM_CONF" <<CONF
ClusterName=jaxssl
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=26817
SlurmUser=root
AuthInfo=socket=$dir/munge.socket,cred_expire=5 # A requeued job waits for that long.
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides # Two nodes have more CPUs than the machine.
SchedulerParameters=sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeAddr=127.0.0.1 Port=26818 CPUs=4
NodeName=n2 NodeAddr=127.0.0.1 Port=26819 CPUs=4
PartitionName=low Nodes=n1,n2 Default=YES PriorityTier=1 GraceTime=${GRACE:-60}
PartitionName=sudden Nodes=n1,n2 PriorityTier=1
PartitionName=high Nodes=n1,n2 PriorityTier=2
CONF
  # munged accepts only files whose folders, up to the root, can be changed by its user and root alone.
  local key=/run/munge/jaxssl
  install -d -o munge -g munge /run/munge
  install -o munge -g munge -m 600 /dev/null $key.key
  head -c 128 /dev/urandom >$key.key
  runuser -u munge -- munged --key-file=$key.key --socket=$key.socket --pid-file=$key.pid --log-file=$key.log \
    --seed-file=$key.seed
  ln -sfn $key.socket "$dir/munge.socket"
  slurmctld
  # Processes find process 0 by the name of its node.
  { cat /etc/hosts; echo "127.0.0.1 n1 n2"; } >"$dir/hosts"
  for node in n1 n2; do
    unshare --mount bash -c 'mount --bind "$1" /etc/hosts && exec slurmd -N "$2"' - "$dir/hosts" $node
  done
  for _ in {1..60}; do
    [[ $(sinfo --noheader --Node --partition=low --states=idle 2>/dev/null | wc -l) == 2 ]] && return
    sleep 0.5
  done
  tail "$dir"/*.log >&2
  exit 1
}

stop() {
  scancel --user="$(id -un)" || true
  for _ in {1..80}; do
    [[ $(squeue --noheader) ]] || break
    sleep 0.5
  done
  for file in "$dir"/slurmctld.pid "$dir"/n1.pid "$dir"/n2.pid /run/munge/jaxssl.pid; do
    pid=$(cat "$file") || continue
    kill "$pid" || continue
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  done
}

"$verb"
