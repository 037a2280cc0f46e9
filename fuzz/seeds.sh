#!/usr/bin/env bash
# Writes a small seed corpus for the fuzz targets of Trustee and of evidence: one good input of each kind, from which the
# fuzzer goes on. Recorded evidence is taken from COCOON_VECTORS (../shared/vectors) where that is at hand.
#
# Idempotent. Into fuzz/corpus, or the folder that is named.
#   fuzz/seeds.sh [FOLDER]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
corpus=${1:-$here/corpus}

# seed TARGET NAME FORMAT [ARGUMENT…]: as printf.
seed() {
    local target=$1 name=$2
    shift 2
    mkdir -p "$corpus/$target"
    # shellcheck disable=SC2059 # The formats are those below.
    printf "$@" >"$corpus/$target/seed-$name"
}

digest48=$(printf 'ab%.0s' {1..48})
ec='"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"'
key="{$ec,\"alg\":\"ECDH-ES+A256KW\"}"
evidence='{"svn":"1","report_data":"REPORT"}'
# With JSON's escapes.
initdata='algorithm = \"sha384\"\nversion = \"0.1.0\"\n[data]\n\"aa.toml\" = \"\"\n'
device='{\"sample\":{\"svn\":\"1\",\"report_data\":\"DEVICE\"}}'
runtime="\"runtime-data\":{\"nonce\":\"NONCE\",\"tee-pubkey\":$key}"
new="{\"init-data\":null,$runtime,\"tee-evidence\":{\"primary_evidence\":$evidence,\"additional_evidence\":\"\"}}"
devices="{\"init-data\":{\"format\":\"toml\",\"body\":\"$initdata\"},$runtime,\"tee-evidence\":{\"primary_evidence\":$evidence,\"additional_evidence\":\"$device\"}}"
old="{\"tee-pubkey\":$key,\"tee-evidence\":$evidence}"
as_text='{\"svn\":\"1\",\"report_data\":\"REPORT\"}'
text="{\"tee-pubkey\":$key,\"tee-evidence\":\"$as_text\"}"

seed attest_body new '%s' "$new"
seed attest_body devices '%s' "$devices"
seed attest_body old '%s' "$old"
seed attest_body rsa '{"tee-pubkey":{"kty":"RSA","alg":"RSA-OAEP-256","n":"%s","e":"AQAB"},"tee-evidence":{}}' \
    "$(printf '3%.0s' {1..342})"
for version in 0.1.1 0.2.0 0.4.0; do
    auth="{\"version\":\"$version\",\"tee\":\"sample\",\"extra-params\":\"\"}"
    body=$old
    [ $version = 0.4.0 ] && body=$new
    seed handshake $version '%s\n%s' "$auth" "$body"
    seed handshake $version-devices '%s\n%s' "$auth" "$devices"
    seed handshake $version-text '%s\n%s' "$auth" "$text"
done
for tee in snp tdx azsnpvtpm cca csv se sgx; do
    seed handshake $tee '{"version":"0.4.0","tee":"%s","extra-params":{}}\n%s' $tee "$new"
done

seed kbs_request auth 'POST /kbs/v0/auth\ncontent-type: application/json\n\n{"version":"0.4.0","tee":"sample","extra-params":""}'
seed kbs_request attest 'POST /kbs/v0/attest\ncookie: kbs-session-id=COOKIE\n\n%s' "$new"
seed kbs_request cookie 'GET /kbs/v0/resource/default/key/1?a=b\ncookie: x=1; kbs-session-id=COOKIE; y\n\n'
seed kbs_request forged 'GET /kbs/v0/resource/default/key/1\ncookie: kbs-session-id=t.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n\n'
seed kbs_request bearer 'GET /kbs/v0/resource/default/key/1\nauthorization: Bearer e30.e30.AA\n\n'
seed kbs_request tenant 'GET /t/a/kbs/v0/resource/default/key/1\n\n'
seed kbs_request plugin 'POST /kbs/v0/provisioner/provision\n\n{"vm_name":"a"}'
seed kbs_request disk 'GET /kbs/v0/provisioner/default/feab5599-6854-52bc-95f0-0241c03e620a/root\n\n'
seed kbs_request report 'POST /cocoon/v0/report\nauthorization: Bearer a.b.c\n\n{"stage":"plan","code":"PLAN-INVALID","reason":"x"}'
seed kbs_request admin 'PUT /cocoon/v0/rules/a\nauthorization: Bearer x\n\n{}'
seed kbs_request discovery 'GET /.well-known/openid-configuration\n\n'
seed kbs_request metrics 'GET /metrics\n\n'

