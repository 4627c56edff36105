# packages: logrotate
# Logs that are appended to for a time, rotated by date, and sealed then.
. "$LIB"
rotate() { logrotate -f -s "$OUT/state" "$OUT/rotate"; }
printf '"%s/app.log" {\n dateext\n dateformat -%%Y%%m%%d-%%s\n compress\n rotate -1\n missingok\n create\n}\n"%s/cut.log" {\n dateext\n dateformat -%%Y%%m%%d-%%s\n copytruncate\n rotate -1\n}\n' "$PWD" "$PWD" >"$OUT/rotate"
chmod 644 "$OUT/rotate"
for round in 1 2; do
    echo "$round" >>app.log; echo "$round" >>cut.log
    quiet
    echo "$round more" >>app.log; echo "$round more" >>cut.log
    rotate
    is sealed app.log-*.gz cut.log-*
    sleep 1
done
[[ $(zcat app.log-*.gz | wc -l) == 4 && $(cat cut.log-* | wc -l) == 4 ]]
echo last >>app.log; chmod a-w app.log
is sealed app.log
