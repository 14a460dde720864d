# shellcheck shell=bash
# Links between the files of the repository: that the file is there, and has the heading.

# Prints the anchors of a Markdown file, as GitHub makes them of its headings.
anchors() {
  awk '/^```/ { code = !code } !code && /^#+ / { sub(/^#+ +/, ""); print }' "$1" | tr -d '`' | tr '[:upper:]' '[:lower:]' \
    | sed -E 's/\[([^]]*)\]\([^)]*\)/\1/g; s/[^[:alnum:] _-]//g; s/ /-/g'
}

check_links() {
  local file link target anchor broken=0
  while IFS=: read -r file link; do
    link=${link#*](}
    link=${link%)}
    target=${link%%#*}
    anchor=${link#"$target"}
    target=${target:+$(dirname "$file")/$target}
    target=${target:-$file}
    if [[ ! -e $target ]]; then
      echo "$file: $link leads nowhere"
      broken=$(( broken + 1 ))
    elif [[ $target == *.md && -n $anchor ]] && ! anchors "$target" | grep -qxF -e "${anchor#\#}"; then
      echo "$file: $link: there is no such heading"
      broken=$(( broken + 1 ))
    fi
  done < <(git ls-files '*.md' | xargs grep -oE '\]\([^)#: ]*(#[^) ]*)?\)' /dev/null)
  echo "links: $broken broken"
  (( broken == 0 ))
}