rule='{"id":"r","workload":"any","path":"default/key/*"}'
registration='{"name":"web","secrets":{"default/secret/own":"czNjcmV0"},"allow":["default/key/1"],"min_status":"affirming","accept_simulated":true}'
policy='package policy\nimport rego.v1\ndefault allow := false\nallow if input.a == 1\n'
appraisal='package policy\nimport rego.v1\ntrust_claims := {"executables": 3, "hardware": 2, "configuration": 2}\n'
sample=$(printf '{"a":["ab",1]}' | base64 -w0)
message="{\"version\":\"0.1.0\",\"type\":\"sample\",\"payload\":\"$sample\"}"
n=0
# operation PATH BODY: one seed, with a reading of all lists after it.
operation() {
    n=$((n + 1))
    seed admin_api "$n" '%s\n%b\0GET /cocoon/v0/%s\n' "$1" "$2" "${3-status}"
}
operation "PUT /cocoon/v0/workloads/$digest48" "$registration" workloads
operation "DELETE /cocoon/v0/workloads/$digest48" '' workloads
operation 'PUT /cocoon/v0/rules/r' "$rule" rules
operation 'DELETE /cocoon/v0/rules/r' '' rules
operation 'PUT /cocoon/v0/secrets/default/key/2' 'value' secrets
operation 'DELETE /cocoon/v0/secrets/default/key/2' '' secrets
operation 'PUT /cocoon/v0/policies/resource-policy' "$policy" policies/resource-policy/history
operation 'PUT /cocoon/v0/policies/default_cpu' "$appraisal" policies/default_cpu
operation 'POST /cocoon/v0/policies/default_cpu/activate' '{"version":1}' policies
operation 'POST /cocoon/v0/policies/default_cpu/dry-run?limit=3' "$appraisal" policy-defaults
operation 'DELETE /cocoon/v0/policies/default_cpu' '' policies
operation 'PUT /cocoon/v0/reference-values' '{"source":"me","values":{"a":["ab",1]},"expires_unix":1900000000}' reference-values
operation 'DELETE /cocoon/v0/reference-values/a?source=me' '' reference-values
operation 'POST /cocoon/v0/reference-values/import' "{\"message\":$message,\"set\":\"s\",\"unsigned\":true}" reference-sets/s
operation 'POST /cocoon/v0/reference-values/preview' "{\"message\":$message,\"unsigned\":true}" reference-sets
operation 'DELETE /cocoon/v0/reference-sets/s' '' reference-sets
operation 'PUT /cocoon/v0/trust-anchors/k' '-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n' trust-anchors
operation 'DELETE /cocoon/v0/trust-anchors/k' '' trust-anchors
operation 'GET /cocoon/v0/explain/x' '' 'explain?limit=3'
operation 'GET /cocoon/v0/audit/entries?from=0&limit=2' '' audit/head
operation 'GET /cocoon/v0/audit/proof/inclusion/0?size=1' '' audit/key
operation 'GET /cocoon/v0/audit/proof/consistency/0/1' '' audit/entries
operation 'PUT /cocoon/v0/tenants/a' '{"workloads":2,"secrets":2,"rules":2,"policies":2,"reference_values":2}' tenants
operation 'POST /cocoon/v0/tenants/a/token' '' tenants
operation 'PUT /t/a/cocoon/v0/rules/r' "$rule" tenants
operation 'DELETE /cocoon/v0/tenants/a' '' tenants
operation 'POST /cocoon/v0/token-key/rotate' '' status
operation 'POST /kbs/v0/resource/default/key/3' 'value' secrets
operation 'POST /kbs/v0/resource-policy' "{\"policy\":\"$(printf '%b' "$policy" | base64 -w0)\"}" policies
operation 'POST /kbs/v0/attestation-policy' "{\"type\":\"rego\",\"policy_id\":\"default\",\"policy\":\"$(printf '%b' "$appraisal" | base64 -w0)\"}" policies
operation 'POST /kbs/v0/reference-value' "$message" reference-values
operation 'GET /kbs/v0/reference-value/a' '' reference-values
operation 'POST /kbs/v0/provisioner/provision' '{"vm_name":"a","namespace":"b"}' secrets

