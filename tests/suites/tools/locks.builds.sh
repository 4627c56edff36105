# packages: lockfile-progs liblockfile-bin python3-filelock python3-flufl.lock util-linux
# Locks that are left lie are taken again after any time; tools that link() lock or fail clearly, and nothing is sealed.
. "$LIB"
python=/usr/bin/python3
for round in 1 2; do
    "$python" -c "
from filelock import FileLock, SoftFileLock
with FileLock('.lock', timeout=5): pass
with FileLock('data.lock', timeout=5): pass
with SoftFileLock('soft.lock', timeout=5): pass"
    flock -w 5 lock true
    flock -w 5 cargo.lck true
    timeout 30 lockfile-create -r 1 f 2>"$OUT/said" || grep -q . "$OUT/said" || fail 'lockfile-create failed without a word'
    timeout 30 dotlockfile -l -r 1 dot.lock || true
    timeout 30 "$python" -c "
import datetime
from flufl.lock import Lock
lock = Lock('flufl.lck')
try: lock.lock(timeout=datetime.timedelta(seconds=3)); lock.unlock()
except Exception as error: print(type(error).__name__)" >"$OUT/said" || fail "flufl.lock: $(cat "$OUT/said")"
    (( round == 2 )) || quiet
    for left in .[!.]* *; do [[ ! -e $left || $(state "$left") == open ]] || fail "$left is $(state "$left")"; done
done
rm -f -- .lock* *.lock lock *.lck* .lk*
