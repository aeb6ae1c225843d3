_sanarestore_completion() {
    local line=${COMP_LINE:0:COMP_POINT} IFS=$'\n' answer last
    last=${line##*[[:space:]]}
    COMPREPLY=()
    for answer in $(env _SANARESTORE_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \
                    _TYPER_COMPLETE_ARGS="$line" "$1"); do
        answer=${answer%%$'\t'*}
        if [[ $last == *:* && $COMP_WORDBREAKS == *:* ]]; then answer=${answer#"${last%:*}:"}; fi
        if [[ $last == *=* && $COMP_WORDBREAKS == *=* ]]; then answer=${answer#"${last%=*}="}; fi
        COMPREPLY+=("$answer")
    done
}

complete -o default -F _sanarestore_completion sanarestore
