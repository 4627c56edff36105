# packages: python3
# Savers write into a temporary folder, rename it, and write a pointer anew.
. "$LIB"
for step in 1 2; do
    mkdir "tmp-checkpoint-$step"; head -c 100000 /dev/urandom >"tmp-checkpoint-$step/model.safetensors"
    quiet
    echo '{}' >"tmp-checkpoint-$step/trainer_state.json"
    mv "tmp-checkpoint-$step" "checkpoint-$step"
    echo "checkpoint-$step" >latest
    mkdir -p models--a--b/refs models--a--b/blobs
    echo "$step" >models--a--b/refs/main
    echo "$step" >"models--a--b/blobs/$step.incomplete"; mv "models--a--b/blobs/$step.incomplete" "models--a--b/blobs/$step"
    is sealed "checkpoint-$step/model.safetensors" "checkpoint-$step/trainer_state.json" "models--a--b/blobs/$step"
done
[[ $(state latest) == open && $(cat latest) == checkpoint-2 ]]
