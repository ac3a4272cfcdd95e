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

section check tracer check
section serve serve
section watch watch
