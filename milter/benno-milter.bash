# bash completion for benno-milter(8)

_benno_milter() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local options="-p --socket -o --output -l --pidfile -g --gateway -m --socket-mode -i --foreground
        -t --label-names --allow --min-free --pending --check --check-postfix --postfix-config --log
        --version -h --help"
    # A colon is a word of its own for bash: what follows it is the path of `unix:PATH`.
    if [[ $current == : ]]; then
        previous=:
        current=
    fi
    COMPREPLY=()
    case $previous in
        -o | --output | --postfix-config)
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            compopt -o filenames
            ;;
        : | -l | --pidfile | --pending)
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            compopt -o filenames
            ;;
        -p | --socket)
            compopt -o nospace
            mapfile -t COMPREPLY < <(compgen -W "unix: local: inet: inet6:" -- "$current")
            ;;
        -m | --socket-mode)
            mapfile -t COMPREPLY < <(compgen -W "660 666" -- "$current")
            ;;
        --log)
            mapfile -t COMPREPLY < <(compgen -W "auto journal stderr syslog" -- "$current")
            ;;
        -g | --gateway | --allow | --min-free) ;;
        *)
            mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
            ;;
    esac
}
complete -F _benno_milter benno-milter
