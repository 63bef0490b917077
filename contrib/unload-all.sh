#!/bin/sh
# Ask a llama-server router to unload every loaded model, with curl and jq alone.
#
#   unload-all.sh [URL]        URL defaults to $LLAMA_SERVER_URL, then http://127.0.0.1:8080
#   LLAMA_API_KEY=... unload-all.sh
#
# The recipe that is copied around filters on .status == "loaded"; the router's status is an object, so that
# matches nothing and reports success. This one reads both shapes and any id, and takes nothing for success that no
# router said. What it cannot do: it takes only `loaded` (not `sleeping` or `loading`), it does not wait for the
# models to be gone, it cuts answers that are being written, and a model may be back a second later.
# `corral unload --all` sees it done.
#
# Exit 0 when every request was accepted, 1 when one was not, 3 when no router answers, 9 when the API key is missing
# or wrong, 127 when curl or jq is missing.
set -eu

url=${1:-${LLAMA_SERVER_URL:-http://127.0.0.1:8080}}
url=${url%/}
newline='
'

fail() {
    printf 'unload-all: %s\n' "$2" >&2
    exit "$1"
}

for tool in curl jq; do
    command -v "$tool" >/dev/null || fail 127 "this needs $tool, which is not installed; corral does not"
done

# What was answered, and after it on a line of its own the HTTP status.
call() {
    # The key goes in by a config on standard input, so that it stands in no process list.
    if [ -n "${LLAMA_API_KEY:-}" ]; then
        printf 'header = "Authorization: Bearer %s"\n' "$LLAMA_API_KEY" |
            curl -sS --max-time 30 -w '\n%{http_code}' -K - "$@"
    else
        curl -sS --max-time 30 -w '\n%{http_code}' "$@"
    fi
}

# The models that a filter chooses from the router's list; whatever else answers is an error.
list() {
    reply=$(call "$url/models") || fail 3 "nothing answers on $url"
    case ${reply##*"$newline"} in
        200) ;;
        401 | 403) fail 9 "the API key for $url is missing or wrong: set LLAMA_API_KEY" ;;
        3??) fail 3 "$url redirects: give the address that it leads to" ;;
        *) fail 3 "no router on $url: it answers HTTP ${reply##*"$newline"}" ;;
    esac
    printf '%s' "${reply%"$newline"*}" | jq -nr '
        input | if (.data | type) != "array" or any(.data[]; .status == null) then error("no router") else . end
        | [.data[] | select((.status.value? // .status) == "loaded") | .id] | '"$1" 2>/dev/null ||
        fail 3 "no router on $url: it does not list models with their states (one started with -m, or another program)"
}

# @json keeps each id on one line, whatever is in it.
ids=$(list '.[] | @json')
if [ -z "$ids" ]; then
    printf 'No loaded models on %s.\n' "$url"
    exit 0
fi

failed=0
while IFS= read -r id; do
    body=$(jq -cn --argjson id "$id" '{model: $id}')
    reply=$(call "$url/models/unload" -H 'Content-Type: application/json' -d "$body") || reply=none
    if [ "${reply##*"$newline"}" = 200 ]; then
        printf 'Asked for the unload of %s\n' "$id"
    else
        printf 'unload-all: the router refused %s (HTTP %s)\n' "$id" "${reply##*"$newline"}" >&2
        failed=1
    fi
done <<IDS
$ids
IDS

left=$(list length)
echo "Still listed as loaded: $left"
exit $failed
