#!/usr/bin/env bash
# The cold start of every function, in its release profile, against a hello-world of the same profile: init CPU time,
# from exec to the first poll of the runtime interface, as a ratio of runs that take turns; and the size of its binary in a
# zip file. Fails above the bounds of tests/bounds.toml. From an empty target folder it builds for 10 to 20 minutes on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
functions=(image-pushed signal-received sweeper operations promotions approvals notifier rollout-driver)
packages=()
for function in "${functions[@]}"; do packages+=(--package "$function"); done
cargo build --release --locked "${packages[@]}" --package lambda --bins --examples
release="${CARGO_TARGET_DIR:-target}/release"
# Events that are answered without a call to AWS.
declare -A event=(
    [image-pushed]=image-pushed.delete [signal-received]=signal-received.foreign [sweeper]=sweeper.foreign
    [operations]=operations.no-caller [promotions]=promotions.no-token [approvals]=approvals.slack-unsigned
    [notifier]=notifier.other-items [rollout-driver]=rollout-driver.unreadable-wake
)
bound() {
    python3 -c 'import sys, tomllib
table = tomllib.load(open("tests/bounds.toml", "rb")).get(sys.argv[1], {})
print(table.get(sys.argv[2], table.get("translating", "inf")))' "$@"
}
failed=0
for function in "${functions[@]}"; do
    limit="$(bound cold_start "$function")" most_zip="$(bound zip_mb "$function")"
    answer="$(python3 tests/lambda-cold-start.py --n 30 --warm 1 --allow-error --event "events/${event[$function]}.json" \
        --env SWITCHBACK_TABLE=switchback --env SWITCHBACK_WAKES_URL=http://127.0.0.1:9/wakes \
        --env SWITCHBACK_LINK_KEY_SECRET=link-key --env SWITCHBACK_SLACK_SIGNING_SECRET= \
        --env SWITCHBACK_SLACK_TOKEN_SECRET= --env SWITCHBACK_APPROVALS_URL=http://127.0.0.1:9 \
        --env SWITCHBACK_EVENT_BUS=default --env SWITCHBACK_DEAD_LETTERS_URL=http://127.0.0.1:9/dead-letters \
        --baseline "$release/examples/hello" --check "init_cpu_ms.ratio<=$limit" -- "$release/$function")" || failed=1
    python3 - "$function" "$limit" "$most_zip" "$answer" "$release/$function" <<'PYTHON' || failed=1
import io, json, sys, zipfile
function, limit, most_zip, answer, binary = sys.argv[1], sys.argv[2], float(sys.argv[3]), json.loads(sys.argv[4]), sys.argv[5]
packed = io.BytesIO()
with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.write(binary, "bootstrap")
cpu, size, zipped = answer["init_cpu_ms"], answer["bytes"] / 1e6, len(packed.getvalue()) / 1e6
print(f"{function:16} init CPU {cpu['median']:.1f} ms, {cpu['ratio']:.2f} of hello-world's (bound {limit}); "
      f"init {answer['init_ms']['median']:.1f} ms, {answer['rss_mb']['median']:.1f} MB, binary {size:.1f} MB, "
      f"zip {zipped:.1f} MB (bound {most_zip})")
sys.exit(zipped > most_zip)
PYTHON
done
exit "$failed"
