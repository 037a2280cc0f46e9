//! A cluster's API, as far as the owner's commands need it. Objects stay JSON: kinds are the manifests' to name.

use std::collections::BTreeMap;
use std::sync::Mutex;

use cocoon_stage::{Code, Failure};
use cocoon_workload::{Content, Document};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::WatchEvent;
use kube::{Client, Config};
use serde_json::Value;

use crate::args::ClusterArgs;
use crate::client::segment;

/// Who manages the fields that are applied here.
const MANAGER: &str = "cocoon";

/// A cluster.
pub struct Cluster {
    pub(super) client: Client,
    namespace: String,
    /// Kinds by API version.
    kinds: Mutex<BTreeMap<String, Vec<Resource>>>,
}

/// A kind of objects at the API.
#[derive(Clone, Debug)]
struct Resource {
    kind: String,
    /// In paths.
    plural: String,
    namespaced: bool,
}

/// Changes of objects, as they come.
pub type Changes = futures_util::stream::BoxStream<'static, Result<WatchEvent<Value>, kube::Error>>;

fn unreachable(reason: String) -> Failure {
    Failure::new(Code::ClusterUnreachable, reason)
}

/// A failure of the API as ours.
pub(super) fn failure(what: &str, e: &kube::Error) -> Failure {
    match e {
        kube::Error::Api(status) => {
            let message: String = status.message.chars().filter(|c| !c.is_control()).take(2000).collect();
            Failure::new(Code::ClusterRefused, format!("{what}: {message}"))
        }
        other => {
            // The innermost cause says most.
            let mut cause: &dyn std::error::Error = other;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            unreachable(format!("{what}: {cause}"))
        }
    }
}

fn is_missing(e: &kube::Error) -> bool {
    matches!(e, kube::Error::Api(status) if status.code == 404)
}

