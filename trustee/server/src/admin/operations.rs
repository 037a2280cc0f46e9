//! The table of operations under `/cocoon/v0`.

use http::Method;

use super::{
    Answer, Call, Operation, audit, backup, policies, references, rules, secrets, tenants, verdicts,
    workloads,
};
use crate::Trustee;

type Work = fn(&Trustee, &Call) -> Answer;

fn get(path: &'static str, summary: &'static str, gives: &'static str, work: Work) -> Operation {
    Operation {
        method: Method::GET,
        path,
        summary,
        takes: None,
        gives: Some(gives),
        query: &[],
        quiet: true,
        work,
    }
}

fn put(path: &'static str, summary: &'static str, takes: &'static str, work: Work) -> Operation {
    Operation {
        method: Method::PUT,
        path,
        summary,
        takes: Some(takes),
        gives: None,
        query: &[],
        quiet: false,
        work,
    }
}

fn post(path: &'static str, summary: &'static str, gives: &'static str, work: Work) -> Operation {
    Operation {
        method: Method::POST,
        path,
        summary,
        takes: None,
        gives: Some(gives),
        query: &[],
        quiet: false,
        work,
    }
}

fn delete(path: &'static str, summary: &'static str, work: Work) -> Operation {
    Operation {
        method: Method::DELETE,
        path,
        summary,
        takes: None,
        gives: None,
        query: &[],
        quiet: false,
        work,
    }
}

impl Operation {
    fn takes(self, takes: &'static str) -> Self {
        Operation { takes: Some(takes), ..self }
    }

    fn gives(self, gives: &'static str) -> Self {
        Operation { gives: Some(gives), ..self }
    }

    fn query(self, query: &'static [(&'static str, &'static str)]) -> Self {
        Operation { query, ..self }
    }

    fn quiet(self) -> Self {
        Operation { quiet: true, ..self }
    }
}

/// All operations.
pub(crate) fn all() -> Vec<Operation> {
    let limit = &[("limit", "at most so many, up to 1000")];
    vec![
        get("/status", "What this Trustee is, and how much it keeps", "Status", verdicts::status),
        get("/workloads", "List registered workloads", "Workloads", workloads::list),
        put(
            "/workloads/{digest}",
            "Register a workload, replacing an earlier registration",
            "Registration",
            workloads::put,
        )
        .gives("Workload"),
        get("/workloads/{digest}", "One workload", "Workload", workloads::get),
        delete("/workloads/{digest}", "Remove a workload and its own secrets", workloads::delete),
        get("/rules", "List release rules", "Rules", rules::list),
        put("/rules/{id}", "Set a release rule, replacing the one of the same id", "Rule", rules::put),
        get("/rules/{id}", "One release rule", "Rule", rules::get),
        delete("/rules/{id}", "Remove a release rule", rules::delete),
        get(
            "/secrets",
            "List paths of shared secrets; values are never given out here",
            "Paths",
            secrets::list,
        ),
        put(
            "/secrets/{repository}/{type}/{tag}",
            "Set a shared secret: the body is its value",
            "Bytes",
            secrets::put,
        )
        .query(&[("if_absent", "true: only where there is none, else 412; default false")]),
        delete("/secrets/{repository}/{type}/{tag}", "Remove a shared secret", secrets::delete),
        get("/policies", "List policies with their active version", "Policies", policies::list),
        put(
            "/policies/{id}",
            "Check and store a policy; it takes effect at once",
            "PolicyText",
            policies::put,
        )
        .gives("PolicyVersion"),
        get("/policies/{id}", "The active version with its text, or another", "Policy", policies::get)
            .query(&[("version", "a version")]),
        get("/policies/{id}/history", "All kept versions", "PolicyVersions", policies::history),
        post(
            "/policies/{id}/activate",
            "Make another version the active one",
            "PolicyVersion",
            policies::activate,
        )
        .takes("VersionChoice"),
        post(
            "/policies/{id}/dry-run",
            "What a policy would say of evidence seen lately",
            "DryRuns",
            policies::dry_run,
        )
        .takes("PolicyText")
        .query(limit)
        .quiet(),
        delete("/policies/{id}", "Remove a policy: the native rules apply again", policies::delete),
        get("/policy-defaults", "The policies that this program ships", "PolicyTexts", policies::defaults),
        get("/reference-values", "List reference values", "ReferenceValues", references::list),
        put("/reference-values", "Register values of one source by name", "SourceValues", references::put),
        delete("/reference-values/{*name}", "Remove a name's values", references::delete)
            .gives("Removed")
            .query(&[("source", "only this source's")]),
        post(
            "/reference-values/import",
            "Import a reference value document",
            "ReferenceSet",
            references::import,
        )
        .takes("ReferenceImport"),
        post("/reference-values/preview", "What an import would change", "Changes", references::preview)
            .takes("ReferenceImport")
            .quiet(),
        get("/reference-sets", "List imported sets", "ReferenceSets", references::sets),
        get("/reference-sets/{name}", "One set with its values", "ReferenceValues", references::set),
        delete("/reference-sets/{name}", "Remove a set and its values", references::delete_set)
            .gives("Removed"),
        get("/trust-anchors", "Keys that may sign reference values", "TrustAnchors", references::anchors),
        put(
            "/trust-anchors/{id}",
            "Trust a key or CA to sign reference values (PEM)",
            "Pem",
            references::put_anchor,
        ),
        delete("/trust-anchors/{id}", "Trust a key no longer", references::delete_anchor),
        get("/explain", "The newest verdicts", "Explanations", verdicts::latest).query(limit),
        get("/explain/{id}", "Why a request was answered as it was", "Explanation", verdicts::explain),
        get("/audit/head", "The audit log's signed head", "SignedHead", audit::head),
        get("/audit/key", "The key that signs the audit log's heads", "AuditKey", audit::key),
        get("/audit/entries", "Entries of the audit log", "AuditEntries", audit::entries).query(&[
            ("from", "first index; without it the newest are given"),
            ("limit", "at most so many, up to 1000"),
        ]),
        get(
            "/audit/proof/inclusion/{index}",
            "Proof that an entry is in the log",
            "InclusionProof",
            audit::inclusion,
        )
        .query(&[("size", "size of the head to prove it for; default: the newest")]),
        get(
            "/audit/proof/consistency/{from}/{to}",
            "Proof that a log only grew",
            "ConsistencyProof",
            audit::consistency,
        ),
        get("/tenants", "List tenants", "Tenants", tenants::list),
        put("/tenants/{name}", "Make a tenant, or change its quota", "Quota", tenants::put)
            .gives("TenantCreated"),
        post(
            "/tenants/{name}/token",
            "A new administrator token; the old one ends",
            "TenantToken",
            tenants::token,
        ),
        delete("/tenants/{name}", "Remove a tenant with everything it keeps", tenants::delete),
        post("/backup", "The whole state in one file; secrets in it stay sealed", "Backup", backup::backup),
        post("/token-key/rotate", "Make a new token signing key", "KeyId", verdicts::rotate),
    ]
}
