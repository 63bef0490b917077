#!/bin/sh
# Ask a llama-server router to unload every loaded model, with curl and jq alone.
#
#   unload-all.sh [URL]        URL defaults to $LLAMA_SERVER_URL, then http://127.0.0.1:8080
#   LLAMA_API_KEY=... unload-all.sh
#
# The recipe that is copied around filters on .status == "loaded"; the router's status is an object, so that
# matches nothing and reports success. This one reads both shapes and any id. What it cannot do: it takes only
# `loaded` (not `sleeping` or `loading`), it does not wait for the models to be gone, it cuts answers that are
# being written, and a model may be back a second later. `corral unload --all` sees it done.
set -eu

url=${1:-${LLAMA_SERVER_URL:-http://127.0.0.1:8080}}
url=${url%/}

call() {
    # The key goes in by a config on standard input, so that it stands in no process list.
    if [ -n "${LLAMA_API_KEY:-}" ]; then
        printf 'header = "Authorization: Bearer %s"\n' "$LLAMA_API_KEY" | curl -fsS --max-time 30 -K - "$@"
    else
        curl -fsS --max-time 30 "$@"
    fi
}

list=$(call "$url/models") || { echo "unload-all: no router answers on $url" >&2; exit 3; }
# @json keeps each id on one line, whatever is in it.
ids=$(printf '%s' "$list" | jq -r '.data[] | select((.status.value? // .status) == "loaded") | .id | @json')
if [ -z "$ids" ]; then
    echo "No loaded models on $url."
    exit 0
fi

failed=0
while IFS= read -r id; do
    body=$(jq -cn --argjson id "$id" '{model: $id}')
    if call "$url/models/unload" -H 'Content-Type: application/json' -d "$body" >/dev/null; then
        echo "Asked for the unload of $id"
    else
        echo "unload-all: the router refused $id" >&2
        failed=1
    fi
done <<IDS
$ids
IDS

left=$(call "$url/models" | jq '[.data[] | select((.status.value? // .status) == "loaded")] | length')
echo "Still listed as loaded: $left"
exit $failed