impl Cluster {
    /// The cluster that the flags name. Nothing is asked of it yet.
    ///
    /// # Errors
    /// `CLUSTER-UNREACHABLE` where there is no configuration, or none that can be used.
    pub async fn open(args: &ClusterArgs) -> Result<Self, Failure> {
        let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
        let config = match &args.kubeconfig {
            Some(file) => {
                let read = Kubeconfig::read_from(file)
                    .map_err(|e| unreachable(format!("{}: {e}", file.display())))?;
                Config::from_custom_kubeconfig(read, &options)
                    .await
                    .map_err(|e| unreachable(e.to_string()))?
            }
            None if args.context.is_some() => {
                Config::from_kubeconfig(&options).await.map_err(|e| unreachable(e.to_string()))?
            }
            None => Config::infer().await.map_err(|e| unreachable(e.to_string()))?,
        };
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|e| unreachable(e.to_string()))?;
        Ok(Cluster { client, namespace, kinds: Mutex::default() })
    }

    /// The namespace of objects that name none.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Vec<u8>,
    ) -> Result<Value, kube::Error> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .header("accept", "application/json")
            .body(body)
            .map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }

    /// Reads what is at a path; nothing where there is nothing.
    pub async fn get(&self, path: &str, what: &str) -> Result<Option<Value>, Failure> {
        match self.request(Method::GET, path, "application/json", Vec::new()).await {
            Ok(value) => Ok(Some(value)),
            Err(e) if is_missing(&e) => Ok(None),
            Err(e) => Err(failure(what, &e)),
        }
    }

    /// Follows changes below a path from a version on, until the server ends it.
    pub async fn watch(&self, path: &str, query: &str, version: &str) -> Result<Changes, Failure> {
        let path = format!(
            "{path}?watch=true&allowWatchBookmarks=true&resourceVersion={}&{query}",
            segment(version)
        );
        let request = Request::get(path.as_str())
            .body(Vec::new())
            .map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
        let changes = self.client.request_events::<Value>(request).await.map_err(|e| failure("watch", &e))?;
        Ok(Box::pin(changes))
    }

    /// Where objects of this kind are, and whether in namespaces.
    async fn resource(&self, api_version: &str, kind: &str) -> Result<Resource, Failure> {
        let known = |kinds: &BTreeMap<String, Vec<Resource>>| {
            kinds.get(api_version).map(|of| of.iter().find(|r| r.kind == kind).cloned())
        };
        let cached = known(&self.kinds.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let found = match cached {
            Some(found) => found,
            None => {
                let list = self.get(&root(api_version), api_version).await?.unwrap_or_default();
                let of: Vec<Resource> = list
                    .get("resources")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|r| {
                        let text = |name: &str| r.get(name).and_then(Value::as_str).map(str::to_owned);
                        let namespaced = r.get("namespaced").and_then(Value::as_bool)?;
                        let plural = text("name").filter(|n| !n.contains('/'))?;
                        Some(Resource { kind: text("kind")?, plural, namespaced })
                    })
                    .collect();
                let mut kinds = self.kinds.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                kinds.insert(api_version.to_owned(), of);
                known(&kinds).flatten()
            }
        };
        found.ok_or_else(|| {
            let why = format!("the cluster knows no {kind} of {api_version}");
            Failure::new(Code::ClusterRefused, why)
        })
    }

    /// Where objects of this kind are, in the object's namespace or the usual one.
    async fn place(&self, document: &Document) -> Result<String, Failure> {
        let resource = self.resource(document.api_version(), document.kind()).await?;
        let root = root(document.api_version());
        if !resource.namespaced {
            return Ok(format!("{root}/{}", resource.plural));
        }
        let namespace = match document.namespace() {
            "" => &self.namespace,
            namespace => namespace,
        };
        Ok(format!("{root}/namespaces/{}/{}", segment(namespace), resource.plural))
    }

    /// The object as the cluster has it.
    pub async fn current(&self, document: &Document) -> Result<Option<Value>, Failure> {
        let path = format!("{}/{}", self.place(document).await?, segment(document.name()));
        self.get(&path, &document.label()).await
    }

    /// Applies an object on the server's side; one that only has the beginning of a name is made anew. Gives it as it then is.
    pub async fn apply(&self, document: &Document, force: bool, dry_run: bool) -> Result<Value, Failure> {
        let place = self.place(document).await?;
        let body =
            serde_json::to_vec(&document.value).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
        let dry = if dry_run { "&dryRun=All" } else { "" };
        let sent = if document.name().is_empty() {
            let path = format!("{place}?fieldManager={MANAGER}&fieldValidation=Strict{dry}");
            self.request(Method::POST, &path, "application/json", body).await
        } else {
            let name = segment(document.name());
            let path =
                format!("{place}/{name}?fieldManager={MANAGER}&force={force}&fieldValidation=Strict{dry}");
            self.request(Method::PATCH, &path, "application/apply-patch+yaml", body).await
        };
        sent.map_err(|e| failure(&document.label(), &e))
    }

    /// The content of a ConfigMap or Secret; nothing where there is none.
    pub async fn content(
        &self,
        secret: bool,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Content>, Failure> {
        let (plural, kind) = if secret { ("secrets", "Secret") } else { ("configmaps", "ConfigMap") };
        let path = format!("/api/v1/namespaces/{}/{plural}/{}", segment(namespace), segment(name));
        let Some(mut value) = self.get(&path, &format!("{kind} {namespace}/{name}")).await? else {
            return Ok(None);
        };
        if let Some(object) = value.as_object_mut() {
            // A server may leave it out.
            object.entry("kind").or_insert_with(|| kind.into());
        }
        let content = Content::of(&Document { value })
            .map_err(|e| Failure::new(Code::ClusterRefused, format!("{kind} {namespace}/{name}: {e}")))?;
        Ok(Some(content))
    }
}

/// Where an API version begins.
fn root(api_version: &str) -> String {
    match api_version.split_once('/') {
        Some((group, version)) => format!("/apis/{}/{}", segment(group), segment(version)),
        None => format!("/api/{}", segment(api_version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_versions_have_their_places() {
        assert_eq!(root("v1"), "/api/v1");
        assert_eq!(root("apps/v1"), "/apis/apps/v1");
        assert_eq!(root("../x/v1"), "/apis/%2E%2E/x%2Fv1");
    }
}
