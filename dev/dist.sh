#!/usr/bin/env bash
# Packs dist/llm-portal-<version>.tar.gz: the product with built assets and compiled translations, without what only
# developers need. For hosts without Node or a build chain. The same commit gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml | head -1)
commit=$(git rev-parse --short HEAD)
[ -z "$(git status --porcelain --untracked-files=no)" ] || commit=$commit-changed
name=llm-portal-$version-$commit
mkdir -p dist
{
  git ls-files -z -- . ':!tests' ':!bench' ':!sandbox' ':!dev' ':!.ci' ':!Makefile' ':!requirements-dev.txt' ':!requirements-node.txt' \
    ':!package.json' ':!package-lock.json' ':!.npmrc' ':!babel.cfg' ':!portal/static/src' ':!.gitignore'
  find portal/static/dist portal/translations -type f \( -path 'portal/static/dist/*' -o -name '*.mo' \) -print0
} | LC_ALL=C sort -zu | tar --create --no-recursion --transform "s,^,$name/," --owner=0 --group=0 --numeric-owner \
    --mode='u=rwX,go=rX' --mtime="@$(git log -1 --format=%ct)" --null --files-from=- | gzip -n >"dist/.$name"
mv "dist/.$name" "dist/$name.tar.gz"
echo "dist/$name.tar.gz ($(du -h "dist/$name.tar.gz" | cut -f1), $(tar -tzf "dist/$name.tar.gz" | wc -l) files)"
