# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_localai_parentwatch_global_optspecs
    string join \n h/help V/version
end

function __fish_localai_parentwatch_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_localai_parentwatch_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_localai_parentwatch_using_subcommand
    set -l cmd (__fish_localai_parentwatch_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c localai-parentwatch -n "__fish_localai_parentwatch_needs_command" -s h -l help -d 'Print help'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_needs_command" -s V -l version -d 'Print version'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_needs_command" -f -a "exec" -d 'Run a program and end it, with its helpers, when its supervisor dies'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_needs_command" -f -a "doctor" -d 'Show what this host supports, the workers, and the orphans'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_needs_command" -f -a "generate" -d 'Write the man pages and the shell completions'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_using_subcommand exec" -l grace -d 'Time between SIGTERM and SIGKILL, such as 500ms, 2s or 1m30s; 0 for none [default: 1s]' -r
complete -c localai-parentwatch -n "__fish_localai_parentwatch_using_subcommand exec" -l scope -d 'What to end: tree, group or process [default: tree]' -r
complete -c localai-parentwatch -n "__fish_localai_parentwatch_using_subcommand exec" -l parent -d 'Supervisor: PID or PID@STARTTIME@PIDNS, as in LOCALAI_BACKEND_PARENT_PID' -r
complete -c localai-parentwatch -n "__fish_localai_parentwatch_using_subcommand exec" -l cgroup -d 'Run CMD in its own control group, which no descendant can leave (cgroup v2, Linux 5.14)'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_using_subcommand exec" -l verbose -d 'Print to stderr which process guards which'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_using_subcommand exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_using_subcommand doctor" -l end -d 'End these orphans and their helpers: SIGTERM, then SIGKILL after 1 s' -r
complete -c localai-parentwatch -n "__fish_localai_parentwatch_using_subcommand doctor" -l json -d 'Print one JSON object'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_using_subcommand generate" -s h -l help -d 'Print help'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_using_subcommand help; and not __fish_seen_subcommand_from exec doctor generate help" -f -a "exec" -d 'Run a program and end it, with its helpers, when its supervisor dies'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_using_subcommand help; and not __fish_seen_subcommand_from exec doctor generate help" -f -a "doctor" -d 'Show what this host supports, the workers, and the orphans'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_using_subcommand help; and not __fish_seen_subcommand_from exec doctor generate help" -f -a "generate" -d 'Write the man pages and the shell completions'
complete -c localai-parentwatch -n "__fish_localai_parentwatch_using_subcommand help; and not __fish_seen_subcommand_from exec doctor generate help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
