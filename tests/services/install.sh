#!/bin/sh
# Installs the programs that the tests of this folder need, those that are missing, from Debian's packages. It starts none
# of them: the tests start what they need, with files of their own, and stop it.
set -eu

missing=''
need() { # PROGRAM PACKAGE...
    PATH=$PATH:/usr/sbin:/sbin command -v "$1" > /dev/null && return
    shift
    missing="$missing $*"
}
need slurmctld slurmctld
need slurmd slurmd
need sbatch slurm-client
need munged munge
need prometheus prometheus
need unshare util-linux
command -v google-chrome > /dev/null || need chromium chromium

refuse() { echo "make services: $1" >&2; exit 1; }

[ "$(id -u)" = 0 ] || refuse "found user $(id -un); expected root: Slurm's daemons and mount namespaces need it"
[ -n "$missing" ] || exit 0
command -v apt-get > /dev/null || refuse "found no apt-get; install these first:$missing"

# Where there is an init system, it must not start them.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q || refuse "apt-get can't reach its packages; install these first:$missing"
# shellcheck disable=SC2086 - several words
apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing || refuse "apt-get can't install$missing"
