#!/usr/bin/env bash
# One command for a machine with a CUDA GPU: tests, benchmarks, kernel tuning, training throughput.
#
#   bench/gpu_suite.sh --parts test|bench|tune|train|all OUT_DIR        (several: --parts test,tune)
#
# Runs from the source tree, nothing is installed. Each part ends within 9 minutes; what it had by then is kept. All
# output is in OUT_DIR: at most 8 files, none over 15 MB, summary.txt last with a line for each part. PYTHON names
# another python3. Status: 0 all parts passed, 1 one failed, 2 bad arguments, 3 no CUDA device.

set -u -o pipefail

MOST_FILES=8
MOST_BYTES=$((15 * 1000 * 1000))
PART_SECONDS=540
LARGE="beyond_32_bit" # tests that take tens of GB each, and so run alone
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-python3}

complain() {
  echo "gpu_suite.sh: $1" >&2
  exit "$2"
}

# has MODULE: whether Python can import it.
has() {
  "$PYTHON" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)"
}

# within SECONDS LOG COMMAND...: its output appended to OUT/LOG; the status of `timeout`, 124 or 137 if it was stopped.
within() {
  local seconds=$1 log=$OUT/$2
  shift 2
  if ((seconds < 1)); then
    echo "no time left for: $*" >>"$log"
    return 124
  fi
  echo "\$ $*" >>"$log"
  timeout -k 10 "$seconds" "$@" >>"$log" 2>&1 &
  RUNNING=$!
  wait "$RUNNING"
}

# left: seconds until the part that began at START must end, room for killing and packing taken off.
left() {
  echo $((PART_SECONDS - 20 - (SECONDS - START)))
}

# worse A B: the first that is not 0.
worse() {
  echo $(($1 != 0 ? $1 : $2))
}

# in_part NAME: runs it. At a signal its command ends first: `timeout` passes TERM on to all that it started.
in_part() {
  RUNNING=""
  trap 'if [[ -n $RUNNING ]]; then kill -TERM "$RUNNING" 2>/dev/null; wait "$RUNNING"; fi; exit 143' TERM HUP
  "part_$1"
}

# stop: at a signal, ends the part that runs and says which it was.
stop() {
  trap "" TERM INT HUP
  if [[ -n $CHILD ]]; then
    kill -TERM "$CHILD" 2>/dev/null
    wait "$CHILD"
    echo "$PART: stopped, $((SECONDS - START)) s" | tee -a "$OUT/summary.txt"
  else
    echo "stopped" >>"$OUT/summary.txt"
  fi
  exit 1
}

part_test() {
  local where=(tests) workers=() rc
  if ! has pydantic; then
    echo "test: pydantic is missing: tests/kernels alone, the others load the engine" | tee -a "$OUT/test.log" >&2
    where=(tests/kernels)
  fi
  if has xdist; then workers=(-n auto); fi
  local pytest=("$PYTHON" -m pytest -q -m gpu -p no:cacheprovider "${where[@]}")
  within 330 test.log "${pytest[@]}" "${workers[@]}" -k "not $LARGE"
  rc=$?
  within "$(left)" test.log "${pytest[@]}" -k "$LARGE"
  worse $rc $?
}

part_bench() {
  local rc=0 parallel=()
  if ! has spandrel; then
    echo "bench: spandrel is missing: cases with third-party networks are skipped" | tee -a "$OUT/bench.log" >&2
  fi
  if has xdist; then parallel=(-n "$(nproc)"); fi
  # What compiles is compiled side by side, so that the timed pass, one process alone, finds it done.
  SR_BENCH_COMPILE_ONLY=1 within 240 bench.log \
    "$PYTHON" -m pytest bench -q -m gpu -p no:cacheprovider "${parallel[@]}"
  within "$(left)" bench.log "$PYTHON" -m pytest bench/ -m gpu --benchmark-only -s -p no:cacheprovider
  rc=$?
  echo $rc
}

part_tune() {
  local soft=$(($(left) - 40))
  within "$(left)" tune.log "$PYTHON" -u -m bench.tune --seconds "$soft" --json "$OUT/tune.json"
  echo $?
}

part_train() {
  if ! has pydantic; then
    echo "train: pydantic is missing: nothing can be trained" | tee -a "$OUT/train.log" >&2
    echo skipped
    return
  fi
  within "$(left)" train.log "$PYTHON" -u -m bench.throughput --seconds 20 --json "$OUT/train.json"
  echo $?
}