claims="\"exp\":1900000000,\"nbf\":1,\"iat\":1"
seed bearer_token chain '{"alg":"ES256","typ":"JWT","jwk":"JWK"}\0{"iss":"x",%s,"eat_profile":"tag:github.com,2024:confidential-containers/Trustee","submods":{"cpu0":{"ear.status":"affirming","ear.trustworthiness-vector":{"executables":3},"ear.veraison.annotated-evidence":{"runtime_data_claims":{"tee-pubkey":%s},"init_data":"ab"}}}}' "$claims" "$key"
seed bearer_token old '{"alg":"ES256","jwk":"JWK"}\0{%s,"tee-pubkey":%s,"customized_claims":{"runtime_data":{"tee-pubkey":%s}}}' "$claims" "$key" "$key"
seed bearer_token foreign '{"alg":"ES256","jwk":{%s,"x5c":["MIIB","AAAA"]}}\0{%s}' "$ec" "$claims"
seed bearer_token text 'eyJhbGciOiJFUzI1NiJ9.e30.AAAA'
idp='"iss":"https://idp.example"'
seed admin_jwt plain '{"alg":"ES256","kid":"k","typ":"at+jwt"}\0{"role":"operator","sub":"me",%s,"aud":"trustee",%s}' "$idp" "$claims"
seed admin_jwt tenant '{"alg":"ES256"}\0{"role":"operator","tenant":"a",%s,"aud":["x","trustee"],%s}' "$idp" "$claims"
seed admin_jwt none 'eyJhbGciOiJub25lIn0.eyJyb2xlIjoib3BlcmF0b3IifQ.'
seed access_rules all '^/kbs/v0/.*$\0/kbs/v0/resource/a/b/c'
seed access_rules either '^/kbs/(a|b)$|^/cocoon/v0/[^/]+$\0/cocoon/v0/x%%20y'
seed access_rules class '^/t/[a-z]{1,8}/cocoon/v0/(?i:rules)/\\d+$\0/t/a/cocoon/v0/RULES/7'
for name in admin.example other.example; do
    mkdir -p "$corpus/client_certificate"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj "/O=x/CN=$name" \
        -addext "subjectAltName=DNS:$name,URI:spiffe://example/admin,IP:127.0.0.1" -days 3650 -outform DER \
        -out "$corpus/client_certificate/seed-$name" 2>/dev/null
done

mkdir -p "$corpus/settings"
sed 's/^#\([a-z_]* = \)/\1/' "$here/../trustee/config/trustee.example.toml" >"$corpus/settings/seed-all"
cp "$here/../trustee/config/trustee.example.toml" "$corpus/settings/seed-example"
seed settings upstream '[http_server]\nsockets = ["127.0.0.1:8080"]\ninsecure_http = true\n[attestation_token]\n[attestation_service]\ntype = "coco_as_builtin"\n[attestation_service.attestation_token_broker]\nduration_min = 5\n[attestation_service.rvps_config]\ntype = "BuiltIn"\n[admin]\ntype = "DenyAll"\n[[plugins]]\nname = "resource"\ntype = "LocalFs"\ndir_path = "/opt/kbs"\n'
seed settings json '{"http_server":{"sockets":["127.0.0.1:8080"],"insecure_http":true},"admin":{"authorization_mode":"DenyAll"},"storage_backend":{"storage_type":"LocalFs","backends":{"local_fs":{"dir_path":"/d"}}},"plugins":[{"name":"provisioner"}]}'

