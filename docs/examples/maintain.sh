#!/bin/sh
# Takes this host out of service, runs what is to be done on it, and takes it back. As root:
#
#   maintain.sh apt-get -y upgrade
#
# The tasks move to other hosts first; if they do not in time, the host stays in service and nothing is run. Draining needs
# an operator's credentials, or the right of the host's own role. Whatever is interrupted: run the same line again.
set -eu

anywhere status || { echo "maintain: the host is not healthy: anywhere doctor says why" >&2; exit 1; }
anywhere drain --drain-timeout "${DRAIN_TIMEOUT:-15m}" # ends with 12, and the host ACTIVE, when tasks stay

"$@" || failed=$?

# In service again also when the work has failed, unless the host is sick of it.
anywhere status || { echo "maintain: the host is not healthy now, and stays drained: anywhere doctor says why" >&2; exit 1; }
anywhere activate
exit "${failed:-0}"
