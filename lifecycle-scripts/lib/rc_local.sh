# shellcheck shell=bash
# Our lines in /etc/rc.local, for machines that start without systemd. Sourced after base.sh.

RC_LOCAL=$R/etc/rc.local
RC_BEFORE=$VAR/rc.local-before
RC_LINE='/opt/hpcli/lifecycle/service boot >>/var/log/hpcli/boot.log 2>&1 &'

rc_local_holds() { has_block "$RC_LOCAL" "$RC_LINE" && [[ -x $RC_LOCAL ]]; }

# Before an `exit` at its end, which a Debian one has. What was there is kept, byte by byte.
rc_local_add() {
    if rc_local_holds; then return; fi
    [[ ! -e $RC_LOCAL || -e $RC_BEFORE ]] || cp -a "$RC_LOCAL" "$RC_BEFORE"
    { rc_lines || echo '#!/bin/sh'; } | awk -v block="$BEGIN_BLOCK"$'\n'"$RC_LINE"$'\n'"$END_BLOCK" '
        { line[NR] = $0 }
        END {
            last = NR
            while (last > 1 && line[last] ~ /^[[:space:]]*(#|$)/) last--
            at = line[last] ~ /^[[:space:]]*exit([[:space:]]|$)/ ? last - 1 : NR
            for (i = 1; i <= NR; i++) { print line[i]; if (i == at) print block }
        }' | replace_file "$RC_LOCAL" 755
}

# As it was before us; a line that the site has added since stays.
rc_local_remove() {
    [[ -e $RC_LOCAL ]] && grep -qxF "$BEGIN_BLOCK" "$RC_LOCAL" || return 0
    if [[ -e $RC_BEFORE && $(rc_lines) == "$(<"$RC_BEFORE")" ]]; then
        cp -a "$RC_BEFORE" "$RC_LOCAL.hpcli-new" && mv -T "$RC_LOCAL.hpcli-new" "$RC_LOCAL"
    elif [[ ! -e $RC_BEFORE && $(rc_lines) == '#!/bin/sh' ]]; then
        rm -f "$RC_LOCAL"
    else
        rc_lines | replace_file "$RC_LOCAL" "$(stat -c %a "$RC_LOCAL")"
    fi
}

# Its lines without ours; fails where there is none.
rc_lines() { [[ -s $RC_LOCAL ]] && with_block "$RC_LOCAL" ''; }
