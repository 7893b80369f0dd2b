#!/usr/bin/env bash
# Train on a TPU slice of Google Cloud: create the slice, run jaxssl on all of its hosts, print their output, and resume
# on a new slice after each preemption. The arguments are those of `jaxssl run`; environment variables set the rest:
#
#   NAME=mine ZONE=us-west4-a TYPE=v5litepod-16 SHARE=10.0.0.2:/share launch/tpu.sh \
#     --config=configs/byol_ham.py --config.data.manual_dir=/share/ham10000 --workdir=/share/runs/mine
#
# SHARE is an NFS share (such as Filestore's) with the images, which all hosts mount at /share; the workdir must be on it,
# because it outlives the slice. Exits with the code of jaxssl and deletes the slice, unless KEEP is set.
set -euo pipefail

: "${NAME:?name of the slice}" "${ZONE:?its zone}" "${TYPE:?such as v5litepod-16}" "${SHARE:?host:/path of an NFS share}"
VERSION=${VERSION:-v2-alpha-tpuv5-lite} # System of the hosts; it depends on the chip.
SOURCE=${SOURCE:-$(git remote get-url origin)}
REVISION=${REVISION:-$(git rev-parse HEAD)}
PAUSE=${PAUSE:-60} # Seconds between two attempts to create a slice.
TRIES=${TRIES:-100} # Number of attempts.

tpus() { gcloud compute tpus tpu-vm "$1" "$NAME" --zone="$ZONE" "${@:2}"; }
state() { tpus describe --format='value(state)' 2>/dev/null || true; }
trap '[[ -n ${KEEP:-} || -z $(state) ]] || tpus delete --quiet' EXIT

# The Python of the hosts may be older than 3.11: uv installs a newer one.
setup="set -euo pipefail
mountpoint -q /share || { sudo apt-get -qq install nfs-common; sudo mkdir -p /share; sudo mount '$SHARE' /share; }
[ -d jaxssl ] || git clone -q '$SOURCE' jaxssl
cd jaxssl && git fetch -q && git checkout -q '$REVISION'
python3 -m pip install -q --user uv
[ -d .venv ] || ~/.local/bin/uv venv -q --python=3.12 .venv
~/.local/bin/uv pip install -q --python=.venv --constraint=constraints.txt --editable='.[tpu]'"
run="cd jaxssl && exec .venv/bin/python -m jaxssl.main$(printf ' %q' "$@")"

for ((try = 1; try <= TRIES; try++)); do
  case $(state) in
    READY) ;;
    "") tpus create --accelerator-type="$TYPE" --version="$VERSION" --spot || { sleep "$PAUSE"; continue; } ;;
    *) tpus delete --quiet || true; sleep "$PAUSE"; continue ;;
  esac
  code=0
  { tpus ssh --worker=all --command="$setup" && tpus ssh --worker=all --command="$run"; } || code=$?
  # 75: preempted and saved. 255: the hosts do not answer; delete what is left of the slice.
  case $code in
    75) ;;
    255) tpus delete --quiet || true ;;
    *) exit "$code" ;;
  esac
  echo "tpu.sh: the slice was preempted; resuming on a new one" >&2
  sleep "$PAUSE"
done
echo "tpu.sh: not finished after TRIES=$TRIES; run the same command again to resume" >&2
exit 75
