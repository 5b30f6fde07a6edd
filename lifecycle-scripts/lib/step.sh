# shellcheck shell=bash
# The frame of a numbered step. A step defines `work`, and these if need be:
#   inputs   prints what its outcome depends on beside its own text (node.conf's values, tables)
#   holds    fails when the machine no longer is as `work` left it; cheap, asked on every run
# It is called with one of these words, and ends with `main "$@"`. Its last line on stderr is the cause of a failure.

HERE=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd -P)
export HERE
# shellcheck source=lifecycle-scripts/lib/base.sh
. "$HERE/lib/base.sh"

inputs() { :; }
holds() { :; }

main() {
    set -E
    trap 'printf "%s: ended with %d\n" "$BASH_COMMAND" "$?" >&2' ERR
    read_node_conf
    case ${1-work} in
        inputs | work) "$1" ;;
        # A question: its "no" is no fault.
        holds) trap - ERR && set +e && "$1" ;;
        *) die "found the word $1, expected inputs, holds or work" ;;
    esac
}
