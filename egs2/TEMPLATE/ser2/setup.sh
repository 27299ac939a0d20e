#!/usr/bin/env bash
# Makes a new recipe: egs2/TEMPLATE/ser2/setup.sh <corpus>  -> egs2/<corpus>/ser2
set -euo pipefail

corpus=${1:-}
if [ $# -ne 1 ] || ! [[ ${corpus} =~ ^[a-z][a-z0-9_]*$ ]]; then
    echo "Usage: $0 <corpus>: small letters, digits and _, found: '$*'" >&2
    exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
recipe=${corpus}/ser2
if [ -e "${recipe}" ]; then
    echo "Error: egs2/${recipe} exists" >&2
    exit 1
fi
variable=$(tr '[:lower:]' '[:upper:]' <<<"${corpus}")
mkdir -p "${recipe}/local"
for script in ser2.sh path.sh cmd.sh; do
    ln -s "../../TEMPLATE/ser2/${script}" "${recipe}/${script}"
done
ln -s ../../../TEMPLATE/ser2/data.sh "${recipe}/local/data.sh"
cat >"${recipe}/run.sh" <<RUN
#!/usr/bin/env bash
# ${corpus}: ${variable}=<corpus directory or CSV file> ./run.sh
set -euo pipefail

export called_from=\${PWD}
export recipe_command="${variable}=\\\$${variable} egs2/${recipe}/run.sh"
cd "\$(dirname "\${BASH_SOURCE[0]}")"

./ser2.sh --corpus ${corpus} --train_on train+valid "\$@"
RUN
chmod +x "${recipe}/run.sh"
echo "egs2/${recipe} is made. Set ${variable} in local/db.sh or in the environment, then:
    egs2/${recipe}/run.sh"
