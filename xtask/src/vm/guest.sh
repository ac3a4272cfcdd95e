# The test in a virtual machine, sourced by init.sh: what this kernel lets tracer do, and requests seen with it.

PORT=8080

# A web server on all addresses, a page that fits a packet and one that does not.
serve() {
    mkdir /www
    echo hello >/www/small
    head -c 1000000 /dev/zero >/www/large
    httpd -p "$PORT" -h /www
}

# Requests until tracer has seen enough of them. It cannot wait for ever: its own -d ends it.
watch() {
    tracer watch --port "$PORT" -n 6 -d 40s --json >/records &
    tracer=$!
    while kill -0 "$tracer" 2>/dev/null; do
        for url in "127.0.0.1:$PORT/small" "[::1]:$PORT/small" "127.0.0.1:$PORT/large"; do
            wget -q -O /dev/null "http://$url" || echo "request to $url failed" >&2
        done
        sleep 0.1
    done
    wait "$tracer"
    status=$?
    cat /records
    return "$status"
}

# After SIGKILL nothing of tracer is left, and the traffic goes on. The guard that removes clsact takes a moment.
killed() {
    tracer watch --port "$PORT" 2>/killed >/dev/null &
    tracer=$!
    until grep -q watching /killed; do sleep 0.2; done
    kill -9 "$tracer"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        left=$(tc qdisc show dev lo | grep clsact; pidof tracer)
        [ -n "$left" ] || break
        sleep 0.5
    done
    echo "$left"
    wget -q -O /dev/null "http://127.0.0.1:$PORT/small" && [ -z "$left" ]
}

# The end-to-end tests of rejections that are for this kernel.
rejections() {
    echo "$SUITES" | while read -r suite tests; do
        [ -n "$suite" ] || continue
        # shellcheck disable=SC2086 # one argument a test
        TRACER_BIN=/bin/tracer "/lab/$suite" --exact --test-threads=1 $tests </dev/null || exit
    done
}

section check tracer check --all --json
section serve serve
section watch watch
section killed killed
[ -z "$SUITES" ] || section rejections rejections
