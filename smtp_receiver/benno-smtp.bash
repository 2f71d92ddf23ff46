# bash completion for benno-smtp(8)

_benno_smtp() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local options="-c --config -p --port -d --directory --check-config --log --version -h --help"
    COMPREPLY=()
    case $previous in
        -c | --config)
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            compopt -o filenames
            ;;
        -d | --directory)
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            compopt -o filenames
            ;;
        --log)
            mapfile -t COMPREPLY < <(compgen -W "auto journal stderr syslog" -- "$current")
            ;;
        -p | --port) ;;
        *)
            mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
            ;;
    esac
}
complete -F _benno_smtp benno-smtp
