# Runs a program of the project's environment, as dvc.yaml asks: `sh workflow/environment.sh snakemake ...`. The environment of the
# `dvc` that called goes first, whether or not it is activated; then what is on the PATH; then .venv, where `make` installs.
process=$$
while [ "${process:-1}" -gt 1 ]; do
    called=$(ps -o args= -p "$process" 2>/dev/null)
    case "$called " in
    *dvc\ *)
        for word in $called; do
            case $word in
            */dvc | */python*) [ -x "${word%/*}/$1" ] && PATH="${word%/*}:$PATH" && break 2 ;;
            esac
        done
        ;;
    esac
    process=$(ps -o ppid= -p "$process" 2>/dev/null | tr -d ' ')
done
PATH="$PATH:$PWD/.venv/bin"
if ! command -v "$1" >/dev/null; then
    echo "error: there is no \`$1\` beside this dvc, on the PATH or in .venv/bin; activate the environment in which the project is" \
        "installed, or run \`make install\`" >&2
    exit 1
fi
exec "$@"