# shorten FILE: at most MOST_BYTES of a log, its beginning and its end; other files are compressed, or left out.
shorten() {
  local file=$1 size
  size=$(stat -c %s "$file")
  if ((size <= MOST_BYTES)); then return; fi
  case $file in
    *.log | *.txt)
      { head -c 1000000 "$file"; printf '\n... %s bytes left out ...\n' $((size - 9000000)); tail -c 8000000 "$file"; } \
        >"$file.part"
      mv "$file.part" "$file"
      ;;
    *)
      if [[ $file != *.gz ]]; then gzip -f "$file" && file=$file.gz; fi
      size=$(stat -c %s "$file")
      if ((size > MOST_BYTES)); then
        rm "$file"
        echo "left out: ${file##*/}, $size bytes even compressed" >>"$OUT/summary.txt"
      fi
      ;;
  esac
}

# pack OUT: at most MOST_FILES files under it, summary.txt among them; what is too many goes into more.tar.gz.
pack() {
  OUT=$1
  local file kept=1 files=() rest=()
  touch "$OUT/summary.txt"
  find "$OUT" \( -name '*.part' -o -name '.*.tmp*' -o -type l \) -delete
  while IFS= read -r -d '' file; do files+=("$file"); done < <(
    find "$OUT" -type f -size +0 ! -path "$OUT/summary.txt" -print0 | sort -z)
  for file in "${files[@]}"; do shorten "$file"; done
  files=()
  while IFS= read -r -d '' file; do files+=("${file#"$OUT/"}"); done < <(
    find "$OUT" -type f ! -path "$OUT/summary.txt" -printf '%d %T@ %p\0' | sort -z -k1,1n -k2,2nr | cut -z -d' ' -f3-)
  for file in "${files[@]}"; do
    # Names and depth are what every machine hands back; one place stays free for the archive.
    if ((kept < MOST_FILES - 1)) && [[ $file =~ ^([A-Za-z0-9._-]+/){0,2}[A-Za-z0-9._-]+$ ]]; then
      kept=$((kept + 1))
    else
      rest+=("$file")
    fi
  done
  if ((${#rest[@]} == 0)); then return; fi
  if ((${#rest[@]} == 1)) && [[ ${rest[0]} =~ ^([A-Za-z0-9._-]+/){0,2}[A-Za-z0-9._-]+$ ]]; then return; fi
  (cd "$OUT" && tar -czf more.tar.gz.part -- "${rest[@]}" && rm -- "${rest[@]}" && mv more.tar.gz.part more.tar.gz)
  find "$OUT" -mindepth 1 -type d -empty -delete
  shorten "$OUT/more.tar.gz"
}

main() {
  local usage="--parts test|bench|tune|train|all (several with commas) OUT_DIR" parts="" out="" part rc status=0
  while (($#)); do
    case $1 in
      --parts)
        (($# > 1)) || complain "--parts needs a value; $usage" 2
        parts=$2
        shift
        ;;
      --parts=*) parts=${1#*=} ;;
      -*) complain "unknown option $1; $usage" 2 ;;
      *)
        [[ -z $out ]] || complain "one OUT_DIR, got $out and $1; $usage" 2
        out=$1
        ;;
    esac
    shift
  done
  [[ -n $parts ]] || complain "--parts is missing; $usage" 2
  [[ -n $out ]] || complain "OUT_DIR is missing; $usage" 2
  [[ $parts != all ]] || parts=test,bench,tune,train
  local wanted
  IFS=, read -r -a wanted <<<"$parts"
  for part in "${wanted[@]}"; do
    case $part in
      test | bench | tune | train) ;;
      *) complain "no part named '$part'; $usage" 2 ;;
    esac
  done
  mkdir -p "$out" 2>/dev/null || complain "cannot write to $out" 2
  OUT=$(cd "$out" && pwd)
  cd "$ROOT" || complain "cannot enter $ROOT" 2
  export PYTHONPATH=.:kernels${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 SR_BENCH_RESULTS=$OUT/results
  "$PYTHON" -c "import sys, torch; sys.exit(not torch.cuda.is_available())" 2>/dev/null \
    || complain "needs a CUDA device: $PYTHON sees none" 3

  PART="" CHILD=""
  # Whatever ends this script, the summary says how far it came.
  trap 'pack "$OUT"' EXIT
  trap stop TERM INT HUP
  for part in "${wanted[@]}"; do
    START=$SECONDS PART=$part
    in_part "$part" >"$OUT/rc.part" & # bash acts on a signal while it waits, not while a command runs before it
    CHILD=$!
    wait "$CHILD"
    rc=$(tail -n 1 "$OUT/rc.part")
    case $rc in
      0 | skipped) ;;
      *) status=1 ;;
    esac
    echo "$part: rc $rc, $((SECONDS - START)) s" | tee -a "$OUT/summary.txt"
  done
  exit $status
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main "$@"; fi
