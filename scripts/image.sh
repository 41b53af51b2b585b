#!/usr/bin/env bash
# Builds the image of the Dockerfile with buildah, and tries it out with podman as deploy/compose and deploy/kubernetes run it:
# read-only, without privileges, health check, login, stop.
#
# Usage: scripts/image.sh [--local-bases] [--quick | --program FILE]
# With --local-bases the two images that the Dockerfile begins with are made on this machine (Debian by debootstrap, and the
# Rust toolchain that is installed here), for places without a registry. That shows that the Dockerfile works, not that the
# images of the registry do; they stay for the next time. With --quick the program is built without optimisation
# across crates; with --program it is not built at all, but this one is taken, which has to run on Debian 12. It needs root,
# buildah, podman with crun or runc, debootstrap for local bases, and some minutes, most of them for the build.
set -uo pipefail
cd "$(dirname "$0")/.."

image=localhost/tollgate-try
build_base=$(sed -n 's/^FROM \(\S*\) AS build$/\1/p' Dockerfile)
final_base=$(sed -n '/ AS build$/d; s/^FROM \(\S*\)$/\1/p' Dockerfile)
work=$(mktemp -d)
container=
podman=(podman)
# No more than this shell may have, where nobody may raise limits.
ulimits=(--ulimit "nofile=$(ulimit -Hn):$(ulimit -Hn)" --ulimit nproc=4096:4096)
passed=0
failed=0

finish() {
    [[ -n "$container" ]] && "${podman[@]}" rm --force --time 0 "$container" >/dev/null 2>&1
    rm -rf "$work"
}
trap finish EXIT

# check WHAT EXPECTED ACTUAL
check() {
    if [[ "$2" == "$3" ]]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n  expected: %s\n  got:      %s\n' "$1" "$2" "$3"
    fi
}

must() { "$@" || { echo "failed: $*" >&2; exit 1; }; }

# debian DIRECTORY PACKAGES: a small Debian of the release that the bases have.
debian() {
    must debootstrap --variant=minbase --include="$2" bookworm "$1" >"$work/debootstrap" 2>&1
    rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*
}

# layer NAME DIRECTORY CONFIG…: an image of a directory.
layer() {
    local name=$1 directory=$2 base
    shift 2
    base=$(must buildah from scratch)
    must buildah add --quiet "$base" "$directory" / >/dev/null
    must buildah config "$@" "$base"
    must buildah commit --quiet "$base" "$name" >/dev/null
    buildah rm "$base" >/dev/null
}

local_bases() {
    local toolchain
    buildah inspect --type image "$build_base" >/dev/null 2>&1 && buildah inspect --type image "$final_base" >/dev/null 2>&1 && return
    toolchain=$(rustc --print sysroot)
    debian "$work/build" build-essential,ca-certificates,cmake,pkg-config
    mkdir -p "$work/build/usr/local/rust"
    must cp -a "$toolchain/." "$work/build/usr/local/rust"
    # Whoever this machine trusts, such as a proxy between it and the registry of crates.
    [[ -f /etc/ssl/certs/ca-certificates.crt ]] && cp /etc/ssl/certs/ca-certificates.crt "$work/build/etc/ssl/certs/"
    layer "$build_base" "$work/build" --env PATH=/usr/local/rust/bin:/usr/bin:/bin
    rm -rf "$work/build"
    debian "$work/final" ca-certificates,libgcc-s1
    echo 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' >>"$work/final/etc/passwd"
    echo 'nonroot:x:65532:' >>"$work/final/etc/group"
    layer "$final_base" "$work/final" --user nonroot
    rm -rf "$work/final"
}

pull=missing
arguments=()
cp Dockerfile "$work/Dockerfile"
while (($# > 0)); do
    case $1 in
        --local-bases) pull=never ;;
        --quick) arguments+=(--build-arg CARGO_PROFILE_RELEASE_LTO=off --build-arg CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16) ;;
        --program)
            shift
            mkdir "$work/program"
            must cp "${1:?a file}" "$work/program/tollgate"
            sed -i 's|cargo build --release --locked|install -D /program/tollgate target/release/tollgate|' "$work/Dockerfile"
            arguments+=(--volume "$work/program:/program:ro")
            ;;
        *) echo "unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
