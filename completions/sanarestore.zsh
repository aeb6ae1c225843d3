#compdef sanarestore

_sanarestore_completion() {
  eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _SANARESTORE_COMPLETE=complete_zsh sanarestore)
}

compdef _sanarestore_completion sanarestore
