# packages: attr
# Folders and names that commit by rename, however late: Hadoop and Spark, savers of checkpoints, createrepo_c, mktemp.
. "$LIB"
pairs=("tmp-checkpoint-500 checkpoint-500" "_temporary/0/task_1 part-dir" "step_1.orbax-checkpoint-tmp-17 step_1"
    ".repodata repodata" "stage.tmp final" "run.tmp-17 run" "partial/set set")
for pair in "${pairs[@]}"; do read -r staged _ <<<"$pair"; mkdir -p "$staged"; echo 1 >"$staged/shard-1"; done
made=$(mktemp -d -p .); echo 1 >"$made/x"
file=$(mktemp -p .); echo 1 >"$file"
for name in x.part x.crdownload x.tar_.gstmp .azDownload-1-x x.incomplete x.goutputstream; do echo 1 >"$name"; done
mv x.goutputstream .goutputstream-AB12CD
quiet
for pair in "${pairs[@]}"; do
    read -r staged final <<<"$pair"
    echo 2 >"$staged/shard-2"; echo more >>"$staged/shard-1"
    mv "$staged" "$final"
    is sealed "$final/shard-1" "$final/shard-2"
done
mv "$made" made; mv "$file" file; n=0
for name in x.part x.crdownload x.tar_.gstmp .azDownload-1-x x.incomplete .goutputstream-AB12CD; do
    echo 2 >>"$name"; n=$((n + 1)); mv "$name" "down-$n"
done
is sealed made/x file down-*
# Names that only look so are sealed where they stand.
mkdir -p core/lib partial-results bin locks
for name in Cargo.lock package-lock.json yarn.lock poetry.lock flake.lock Gemfile.lock core/index.js core/lib/core.js \
    core.min.js bin/core locks/Lock.class partial-results/x backup.20260131 x.tmpl app.0a1b2c3d download.js; do
    echo 1 >"$name"
    set -- "$@" "$name"
done
is sealed "$@"
