#!/bin/sh
# Stands for ./x: a finished build, under the names that the pipeline asks for and signed with its keys. Other verbs are the tool's.
set -eu
case $1 in
    build) shift ;;
    cache) exec solana-talos "$@" --project /build/project ;;
    *) exec solana-talos "$@" ;;
esac
later=
while [ $# -gt 0 ]; do
    case $1 in
        --registry) registry=$2 ;;
        --tag) tag=$2 ;;
        --keys) keys=$2 ;;
        --out) out=$2 ;;
        --sign-later) later=$2 ;;
        --profile) [ "$2" = metal ] ;;
        --preset) [ "$2" = agave ] ;;
        *) echo "x: unexpected $1" >&2; exit 2 ;;
    esac
    shift 2
done
rm -rf "$out"
cp -R /build/finished "$out"
chmod -R u+w "$out"
sed -i "s|ghcr.io/our-org/\([a-z-]*\):custom-solana-[a-z0-9.]*|$registry/\1:$tag|g; s|ghcr.io/our-org/|$registry/|g" "$out"/*.oci/index.json
exec solana-talos sign "$out" --keys "$keys" --old-key /build/finished/image.pub.pem --any-name ${later:+--sign-later "$later"}
