# packages: reprepro createrepo-c rpm aptly dpkg-dev
# Second uploads into repositories whose first one is sealed.
. "$LIB"
mkdir -p "$OUT/d/DEBIAN" rep/conf yum
for r in 1 2; do
    printf 'Package: hello\nSection: misc\nPriority: optional\nVersion: %s\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: x\n' "$r" >"$OUT/d/DEBIAN/control"
    dpkg-deb -b "$OUT/d" "$OUT/hello_${r}_all.deb" >/dev/null
done
printf 'Codename: s\nComponents: main\nArchitectures: amd64\n' >rep/conf/distributions
echo keepunreferencedfiles >rep/conf/options
printf '{"rootDir": "%s/aptly", "gpgDisableSign": true, "FileSystemPublishEndpoints": {"here": {"rootDir": "%s/public", "linkMethod": "copy"}}}' "$OUT" "$PWD" >"$OUT/aptly.conf"
apt=(aptly "-config=$OUT/aptly.conf")
"${apt[@]}" repo create -distribution=s r >/dev/null
for r in 1 2; do
    reprepro -b rep includedeb s "$OUT/hello_${r}_all.deb" >"$OUT/said" 2>&1 || fail "reprepro $r: $(cat "$OUT/said")"
    createrepo_c -q yum >"$OUT/said" 2>&1 || fail "createrepo_c $r: $(cat "$OUT/said")"
    "${apt[@]}" repo add r "$OUT/hello_${r}_all.deb" >/dev/null
    if (( r == 1 )); then
        "${apt[@]}" publish repo -architectures=amd64 -skip-signing r filesystem:here: >"$OUT/said" 2>&1 || fail "aptly: $(cat "$OUT/said")"
    else
        "${apt[@]}" publish update -skip-signing s filesystem:here: >"$OUT/said" 2>&1 || fail "aptly: $(cat "$OUT/said")"
    fi
    echo "$r  x" >>SHA256SUMS
    is sealed "rep/pool/main/h/hello/hello_${r}_all.deb" "public/pool/main/h/hello/hello_${r}_all.deb"
    quiet
done
grep -q 'Version: 2' rep/dists/s/main/binary-amd64/Packages public/dists/s/main/binary-amd64/Packages
[[ $(wc -l <SHA256SUMS) == 2 ]]
refused rm rep/pool/main/h/hello/hello_1_all.deb
