#!/usr/bin/env bash
# Cocoon on a real Kubernetes: installed by its operator, an ordinary Deployment attested with one command, its proof checked on
# the owner's side, three edits in the cluster refused, and everything removed again. The cluster (etcd, API server, kubelet, containerd,
# CoreDNS), its registry and the owner's Trustee live in namespaces of their own and in temporary folders, and are gone afterwards; no
# containerd or Kubernetes of this machine is touched.
#
# `make demo-kubernetes` builds what this needs and calls it, as root. By hand:
#   COCOON=… COCOON_SHIM=… COCOON_GUEST_IMAGE=… CLUSTER=… scripts/demo-kubernetes.sh
# CLUSTER is the program `cluster` of the tests' examples, which needs COCOON_BIN and COCOON_SHIM_BIN as tests do.
set -euo pipefail

cocoon=$(realpath "${COCOON:?names the cocoon program; run this through: make demo-kubernetes}")
shim=$(realpath "${COCOON_SHIM:?names the shim; run this through: make demo-kubernetes}")
guest_image=$(realpath "${COCOON_GUEST_IMAGE:?names the folder of the guest image; run this through: make demo-kubernetes}")

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; else bold='' dim='' green='' red='' plain=''; fi
step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '   %s$ %s%s\n' "$dim" "$*" "$plain"; }
good() { printf '   %sok%s  %s\n' "$green" "$plain" "$*"; }
indent() { sed -u "s/^/   ${dim}|${plain} /"; }
die() {
    printf '\n%sdemo failed:%s %s\n' "$red" "$plain" "$*" >&2
    exit 1
}

# ---- outside: the cluster, which runs the rest within its network and ends with it
if [ "${1-}" != --inside ]; then
    [ "$(id -u)" = 0 ] || die "a cluster needs root"
    began=$SECONDS
    step "1/6  A cluster of one node, a registry, and the owner's Trustee outside of it"
    status=0
    COCOON_BIN=$cocoon COCOON_SHIM_BIN=$shim "${CLUSTER:?names the program that starts a cluster; run this through: make demo-kubernetes}" \
        --plain --owner --run "$(realpath "$0")" --inside || status=$?
    [ $status = 0 ] || exit $status
    printf '\n%sAll done%s in %s s. No process, mount, namespace or file is left behind.\n' "$bold$green" "$plain" $((SECONDS - began))
    exit
fi

# ---- inside
work=$CLUSTER_FOLDER
export COCOON_DATA_DIR="$CLUSTER_DATA" XDG_RUNTIME_DIR="$work"
trustee=(--trustee "$CLUSTER_TRUSTEE" --trustee-token "$CLUSTER_TRUSTEE_TOKEN" --trustee-cert "$CLUSTER_TRUSTEE_CERT")
quiet() {
    timeout --foreground -k 5 300 "$@" >"$work/out" 2>&1 </dev/null || {
        indent <"$work/out" >&2
        die "$1 ${2-} ${3-} failed"
    }
}
show() {
    note "$@"
    timeout --foreground -k 5 300 "$@" </dev/null 2>&1 | indent
}
# until SECONDS WORDS COMMAND…: waits until a command's output holds the words; the output is in $work/seen.
until_says() {
    local end=$((SECONDS + $1)) words=$2
    shift 2
    until "$@" >"$work/seen" 2>&1 </dev/null && grep -qF -- "$words" "$work/seen"; do
        [ $SECONDS -lt $end ] || { indent <"$work/seen" >&2 && return 1; }
        sleep 0.3
    done
}
good "Kubernetes $(kubectl version -o json | sed -n 's/.*"gitVersion": "\(.*\)",/\1/p' | tail -n 1), $("$CLUSTER_CONTAINERD" --version | awk '{print "containerd", $3}'); Trustee at $CLUSTER_TRUSTEE"

step "2/6  Install: one manifest, then one custom resource"
strip -o "$work/cocoon" "$cocoon"
quiet "$cocoon" operator image --program "$work/cocoon" --shim "$shim" --guest-image "$guest_image" --out "$work/layout" --tag 1
image=$CLUSTER_REGISTRY/cocoon:1
quiet skopeo --insecure-policy copy --dest-tls-verify=false "oci:$work/layout:1" "docker://$image"
began=$SECONDS
note "cocoon operator manifests --image $image | kubectl apply --server-side -f -"
"$cocoon" operator manifests --image "$image" >"$work/cocoon.yaml"
quiet kubectl apply --server-side -f "$work/cocoon.yaml"
cat >"$work/runtime.yaml" <<YAML
apiVersion: cocoon.dev/v1alpha1
kind: CocoonRuntime
metadata: {name: cocoon}
spec:
  platforms: [Sim]                     # this machine has no TEE: what a pod proves here is simulated
  guests: {acceleration: Emulated, defaultMemoryMiB: 256}
  containerd:
    config: /etc/containerd/config.toml
    program: $CLUSTER_CONTAINERD
    restart: {command: "$CLUSTER_RESTART", timeoutSeconds: 60}
  paths: {pods: $CLUSTER_PODS, data: $CLUSTER_DATA}
  update: {canary: {enabled: false}}
