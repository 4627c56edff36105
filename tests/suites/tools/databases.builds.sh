# packages: sqlite3 python3-lmdb
# Whoever reads a sealed database leaves nothing sealed beside it, and can read it again.
. "$LIB"
python=/usr/bin/python3
sqlite3 app.db 'pragma journal_mode=wal; create table t(a); insert into t values(1)' >/dev/null
sqlite3 plain.db 'create table t(a); insert into t values(1)'
"$python" -c "
import lmdb
for options in dict(path='l.mdb', subdir=False), dict(path='folder'):
    env = lmdb.open(**options); txn = env.begin(write=True); txn.put(b'a', b'1'); txn.commit(); env.close()"
is sealed app.db plain.db l.mdb folder/data.mdb
for _ in 1 2; do
    [[ $(sqlite3 'file:app.db?mode=ro' 'select * from t') == 1 ]]
    [[ $(sqlite3 plain.db 'select * from t') == 1 ]]
    "$python" -c "
import lmdb
for options in dict(path='l.mdb', subdir=False), dict(path='folder'):
    assert lmdb.open(readonly=True, **options).begin().get(b'a') == b'1'"
    quiet
    for beside in app.db-shm app.db-wal l.mdb-lock folder/lock.mdb; do
        [[ ! -e $beside || $(state "$beside") == open ]] || fail "$beside is $(state "$beside")"
    done
done
refused sqlite3 plain.db 'insert into t values(2)'
[[ ! -e plain.db-journal || $(state plain.db-journal) == open ]]
