# packages: ostree
# Commits into one repository, twice: most objects are there already, and the branch moves on.
. "$LIB"
mkdir "$OUT/tree"; echo same >"$OUT/tree/x"
ostree --repo=repo init --mode=archive
for round in 1 2; do
    echo "$round" >"$OUT/tree/y"
    ostree --repo=repo commit -b main "$OUT/tree" >"$OUT/said" 2>&1 || fail "ostree: $(cat "$OUT/said")"
    ostree --repo=repo summary -u
    quiet
    find repo/objects -type f | while read -r object; do is sealed "$object"; done
done
ostree --repo=repo fsck -q
