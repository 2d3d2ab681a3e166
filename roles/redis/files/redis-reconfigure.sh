# shellcheck shell=bash disable=SC2154 # a task sets the names in lower case before it
# What a running Redis is told, as the admin: what it reads by itself only at its start. No connection is closed for it.
# Uses $admin, $accounts, $certificate, $key, $port, and $options of redis-cli. Passwords are never in a list of processes.

ask() {
    # shellcheck disable=SC2086 # options are words
    redis-cli -p "$port" $options --no-auth-warning --user "$admin" -e "$@"
}

# Finds the password among those on stdin, a line each: while it changes, more than one may be good.
log_in() {
    while read -r REDISCLI_AUTH; do
        export REDISCLI_AUTH
        [ "$(ask acl whoami < /dev/null 2>&1)" != "$admin" ] || return 0
    done
    echo "Redis takes none of the passwords of $admin" >&2
    return 1
}

# Not by ACL LOAD: before Redis 8 it hangs up on all clients. The words after SETUSER take effect together or not at all.
load_accounts() {
    local before name
    before=$(ask acl list) || return
    ! sed -n 's/^user \([^ ]*\) /acl setuser \1 reset /p' "$accounts" | ask 2>&1 | grep -v '^OK$' >&2 || return
    for name in $(ask acl users); do
        grep -q "^user $name " "$accounts" || ask acl deluser "$name" > /dev/null || return
    done
    [ "$before" != "$(ask acl list)" ] || return 0
    touch "$accounts" # the moment counts: see end_strays
    echo changed
}

# It is asked what it shows: a run that was cut off may have left it with an older one.
show_certificate() {
    local shown
    shown=$(openssl s_client -connect "127.0.0.1:$port" < /dev/null 2>&1)
    case $shown in *"$(openssl x509 -in "$certificate")"*) return ;; esac
    ask config set tls-cert-file "$certificate" tls-key-file "$key" > /dev/null && echo changed
}

# Hangs up on clients that logged in before the accounts changed: maybe with a password that is worth nothing by now.
end_strays() {
    local id age=$(($(date +%s) - $(stat --format %Y "$accounts")))
    ask client list | awk -v age="$age" '
        {for (i = 1; i <= NF; i++) {split($i, word, "="); told[word[1]] = word[2]}}
        told["user"] != "default" && told["age"] >= age {print told["id"]}
    ' | while read -r id; do
        ask client kill id "$id" < /dev/null > /dev/null && echo changed
    done
}
