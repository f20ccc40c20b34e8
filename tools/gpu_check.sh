#!/usr/bin/env bash
# What a GPU that nobody has tried does with the program, in less than ten minutes, as one JSON object.
#
#     tools/gpu_check.sh [PROGRAM] > gpu.json
#
# PROGRAM is a built cifar-engine, that of this folder by default; it needs nothing else but a driver, so it can be
# copied to a machine without Rust. Messages go to standard error. Where python3 has torch with CUDA, the same model is
# timed in it: with sums in f32, and in TF32, which rounds what it multiplies to 10 bits.
set -uo pipefail
here=$(dirname "$0")
program=$(realpath "${1:-$here/../target/release/cifar-engine}")
device=${CIFAR_ENGINE_DEVICE:-gpu}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
begin=$SECONDS
separator='{'

# A member of the object: its name, its time limit in seconds, and the command that prints its value.
member() {
  local name=$1 limit=$2 value code
  shift 2
  echo "$((SECONDS - begin)) s: $name" >&2
  value=$(timeout "$limit" "$@" 2> "$work/messages")
  code=$?
  if [ -z "$value" ]; then
    cat "$work/messages" >&2
    value="{\"exit_code\": $code}"
  fi
  printf '%s"%s": %s\n' "$separator" "$name" "$value"
  separator=','
}

bench() { "$program" bench --device "$device" --json --profile "$@"; }

# The same weights, evaluated on both devices, after a training that began with the comparison of a step.
parity() {
  "$program" train --data shapes --epochs 1 --seed 0 --device "$device" --out "$work/run" >&2 || return
  local gpu cpu
  gpu=$("$program" evaluate "$work/run/best.safetensors" --data shapes --json --device "$device") || return
  cpu=$("$program" evaluate "$work/run/best.safetensors" --data shapes --json --device cpu) || return
  printf '{"gpu": %s, "cpu": %s}' "$gpu" "$cpu"
}

torch() { python3 "$here/torch_cnn.py" bench --device cuda "$@"; }

export -f bench parity torch
export program device work here

member devices 60 "$program" devices --json
member doctor 240 "$program" doctor --device "$device" --json
member parity 120 bash -c parity
for batch in 128 512; do
  member "cnn_training_$batch" 60 bash -c "bench --mode train --batch-size $batch --steps 100"
done
member cnn_inference_512 60 bash -c 'bench --mode infer --batch-size 512 --steps 100'
member fast_training_2000 60 bash -c 'bench --model fast --mode train --batch-size 2000'
member mobilenet_training_64 60 bash -c 'bench --model mobilenet-v1 --mode train --batch-size 64'
if python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2> /dev/null; then
  for batch in 128 512; do
    member "torch_training_$batch" 60 bash -c "torch --mode train --batch-size $batch"
    member "torch_training_${batch}_tf32" 60 bash -c "torch --mode train --batch-size $batch --tf32"
  done
  member torch_inference_512 60 bash -c 'torch --mode infer --batch-size 512'
fi
echo '}'
echo "$((SECONDS - begin)) s: done" >&2
