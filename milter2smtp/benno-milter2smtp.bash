# bash completion for benno-milter2smtp(8)

_benno_milter2smtp() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local options="--spool --connections --timeout --keep-sent --dry-run --quiet --normalize --port --tls
        --tls-implicit --ca-file --cert-file --key-file --auth-file --log --version -h --help"
    COMPREPLY=()
    case $previous in
        --spool | --keep-sent)
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            compopt -o filenames
            ;;
        --log)
            mapfile -t COMPREPLY < <(compgen -W "auto journal stderr syslog" -- "$current")
            ;;
        --tls)
            mapfile -t COMPREPLY < <(compgen -W "off opportunistic required verify" -- "$current")
            ;;
        --ca-file | --cert-file | --key-file | --auth-file)
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            compopt -o filenames
            ;;
        --connections | --timeout | --port) ;;
        *)
            if [[ $current == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
            else
                mapfile -t COMPREPLY < <(compgen -A hostname -- "$current")
            fi
            ;;
    esac
}
complete -F _benno_milter2smtp benno-milter2smtp
