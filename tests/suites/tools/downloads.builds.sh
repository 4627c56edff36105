# packages: aria2 curl wget
# Downloads, also one that is broken off and goes on later.
. "$LIB"
python=/usr/bin/python3
mkdir "$OUT/www"; head -c 3000000 /dev/urandom >"$OUT/www/file"; head -c 40000000 /dev/zero >"$OUT/www/large"
"$python" -u -m http.server -b 127.0.0.1 -d "$OUT/www" 0 >"$OUT/port" 2>/dev/null &
server=$!
trap 'kill "$server"' EXIT
for _ in $(seq 100); do grep -q port "$OUT/port" && break; sleep 0.1; done
url=http://127.0.0.1:$(grep -o 'port [0-9]*' "$OUT/port" | cut -d' ' -f2)
curl -sSf -o curled "$url/file"
wget -q -O wgot "$url/file"
aria2c -q --no-conf --file-allocation=none -o aria "$url/file"
is sealed curled wgot aria
for name in curled wgot aria; do cmp "$name" "$OUT/www/file"; done
# Killed, and gone on with after the quiet time.
aria2c -q --no-conf --file-allocation=none --max-download-limit=2M -o large "$url/large" & sleep 2
kill -9 $!; wait $! || true
quiet
[[ $(state large) != sealed ]] || fail 'a half file is sealed'
curl -sSf -C - -o large "$url/large" || { rm large; curl -sSf -o large "$url/large"; }
rm -f large.aria2
is sealed large
cmp large "$OUT/www/large"
