# packages: openssh-client
# A release is put together in staging/ for any time, and sealed once it is renamed into releases/.
. "$LIB"
cd "$MNT"
mkdir -p staging/1.4 releases
echo 1 >staging/1.4/app; echo 1 >staging/1.4/Cargo.lock
quiet
echo 2 >>staging/1.4/app
mv staging/1.4 releases/1.4
is sealed releases/1.4/app releases/1.4/Cargo.lock
for name in app Cargo.lock; do
    [[ $(getfattr --only-values -n user.seal.mode "releases/1.4/$name") == compliance ]] || fail "$name is not under compliance"
    ssh-keygen -Y verify -f .seal/allowed_signers -I suites.example -n release -s "releases/1.4/$name.seal" <"releases/1.4/$name" >/dev/null
done
refused rm -r releases/1.4
