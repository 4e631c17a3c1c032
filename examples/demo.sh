#!/bin/sh
# The main job from end to end, on a simulated retailer. Called by `make demo`.
set -eu
BIN=${BIN:-.venv/bin}
OUT=${OUT:-demo}

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$BIN/$@"; }

[ -t 1 ] || say() { printf '\n%s\n' "$*"; }
rm -rf "$OUT"

say "Head office: a retailer with stores and a web shop, and a model of its customers"
run c2rec-train simulate --out "$OUT/data"
run c2rec-train fit "$OUT/data" --out "$OUT/run"
run c2rec-train evaluate "$OUT/run"

say "Head office: a release, checked against the model it came from"
run c2rec-export bundle "$OUT/run" --out "$OUT/bundle"
run c2rec-export check "$OUT/bundle" --against "$OUT/run"

say "Head office: signed, and published where kiosks find it"
run c2rec-export keys init "$OUT/keys"
run c2rec-export publish "$OUT/bundle" "$OUT/repository" --keys "$OUT/keys"
run c2rec-export keys kiosk --keys "$OUT/keys" --store S001 --device K1 --out "$OUT/kit"

say "The store: a kiosk is enrolled, takes the release, and answers with no network"
mkdir "$OUT/inbox"
run c2rec-kiosk --home "$OUT/kiosk" enrol "$OUT/kit" --repository "$OUT/repository" \
  --events "$OUT/inbox"
run c2rec-kiosk --home "$OUT/kiosk" sync
run c2rec-kiosk --home "$OUT/kiosk" status
run c2rec-kiosk --home "$OUT/kiosk" recommend C0000001 -k 5
run c2rec-kiosk --home "$OUT/kiosk" recommend C0000001 -k 5 --channel online
run c2rec-kiosk --home "$OUT/kiosk" recommend --basket P0000003,P0000014 -k 5
run c2rec-kiosk --home "$OUT/kiosk" recommend somebody-new -k 5

say "What is bought goes back to head office"
run c2rec-kiosk --home "$OUT/kiosk" record bought P0000003 --customer C0000001
run c2rec-kiosk --home "$OUT/kiosk" queue --send
run c2rec-export collect "$OUT/inbox" "$OUT/collected" --keys "$OUT/keys"
