# packages: restic git
# Stores that name files by their content, and put what they have again.
. "$LIB"
export RESTIC_PASSWORD=x RESTIC_CACHE_DIR=$OUT/cache
mkdir "$OUT/data"; head -c 300000 /dev/urandom >"$OUT/data/x"
restic init -q -r repo
for round in 1 2; do
    echo "$round" >"$OUT/data/round"
    restic backup -q -r repo "$OUT/data"
    (( round == 2 )) || quiet
    [[ -z $(ls repo/locks) ]] || fail 'a lock is left'
done
restic check -q -r repo --read-data
find repo/data -type f | while read -r file; do is sealed "$file"; done
# What is there already is put once more, by rename and by link and unlink.
object=$(find repo/data -type f | head -n 1)
before=$(stat -c '%i %Y %X %a' "$object"; cat "$object.seal")
cp "$object" "$object-tmp-17"
mv -f "$object-tmp-17" "$object"
[[ $(stat -c '%i %Y %X %a' "$object"; cat "$object.seal") == "$before" ]] || fail "$object changed"
cp "$object" "$object-tmp-18"
refused ln "$object-tmp-18" "$object"
rm "$object-tmp-18"
git init -q --bare bare.git
