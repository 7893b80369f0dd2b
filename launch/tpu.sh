#!/usr/bin/env bash
# Trains on a TPU slice of Google Cloud: asks for it, runs jaxssl on all of its hosts, prints what they say, and goes on
# where it was whenever the slice is taken away. The arguments are those of jaxssl.main; the rest is set beside it:
#
#   NAME=mine ZONE=us-west4-a TYPE=v5litepod-16 SHARE=10.0.0.2:/share launch/tpu.sh \
#     --config=configs/byol_ham.py --config.data.manual_dir=/share/ham10000 --workdir=/share/runs/mine
#
# SHARE is an NFS share (such as Filestore's) that all hosts reach, mounted at /share, with the images on it: the
# workdir has to outlive the slice. Ends as jaxssl.main does, and gives the slice back, unless KEEP is set.
set -euo pipefail

: "${NAME:?of the slice}" "${ZONE:?where it is}" "${TYPE:?such as v5litepod-16}" "${SHARE:?host:/path of an NFS share}"
VERSION=${VERSION:-v2-alpha-tpuv5-lite} # Of the hosts' system; each kind of chip has its own.
SOURCE=${SOURCE:-$(git remote get-url origin)}
REVISION=${REVISION:-$(git rev-parse HEAD)}
PAUSE=${PAUSE:-60} # Seconds before a slice is asked for again,
TRIES=${TRIES:-100} # and how often it is.

tpus() { gcloud compute tpus tpu-vm "$1" "$NAME" --zone="$ZONE" "${@:2}"; }
state() { tpus describe --format='value(state)' 2>/dev/null || true; }
trap '[[ -n ${KEEP:-} || -z $(state) ]] || tpus delete --quiet' EXIT

# The hosts' own Python may be older than 3.11: uv brings one.
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
  # 75: saved, and told to go. 255: the hosts no longer answer; the slice is gone, or better made anew.
  case $code in
    75) ;;
    255) tpus delete --quiet || true ;;
    *) exit "$code" ;;
  esac
  echo "tpu.sh: the slice was taken away; the run goes on with another" >&2
  sleep "$PAUSE"
done
echo "tpu.sh: no end after TRIES=$TRIES; the same command goes on" >&2
exit 75
