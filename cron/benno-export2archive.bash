# bash completion for benno-export2archive(8)

_benno_export2archive() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    # Those of benno-milter2smtp(8) that the settings file does not say already.
    local options="-c --connections --timeout --keep-sent --dry-run --quiet --normalize --log -h --help"
    COMPREPLY=()
    case $previous in
        -c)
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            compopt -o filenames
            ;;
        --keep-sent)
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            compopt -o filenames
            ;;
        --log)
            mapfile -t COMPREPLY < <(compgen -W "auto journal stderr syslog" -- "$current")
            ;;
        --connections | --timeout) ;;
        *)
            mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
            ;;
    esac
}
complete -F _benno_export2archive benno-export2archive