YAML
note "kubectl apply -f runtime.yaml"
indent <"$work/runtime.yaml"
quiet kubectl apply -f "$work/runtime.yaml"
quiet kubectl wait --for=condition=Ready cocoonruntime/cocoon --timeout=240s
good "usable $((SECONDS - began)) s after the first command"
show kubectl get cocoonruntimes,cocoonnodes,runtimeclasses

step "3/6  An ordinary manifest, attested with one command"
cat >"$work/shop.yaml" <<YAML
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {clusterIP: 10.96.0.80, selector: {app: shop}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: $CLUSTER_IMAGE
        command: [/bin/sh, -c]
        args: ["mkdir /www && busybox sha256sum </run/secrets/token >/www/index.html && exec busybox httpd -f -p 8080 -h /www"]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {exec: {command: [busybox, test, -s, /www/index.html]}, periodSeconds: 1}
YAML
indent <"$work/shop.yaml"
head -c 24 /dev/urandom | base64 -w 0 >"$work/token"
flags=(--plain-http "$CLUSTER_REGISTRY" --accept-simulated "${trustee[@]}")
note "kubectl cocoon apply -f shop.yaml --secret token=@token --trustee $CLUSTER_TRUSTEE"
"$cocoon" apply -f "$work/shop.yaml" --secret "token=@$work/token" "${flags[@]}" 2>&1 </dev/null | indent
until_says 120 "$(sha256sum <"$work/token" | cut -d' ' -f1)" timeout 10 busybox wget -q -O - http://10.96.0.80/ ||
    die "the Service does not answer with what only the secret's holder can say"
good "http://shop/ answers with the digest of the secret; the secret is in no object of the cluster and on no node"
if kubectl get all,secrets,configmaps -A -o json | grep -qF -f "$work/token"; then die "the secret is in the cluster"; fi

step "4/6  Proof, asked of the pod itself and checked here"
note "kubectl cocoon verify deploy/shop --accept-simulated"
"$cocoon" verify deploy/shop --accept-simulated "${trustee[@]}" 2>&1 </dev/null | indent

step "5/6  Somebody with the control plane edits; each is refused in the guest, and the shop goes on"
# refused TITLE FIELD PATCH: patches the Deployment; the new pod must be refused with that field's name.
refused() {
    local title=$1 field=$2 patch=$3 pod
    printf '\n   %s%s%s\n' "$bold" "$title" "$plain"
    kubectl get pods -l app=shop -o name | sort >"$work/before"
    quiet kubectl patch deployment shop --type=json -p "$patch"
    for _ in $(seq 400); do
        pod=$(kubectl get pods -l app=shop -o name | sort | comm -13 "$work/before" - | head -n 1)
        [ -z "$pod" ] || break
        sleep 0.2
    done
    [ -n "$pod" ] || die "no new pod came"
    until_says 180 PLAN-REQUEST-REFUSED kubectl describe "$pod" || die "it was not refused"
    note "kubectl cocoon explain $pod"
    "$cocoon" explain "$pod" >"$work/explained" 2>&1 </dev/null || true
    indent <"$work/explained"
    grep -qF -- "$field" "$work/explained" || die "the refusal does not name $field"
    good "refused, and the field is named"
    quiet kubectl rollout undo deployment/shop
    quiet kubectl rollout status deployment/shop --timeout=120s
}
at=/spec/template/spec/containers/0
refused "A variable is added" 'env LD_PRELOAD' '[{"op":"add","path":"'$at'/env","value":[{"name":"LD_PRELOAD","value":"/www/x.so"}]}]'
refused "The command is changed" 'args[2]' '[{"op":"replace","path":"'$at'/args/0","value":"cat /run/secrets/token"}]'
refused "A sidecar is injected" 'stranger' '[{"op":"add","path":"/spec/template/spec/containers/-","value":{"name":"stranger","image":"'"$CLUSTER_IMAGE"'","command":["cat","/run/secrets/token"]}}]'
until_says 60 "$(sha256sum <"$work/token" | cut -d' ' -f1)" timeout 10 busybox wget -q -O - http://10.96.0.80/ || die "the shop no longer answers"
good "the shop still answers"

step "6/6  Remove: the workload, then Cocoon"
quiet kubectl delete -f "$work/shop.yaml" --timeout=120s
note "kubectl delete cocoonruntime cocoon && cocoon operator uninstall"
quiet kubectl wait --for=delete pods -l app=shop --timeout=120s
quiet kubectl delete cocoonruntime cocoon --timeout=240s
quiet "$cocoon" operator uninstall --image "$image"
quiet kubectl wait --for=delete namespace/cocoon-system --timeout=120s
[ -z "$(kubectl get runtimeclasses -o name)" ] || die "RuntimeClasses are left"
good "no RuntimeClass, label, custom resource or program of Cocoon's is left"
