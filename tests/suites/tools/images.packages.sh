# packages: umoci skopeo
# Images into one OCI layout, twice.
. "$LIB"
echo hi >"$OUT/x"
umoci init --layout "$OUT/from"; umoci new --image "$OUT/from:base"; umoci insert --image "$OUT/from:base" "$OUT/x" /x
skopeo copy -q --insecure-policy "oci:$OUT/from:base" oci:layout:first
quiet
is sealed layout/blobs/sha256/*
echo again >"$OUT/x"
umoci insert --image layout:first --tag second "$OUT/x" /y
umoci tag --image layout:first third
umoci insert --image "$OUT/from:base" "$OUT/x" /y
skopeo copy -q --insecure-policy "oci:$OUT/from:base" oci:layout:fourth
quiet
is sealed layout/blobs/sha256/*
umoci insert --image layout:first --tag fifth "$OUT/x" /y # most of its blobs are there
for tag in first second third fourth fifth; do
    skopeo inspect --config "oci:layout:$tag" >/dev/null || fail "$tag cannot be read"
done