mkdir -p "$corpus/rego_policy" "$corpus/rego_input"
for policy_file in "$here"/../trustee/policy/policies/*.rego; do
    cp "$policy_file" "$corpus/rego_policy/seed-$(basename "$policy_file")"
done
seed rego_policy loop 'package policy\nallow if { some i in numbers.range(1, 100000000); i < 0 }\n'
seed rego_policy grow 'package policy\nallow if { count(sprintf("%%s", [concat("", [x | some x in numbers.range(1, 9)])])) > 1 }\n'
seed rego_policy extended 'package policy\nimport rego.v1\ntrust_claims := {"hardware": v}\nv := 2 if "ab" in query_reference_value("snp_launch_measurement")\nextensions := {"a": input.list, "b": regex.match("^a+$", "aa"), "c": base64.encode("x")}\n'
seed rego_policy recursive 'package policy\ntrust_claims := f(3)\nf(x) := f(x)\n'
seed rego_input snp '{"snp":{"measurement":"ab","reported_tcb_bootloader":1,"policy_debug_allowed":false,"platform_smt_enabled":"1"},"init_data":"ab","report_data":"cd"}'
seed rego_input tdx '{"tdx":{"quote":{"header":{"tee_type":"81000000"},"body":{"mr_td":"ab","rtmr_1":"cd"}},"ccel":{"kernel":"ab"},"td_attributes":{"debug":false},"tcb_status":"UpToDate","advisory_ids":[]}}'
seed rego_input token '{"submods":{"cpu0":{"ear.status":"affirming","ear.trustworthiness-vector":{"hardware":2},"ear.veraison.annotated-evidence":{"sample":{"svn":"1"}}}}}'
seed rego_input gpu '{"nvidia":{"x-nvidia-gpu-driver-version":"1","secboot":true,"dbgstat":"disabled"},"sample":{"svn":"1","launch_digest":"abcde"}}'

seed reference_message sample '\x00{"a":["ab",1],"b":{"c":[true]}}'
seed reference_message swid '\x01<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384" name="GH100" tagId="53" version="1.0" tagVersion="2"><Entity name="N" role="tagCreator"/><Meta colloquialVersion="96.00"/><Payload><Resource type="Measurement" index="1" ns2:Hash0="%s" size="48"/></Payload></SoftwareIdentity>' "$digest48"
seed reference_message xmldsig '\x09<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" name="x" tagId="5"><Payload/><ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"/><ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"/><ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"/><ds:DigestValue>AA==</ds:DigestValue></ds:Reference></ds:SignedInfo><ds:SignatureValue>AA==</ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>MIIB</ds:X509Certificate></ds:X509Data></ds:KeyInfo></ds:Signature></SoftwareIdentity>'
# {0: "s", 1: [506({0: "c", 1: {0: "i", 1: 2}, 4: {0: [[{0: {1: "v", 2: "m"}}, [{0: 3, 1: {2: [[7, h'abab']]}}]]]}})]}
comid='\xa3\x00\x61c\x01\xa2\x00\x61i\x01\x02\x04\xa1\x00\x81\x82\xa1\x00\xa2\x01\x61v\x02\x61m\x81\xa2\x00\x03\x01\xa1\x02\x81\x82\x07\x42\xab\xab'
corim="\\xd9\\x01\\xf5\\xa2\\x00\\x61s\\x01\\x81\\xd9\\x01\\xfa\\x58\\x27$comid"
seed reference_message corim "\\x02$corim"
# 18([h'a1012603..', {4: "k"}, payload, signature])
seed reference_message cose "\\x0a\\xd2\\x84\\x43\\xa1\\x01\\x26\\xa1\\x04\\x41k\\x58\\x33$corim\\x42\\x01\\x02"
statement=$(printf '{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"%s"}}],"predicateType":"https://slsa.dev/provenance/v1","predicate":{"buildDefinition":{"buildType":"x","externalParameters":{}},"runDetails":{"builder":{"id":"b"}}}}' "${digest48:0:64}" | base64 -w0)
seed reference_message in-toto '\x03{"payloadType":"application/vnd.in-toto+json","payload":"%s","signatures":[{"keyid":"k","sig":"AA=="}]}' "$statement"
set_document='{"set":"s","version":1,"source":"me","expires_unix":1900000000,"values":{"a":["ab",1]}}'
seed reference_message cocoon '\x04{"payloadType":"application/vnd.cocoon.reference-values+json","payload":"%s","signatures":[{"keyid":"k","sig":"AA=="}]}' "$(printf '%s' "$set_document" | base64 -w0)"
seed reference_message signed '\x0d%s' "$set_document"
seed reference_message message '\x06%s' "$message"

hash=$(printf 'ab%.0s' {1..32})
seed audit_offline all '{"at_unix":7,"kind":"release","request_id":"r1","actor":"guest","subject":"a","outcome":{"refused":"RELEASE-DENIED"},"init_data":"ab","details":{"a":"2"}}\0{"index":1,"size":3,"path":["%s","%s"]}\0{"from":1,"to":3,"path":["%s","%s"]}\0{"log_id":"%s","size":3,"root_hex":"%s","at_unix":7,"key_id":"%s","signature_b64":"AA=="}\0ed25519:%s' \
    "$hash" "$hash" "$hash" "$hash" "${hash:0:32}" "$hash" "$hash" "$hash"
seed audit_offline p256 'x\0{"index":0,"size":1,"path":[]}\0{"from":0,"to":0,"path":[]}\0\0p256:04%s%s' "$hash" "$hash"
seed audit_store flip '\x00\x05\x09\x00\x01'
seed audit_store cut '\x01\x2c\x09\x01\x00\x01\x2d\x09\x03\x00'
seed audit_store replace '\x01\x2e\x04\x02\x00abcd'
record='\x01\x00\x01a\x00\x01%b\x00\x00\x00\x03xyz'
seed backup content "\\x02$record$record\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02" k l
seed backup empty '\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00'
seed backup stream '\x00COCOONBK\x01\x00'
seed backup key '\x01COCOONBK\x01\x01\x01'
seed backup altered '\x04\x00\x40\x01\x10\x00\x00'
seed upstream_files json '{"default/key/1":"czNjcmV0","a":"!","b":1,"../c":"AA=="}'
seed upstream_files file 'name\0content'
seed provisioner body '{"vm_name":"vm-1","namespace":"ns"}'
seed provisioner get 'GET\0default\0feab5599-6854-52bc-95f0-0241c03e620a\0root'
seed provisioner claims '{"trustee.kbs.resource":"kbs+provisioner:///default/feab5599-6854-52bc-95f0-0241c03e620a/root"}'
seed sample_evidence one '{"svn":"1","report_data":"YW5vdGhlciByZXBvcnQgZGF0YQ=="}'
seed sample_evidence number '{"svn":7,"report_data":""}'

evidence64=$(printf '{"svn":"1","report_data":""}' | base64 -w0 | tr '+/' '-_' | tr -d =)
seed rpc_rest attestation 'POST /attestation\ncontent-type: application/json\n\n{"verification_requests":[{"tee":"sample","evidence":"%s","runtime_data":{"structured":{"a":1}},"init_data":{"init_data_digest":"AAAA"},"runtime_data_hash_algorithm":"sha384"}],"policy_ids":["default"]}' "$evidence64"
seed rpc_rest policy 'POST /policy\n\n{"policy_id":"a","policy":"cGFja2FnZSBwb2xpY3k"}'
seed rpc_rest get 'GET /policy/a%%20b\n\n'
seed rpc_rest list 'GET /policy\n\n'
seed rpc_rest challenge 'POST /challenge\n\n{"inner":{"tee":"sample"}}'
seed rpc_rest jwks 'GET /.well-known/jwks.json\n\n'
seed rpc_grpc evaluate '\x00\x00\x0a\x0a\x0a\x06sample\x12\x00\x12\x01a'
seed rpc_grpc evaluate2 '\x00\x00\x0a\x2d\x0a\x06sample\x12\x1b%s\x1a\x02e0\x32\x02e0' 'eyJzdm4iOiIxIn0eyJzdm4iOiI'
seed rpc_grpc challenge '\x01\x00\x0a\x0a\x0a\x03tee\x12\x03snp'
seed rpc_grpc policy '\x02\x00\x0a\x01a\x12\x03Y2M'
seed rpc_grpc query '\x03\x00\x0a\x01a'
seed rpc_grpc register '\x04\x00\x0a\x02{}'
seed rpc_grpc frames '\x00\x01\x00\x00\x00\x00\x02\x0a\x00\x00'

seed vault_answer kv1 '\x00{"request_id":"","lease_id":"","renewable":false,"lease_duration":1,"data":{"data":"czNjcmV0","encoding":"base64"}}'
seed vault_answer kv2 '\x08{"data":{"data":{"data":[1,2,255]},"metadata":{"version":1,"deletion_time":"","destroyed":false}}}'
seed vault_answer list '\x18{"data":{"keys":["default/","a","b/"]}}'
seed vault_answer errors '\x04{"errors":["permission denied"]}'
seed vault_answer missing '\x03{"errors":[]}'

# Evidence: small forms that are written here, then recorded ones, where the vectors are at hand.
# base64_of BYTE COUNT: that byte so many times, in base64.
base64_of() {
    printf "\\x$1%.0s" $(seq "$2") | base64 -w0
}
seed evidence sample '{"svn":"1","report_data":"AAAA"}'
se=$(printf '{"measurement":"%s","additional_data":"%s","user_data":"%s","cuid":"%s","encr_measurement_key":"AAAA","encr_request_nonce":"AAAA","image_hdr_tags":"%s"}' \
    "$(base64_of 11 64)" "$(base64_of 22 64)" "$(base64_of 33 48)" "$(base64_of 44 16)" "$(base64_of 55 208)")
seed se_evidence json '%s' "$se"
seed evidence se '%s' "$se"
zeros() {
    printf '\\x00%.0s' $(seq "$1")
}
# One key slot, one page of the encrypted area left out.
seed se_evidence header "IBMSecEx\\x00\\x00\\x01\\x00\\x00\\x00\\x02\\x00$(zeros 16)$(zeros 7)\\x01$(zeros 8)$(zeros 16)$(zeros 160)$(zeros 192)$(zeros 80)$(zeros 16)"
numbers() {
    printf '%s%s' "$1" "$(printf ",$1%.0s" $(seq 2 "$2"))"
}
dcu=$(printf '{"attestation_reports":[{"body":{"version":1,"chip_id":[%s,0],"user_data":[%s],"measure":[%s],"reserved":[%s],"sig_usage":1,"sig_algo":4},"sig":{"r":[%s],"s":[%s]}}]}' \
    "$(numbers 65 15)" "$(numbers 1 64)" "$(numbers 2 32)" "$(numbers 0 128)" "$(numbers 3 72)" "$(numbers 4 72)")
seed dcu_evidence json '%s' "$dcu"
seed evidence dcu '%s' "$dcu"
seed dcu_evidence report "\\x01\\x00\\x00\\x00AAAAAAAA$(zeros 8)$(zeros 224)\\x01\\x00\\x00\\x00\\x04\\x00\\x00\\x00$(zeros 144)"
# DiceTcbInfo: vendor, model, svn, one digest, flags.
tcb_info='302d800164810165830101a618301606096086480165030402020409010203040506070809870500800000008801aa'
seed dpu_evidence tcb-info "$(printf '%s' "$tcb_info" | sed 's/../\\x&/g')"
p384=$(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout /dev/null -subj "/CN=device" \
    -addext "2.23.133.5.4.1=DER:$tcb_info" -days 3650 -outform DER 2>/dev/null | base64 -w0)
dpu="{\"version\":1,\"devices\":[{\"architecture\":\"bluefield3\",\"alias_cert\":\"$p384\",\"device_id_cert\":\"$p384\",\"report_data_signature\":\"MAYCAQECAQE=\"}]}"
seed dpu_evidence json '%s' "$dpu"
seed evidence dpu '%s' "$dpu"
# TPM2B_PUBLIC: P-256 for ECDSA, and a storage key of RSA 2048.
seed tpm_parts ecc "\\x00\\x58\\x00\\x23\\x00\\x0b\\x00\\x05\\x00\\x72\\x00\\x00\\x00\\x10\\x00\\x18\\x00\\x0b\\x00\\x03\\x00\\x10\\x00\\x20%32s\\x00\\x20%32s" a b
seed tpm_parts rsa "\\x01\\x1a\\x00\\x01\\x00\\x0b\\x00\\x03\\x00\\x72\\x00\\x00\\x00\\x06\\x00\\x80\\x00\\x43\\x00\\x10\\x08\\x00\\x00\\x00\\x00\\x00\\x01\\x00\\xff%255s" c
seed tpm_parts signature-ecc "\\x00\\x18\\x00\\x0b\\x00\\x20%32s\\x00\\x20%32s" r s
# Two registers in a response, of which all others are missing; an index of 4 bytes and its content; a key and a quote.
seed tpm_responses registers '\x00\x00\x60\x80\x01\x00\x00\x00\x60\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x0b\x03\x03\x00\x00\x00\x00\x00\x02\x00\x20%32s\x00\x20%32s' a b
seed tpm_responses index '\x01\x00\x2e\x80\x01\x00\x00\x00\x2e\x00\x00\x00\x00\x00\x0e\x01\xc0\x00\x02\x00\x0b\x62\x07\x20\x08\x00\x00\x00\x04\x00\x12%18s\x00\x15\x80\x02\x00\x00\x00\x15\x00\x00\x00\x00\x00\x00\x00\x06\x00\x04\x30\x02\x05\x00\x00' n
seed tpm_responses key '\x02\x00\x16\x80\x02\x00\x00\x00\x16\x00\x00\x00\x00\x80\x00\x00\x01\x00\x00\x00\x04\x00\x02ab\x00\x12\x80\x02\x00\x00\x00\x12\x00\x00\x00\x00\x00\x00\x00\x04\x00\x01m%1s' s
seed azure_hcl runtime '{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"%s"}],"vm-configuration":{"console-enabled":true,"secure-boot":true,"tpm-enabled":true,"vmUniqueId":"A"},"user-data":"%0128d"}' "$(base64_of bb 256 | tr '+/' '-_' | tr -d =)" 0
token() {
    local header payload
    header=$(printf '{"alg":"ES384","kid":"k","typ":"JWT"}' | base64 -w0 | tr '+/' '-_' | tr -d =)
    payload=$(printf '%s' "$1" | base64 -w0 | tr '+/' '-_' | tr -d =)
    printf '%s.%s.%s' "$header" "$payload" "$(base64_of 66 96 | tr '+/' '-_' | tr -d =)"
}
nras='"iss":"https://nras.attestation.nvidia.com","exp":1900000000,"nbf":1,"iat":1,"eat_nonce":"00"'
seed nras_answer answer '[["JWT","%s"],{"GPU-0":"%s"}]' \
    "$(token "{$nras,\"x-nvidia-overall-att-result\":true,\"submods\":{\"GPU-0\":[\"DIGEST\",[\"SHA256\",\"${digest48:0:64}\"]]}}")" \
    "$(token "{$nras,\"measres\":\"success\",\"secboot\":true,\"dbgstat\":\"disabled\",\"hwmodel\":\"GH100\"}")"
seed nras_answer keys '{"keys":[{"kty":"EC","crv":"P-384","kid":"k","alg":"ES384","use":"sig","x":"qofKIr6LBTeOscce8yCtdG4dO2KLp5uYWfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3","y":"NhfeSpYmLG9dnpi_kpLcKfj0Hb0omhR86doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f"}]}'
swid='<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:h="http://www.w3.org/2001/04/xmlenc#sha384" name="GH100" tagId="x" version="1" tagVersion="2"><Meta edition="GPU" product="GH100" colloquialVersion="1.2"/><Payload>'
seed rim manifest '%s<Resource type="Measurement" index="1" name="a" active="true" alternatives="1" size="48" h:Hash0="%s"/></Payload></SoftwareIdentity>' "$swid" "$digest48"
seed rim signed '%s</Payload><ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315#WithComments"/><ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"/><ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"/><ds:DigestValue>%s</ds:DigestValue></ds:Reference></ds:SignedInfo><ds:SignatureValue>%s</ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>%s</ds:X509Certificate></ds:X509Data></ds:KeyInfo></ds:Signature></SoftwareIdentity>' \
    "$swid" "$(base64_of 77 48)" "$(base64_of 88 96)" "$p384"
seed rim entities '<?xml version="1.0" encoding="UTF-8"?><!-- c --><a xmlns="u" xml:lang="en" b="&#x41;&amp;"><![CDATA[x]]><?p i?>&lt;</a>'
mkdir -p "$corpus/x509"
cat "$here"/../core/evidence/src/*/roots/milan-as*.pem "$here"/../core/evidence/src/snp/roots/milan-ark.pem \
    >"$corpus/x509/seed-milan"
