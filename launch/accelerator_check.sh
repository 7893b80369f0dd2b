#!/usr/bin/env bash
# Check jaxssl on a machine with GPUs or TPUs in about ten minutes: is it equal to the CPU, how fast is it, does memory
# agree with the plan, does a killed run go on. Writes check.json and check.md into the folder, for sending.
#
#     launch/accelerator_check.sh FOLDER
#     JAX_PLATFORMS=cpu launch/accelerator_check.sh FOLDER --tiny     # tries the check itself, on any machine
set -euo pipefail
cd "$(dirname "$0")/.."
exec python launch/benchmarks/accelerator.py "$@"
