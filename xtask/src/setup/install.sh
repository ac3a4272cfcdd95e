#!/bin/sh
# Installs Debian packages and keeps the services that they bring from starting. As root: install.sh PACKAGE...
set -eu

policy=/usr/sbin/policy-rc.d
saved=$policy.before-tracer-setup

restore_policy() {
    rm -f "$policy"
    if [ -e "$saved" ]; then mv "$saved" "$policy"; fi
}
trap restore_policy EXIT
trap 'exit 1' HUP INT TERM

# What an interrupted run saved is the machine's own policy: keep that.
if [ -e "$policy" ] && [ ! -e "$saved" ]; then mv "$policy" "$saved"; fi
printf '#!/bin/sh\n# tracer setup: no service starts while packages are installed.\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
apt-get -q -o DPkg::Lock::Timeout=300 update
apt-get -q -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends --no-upgrade "$@"

# Nor at the next boot, where this run brought the service.
if [ -d /run/systemd/system ]; then
    for package in "$@"; do
        case $package in
        haproxy) systemctl disable haproxy ;;
        php-fpm) systemctl disable $(systemctl list-unit-files --no-legend 'php*-fpm.service' | cut -d ' ' -f 1) ;;
        redis-server) systemctl disable redis-server ;;
        nginx*) systemctl disable nginx ;;
        esac
    done
fi
