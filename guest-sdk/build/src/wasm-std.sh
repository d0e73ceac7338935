#!/bin/sh
# Builds std for wasm32-unknown-unknown into rustc's sysroot, from Debian's copy of the same version's source: for machines
# whose rustup cannot fetch (`rustup target add wasm32-unknown-unknown` is the better way). About half a minute.
set -eu
target=wasm32-unknown-unknown
version=$(rustc --version | cut -d' ' -f2)
libraries=$(rustc --print sysroot)/lib/rustlib/$target/lib
work=$(mktemp -d "${TMPDIR:-/tmp}/wasm-std.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/build/src"

# A package list of our own, beside the machine's: a release that carries this version is seldom the installed one.
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format "\$(REPO_URI)" "Created-By: Packages" | grep -m1 "/debian/*$")}
for release in trixie-backports forky; do
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main"
done >"$work/sources.list"
apt() {
	command=$1
	shift
	"$command" -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o "Dir::Etc::sourcelist=$work/sources.list" \
		-o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null -o APT::Sandbox::User=root \
		-o Acquire::Languages=none "$@"
}
apt apt-get -qq update
package=$(apt apt-cache madison rust-src | awk -v version="$version+" 'index($3, version) == 1 { print $3; exit }')
[ -n "$package" ] || { echo "Debian has no rust-src $version" >&2; exit 1; }
(cd "$work" && apt apt-get -qq download "rust-src=$package")
dpkg-deb --fsys-tarfile "$work"/rust-src_*.deb | tar -x -C "$work" --wildcards './usr/src/rustc-*/library'

# cargo's own -Z build-std, for a crate that needs all of std; what matters is what it leaves in deps/.
printf '[package]\nname = "bare"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$work/build/Cargo.toml"
echo '#![no_std]' >"$work/build/src/lib.rs"
(cd "$work/build" && unset CARGO_TARGET_DIR && RUSTC_BOOTSTRAP=1 RUSTFLAGS='-C embed-bitcode=yes' \
	__CARGO_TESTS_ONLY_SRC_ROOT=$(echo "$work"/usr/src/rustc-*/library) \
	cargo build --quiet --release -Z build-std=std,panic_abort --target $target)
rm "$work/build/target/$target/release/deps/"libbare-*
mkdir -p "$libraries"
cp "$work/build/target/$target/release/deps/"lib*.rlib "$libraries/"