for root in "$here"/../core/evidence/src/{dcap,nvidia}/roots/*.pem; do
    cp "$root" "$corpus/x509/seed-$(basename "$root")"
    openssl x509 -in "$root" -outform DER -out "$corpus/x509/seed-$(basename "$root" .pem).der"
done

vectors=${COCOON_VECTORS:-$here/../../shared/vectors}
[ -d "$vectors" ] || exit 0
# vector FILE TARGET…: a recorded input, cut to what a fuzzer works with.
vector() {
    local file=$vectors/$1 target
    shift
    [ -f "$file" ] || return 0
    for target in "$@"; do
        mkdir -p "$corpus/$target"
        head -c 65536 "$file" >"$corpus/$target/seed-$(basename "$(dirname "$file")")-$(basename "$file")"
    done
}
# field FILE NAME: a member that is a text, with its escapes.
field() {
    sed -n "s/^ *\"$2\": *\"\\(.*\\)\",\\{0,1\\}\$/\\1/p" "$vectors/$1"
}
for log in "$vectors"/eventlog/CCEL_* "$vectors"/tdx/CCEL_*; do
    case $log in *.json) ;; *) vector "${log#"$vectors/"}" event_log ;; esac
done
vector snp/genoa-v3-evidence.json evidence snp_evidence
vector snp/test-report.bin evidence snp_evidence
vector snp/test-vlek-report.bin evidence snp_evidence
for certificate in vcek vlek vcek-invalid-new; do
    vector snp/test-$certificate.der x509
done
vector az-snp-vtpm/vcek.pem x509
for quote in tdx/tdx_quote tdx/tdx_quote_4.dat tdx/tdx_quote_5.dat sgx/sgx_quote sgx/occlum_quote.dat az-tdx-vtpm/td-quote.bin; do
    vector $quote evidence dcap_quote
    [ -f "$vectors/$quote" ] || continue
    name=seed-$(printf '%s' "$quote" | tr / -).json
    printf '{"quote":"%s"}' "$(base64 -w0 "$vectors/$quote")" | tee "$corpus/dcap_quote/$name" >"$corpus/evidence/$name"
done
if [ -f "$vectors/eventlog/CCEL_AAEL_alibabacloud" ]; then
    seed evidence tdx-log '{"quote":"%s","cc_eventlog":"%s"}' "$(base64 -w0 "$vectors/tdx/tdx_quote")" \
        "$(base64 -w0 "$vectors/eventlog/CCEL_AAEL_alibabacloud")"
fi
vector tdx/tcbInfo.json dcap_collateral collateral_bundle
vector tdx/enclaveIdentity.json dcap_collateral collateral_bundle
for tee in sgx tdx; do
    file=$tee/${tee}_quote_collateral.json
    vector $file collateral_bundle
    [ -f "$vectors/$file" ] || continue
    for part in tcb_info qe_identity; do
        seed dcap_collateral $tee-$part "{\"body\":$(field $file $part | sed 's/\\"/"/g'),\"signature\":\"%s\"}" \
            "$(field $file ${part}_signature)"
        cp "$corpus/dcap_collateral/seed-$tee-$part" "$corpus/collateral_bundle/"
    done
    for list in root_ca_crl pck_crl; do
        seed dcap_collateral $tee-$list '%b' "$(field $file $list | sed 's/../\\x&/g')"
        seed x509 $tee-$list '%b\0%s\0' "$(field $file pck_crl_issuer_chain)" "$(field $file $list)"
    done
done
for tee in az-snp-vtpm az-tdx-vtpm; do
    for version in 0 1 2; do
        vector $tee/evidence-v$version.json evidence azure_evidence
    done
    vector $tee/hcl-report.bin azure_hcl
done
vector az-snp-vtpm/tpm-quote.msg tpm_parts
if [ -f "$vectors/az-snp-vtpm/tpm-quote.sig" ]; then
    seed tpm_parts signature-rsa '\x00\x14\x00\x0b\x01\x00%b' \
        "$(od -An -v -tx1 "$vectors/az-snp-vtpm/tpm-quote.sig" | tr -d '\n' | sed 's/ /\\x/g')"
fi
vector tpm/tpm_evidence.json evidence tpm_evidence
vector cca/cca-example-token.cbor evidence cca_token
if [ -f "$vectors/cca/cca-example-token.cbor" ]; then
    seed evidence cca-json '{"token":[%s]}' \
        "$(od -An -v -tu1 "$vectors/cca/cca-example-token.cbor" | tr -s ' \n' ',' | sed 's/^,//; s/,$//')"
fi
vector cca/tastore.json cca_store
vector cca/rvstore.json cca_store
vector csv/csv_evidence.json evidence csv_evidence
if [ -f "$vectors/csv/csv_evidence.json" ]; then
    # Its report as bytes.
    seed csv_evidence report '%b' "$(sed 's/.*"attestation_report":{"data":\[\([0-9,]*\)\].*/\1/' "$vectors/csv/csv_evidence.json" |
        tr ',' '\n' | xargs printf '\\x%02x')"