[[ $pull == never ]] && local_bases
# Older versions of crun run nothing where both kinds of control groups are mounted.
probe=$(must buildah from --pull="$pull" "$build_base")
if ! buildah run "$probe" true >"$work/said" 2>&1; then
    arguments+=(--runtime runc)
    podman=(podman --runtime runc)
fi
buildah rm "$probe" >/dev/null
echo "building $image from $build_base and $final_base"
# The format in which a health check can be written down.
buildah build --file "$work/Dockerfile" --format docker --pull="$pull" --network host "${ulimits[@]}" "${arguments[@]}" --tag "$image" . >"$work/build-output" 2>&1 ||
    { tail -40 "$work/build-output"; exit 1; }

sed 's|http://api:80|http://127.0.0.1:9|' deploy/compose/gateway.toml >"$work/gateway.toml"
cat >>"$work/gateway.toml" <<'TOML'

[[routes]]
name = "open"
path = "/open"
auth = "public"
upstream = "api"
TOML
chmod 644 "$work/gateway.toml"
chmod 755 "$work"
mkdir "$work/data"
chown 65532:65532 "$work/data"
run=("${ulimits[@]}" --read-only --cap-drop all --security-opt no-new-privileges --volume "$work/gateway.toml:/etc/tollgate/gateway.toml:ro" --volume "$work/data:/data")
check "the version" "tollgate $(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)" "$("${podman[@]}" run --rm --network host "${run[@]}" "$image" --version 2>"$work/said")"
container=$("${podman[@]}" run --detach --network host "${run[@]}" "$image" 2>"$work/said")
[[ -n "$container" ]] || cat "$work/said"
[[ -n "$container" ]] || { echo "it does not start"; exit 1; }

healthy() { "${podman[@]}" healthcheck run "$container" >/dev/null 2>&1; }
for ((attempt = 0; attempt < 100; attempt++)); do
    healthy && break
    sleep 0.1
done
port=8080
healthy
check "the health check of the image" 0 $?
check "user" 65532 "$("${podman[@]}" exec "$container" tollgate --version >/dev/null && "${podman[@]}" inspect --format '{{.State.Pid}}' "$container" | xargs -I{} stat -c %u /proc/{})"
check "no shell" 0 "$("${podman[@]}" exec "$container" sh -c true >/dev/null 2>&1; [[ $? != 0 || "$pull" == never ]]; echo $?)"
check "a user" 0 "$(echo 'a long password' | "${podman[@]}" exec --interactive "$container" tollgate user add alice --group staff >"$work/said" 2>&1; echo $?)"
answer=$(curl --silent "http://127.0.0.1:$port/api/token/" --data username=alice --data-urlencode 'password=a long password')
check "a login" 1 "$(grep -c '"access"' <<<"$answer")"
check "without a token" 401 "$(curl --silent --output /dev/null --write-out '%{http_code}' "http://127.0.0.1:$port/x")"
check "an upstream that is away" 502 "$(curl --silent --output /dev/null --write-out '%{http_code}' "http://127.0.0.1:$port/open")"
check "mode of the store" 700 "$(stat -c %a "$work/data/store")"
began=$SECONDS
"${podman[@]}" stop --time 30 "$container" >/dev/null 2>&1
check "stops by itself" 1 $((SECONDS - began < 15))
check "exit code" 0 "$("${podman[@]}" inspect --format '{{.State.ExitCode}}' "$container")"
"${podman[@]}" start "$container" >/dev/null 2>&1
for ((attempt = 0; attempt < 100; attempt++)); do
    healthy && break
    sleep 0.1
done
answer=$(curl --silent "http://127.0.0.1:$port/api/token/" --data username=alice --data-urlencode 'password=a long password')
check "users are there after a restart" 1 "$(grep -c '"access"' <<<"$answer")"
echo "size: $("${podman[@]}" image inspect --format '{{.Size}}' "$image" | numfmt --to=iec)"
echo "$passed passed, $failed failed"
((failed == 0))