fi
for pair in AttestationReport:_cert_chain_case1 _coco_report1:_coco_certs1; do
    report=$vectors/nvidia/hopper${pair%:*}.txt
    chain=$vectors/nvidia/hopper${pair#*:}.txt
    [ -f "$report" ] && [ -f "$chain" ] || continue
    device="{\"arch\":\"HOPPER\",\"uuid\":\"GPU-0\",\"evidence\":\"$(tr -d '[:space:]' <"$report")\",\"certificate\":\"$(base64 -w0 "$chain")\"}"
    seed nvidia_evidence "${pair#*:}" '{"device_evidence_list":[%s]}' "$device"
    seed nvidia_evidence "${pair#*:}-two" '{"device_evidence_list":[%s,%s]}' "$device" "$device"
    seed evidence "nvidia${pair#*:}" '{"device_evidence_list":[%s]}' "$device"
    seed nvidia_evidence "${pair%:*}" '%b' "$(tr -d '[:space:]' <"$report" | sed 's/../\\x&/g')"
    vector "nvidia/$(basename "$chain")" x509
done

seed grpc_framing two '\x07\x00\x00\x00\x00\x02\x0a\x00\x00\x00\x00\x00\x00'
seed grpc_framing large '\x07\x00\x00\x01\x00\x00\x0a'
seed snapshotter prepare '\x00\x12\x01a'
seed snapshotter adopt '\x00\x12\x09extract-1\x22\x1f\x0a\x1acontainerd.io/snapshot.ref\x12\x01x'
seed snapshotter view '\x01\x12\x01v\x1a\x01x'
seed snapshotter mounts '\x02\x12\x01a'
seed snapshotter commit '\x03\x12\x01b\x1a\x01a'
seed snapshotter remove '\x04\x12\x01b'
seed snapshotter update '\x06\x12\x03\x0a\x01a\x1a\x08\x0a\x06labels'
seed snapshotter list '\x09\x12\x0fkind==committed'
seed volume_path deep '%s' 'conf.d/10-app/key.pem'
seed seccomp_profile list '%s' '{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["read","socketcall"],"action":"SCMP_ACT_ALLOW"},{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}'
seed workload deployment '%s' 'apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {annotations: {cocoon.dev/exec: allowed}}
    spec:
      initContainers: [{name: mesh, image: b, restartPolicy: Always}]
      containers:
      - name: app
        image: registry.example/app:1
        args: ["$(A)"]
        env: [{name: A, value: b}, {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        envFrom: [{configMapRef: {name: c}}]
        livenessProbe: {exec: {command: [ok]}}
        securityContext: {runAsUser: 5, capabilities: {drop: [ALL]}}
        volumeMounts: [{name: v, mountPath: /v, subPath: a/b}]
      volumes: [{name: v, projected: {sources: [{configMap: {name: c}}, {serviceAccountToken: {path: t}}]}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c, namespace: shop}
data: {k: v}
'
seed workload list '%s' '{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"a","image":"b"}]}}]}'
