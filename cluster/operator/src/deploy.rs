//! `cocoon operator install` and `uninstall`: the objects of [`crate::manifests`], put into a cluster and taken out.

use cocoon_cluster_api::{CocoonRuntime, MANAGER, TrusteeReferenceValues, TrusteeReleaseRule, TrusteeSecret};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, Resource, ResourceExt};
use serde_json::Value;

use crate::Error;
use crate::manifests::OPERATOR;

/// The API of an object, and its name.
fn api(client: &Client, object: &Value) -> Result<(Api<DynamicObject>, String), Error> {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str);
    let lacks = || Error::Own("an object without version, kind or name".into());
    let (version, kind) = text("/apiVersion").zip(text("/kind")).ok_or_else(lacks)?;
    let name = text("/metadata/name").ok_or_else(lacks)?;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let gvk = GroupVersionKind::gvk(group, version, kind);
    let lower = kind.to_ascii_lowercase();
    let plural = match lower.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{lower}s"),
    };
    let resource = ApiResource::from_gvk_with_plural(&gvk, &plural);
    let api = match text("/metadata/namespace") {
        Some(ns) => Api::namespaced_with(client.clone(), ns, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    Ok((api, name.to_owned()))
}

/// Applies all objects, in their order, and waits for definitions to be served. `tell` hears of each.
///
/// # Errors
/// Of the API server.
pub async fn install(client: &Client, objects: &[Value], tell: &mut dyn FnMut(&str)) -> Result<(), Error> {
    for object in objects {
        let (api, name) = api(client, object)?;
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await?;
        tell(&format!("{kind} {name}"));
        if kind == "CustomResourceDefinition" {
            let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
            waited(await_condition(definitions, &name, conditions::is_crd_established()).await)?;
        }
    }
    Ok(())
}

/// Waits until the operator answers.
///
/// # Errors
/// Of the API server.
pub async fn wait(client: &Client, namespace: &str) -> Result<(), Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let complete = conditions::is_deployment_completed();
    waited(await_condition(deployments, OPERATOR, complete).await)
}

/// Deletes all resources of a kind, and waits until those are gone that the operator holds.
async fn cleared<K>(client: &Client, tell: &mut dyn FnMut(&str)) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let all = match Api::<K>::all(client.clone()).list(&ListParams::default()).await {
        Ok(list) => list,
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    for object in all {
        let (ns, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api: Api<K> = Api::namespaced(client.clone(), &ns);
        match api.delete(&name, &DeleteParams::default()).await {
            Ok(_) => tell(&format!("{} {ns}/{name}: being taken out of Trustee", K::kind(&()))),
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(e) => return Err(e.into()),
        }
        let uid = object.uid().unwrap_or_default();
        waited(await_condition(api, &name, conditions::is_deleted(&uid)).await)?;
    }
    Ok(())
}

fn waited<T>(result: Result<T, kube::runtime::wait::Error>) -> Result<(), Error> {
    result.map(drop).map_err(|e| Error::Own(e.to_string()))
}

/// Deletes CocoonRuntimes and waits until nodes are clean, which takes a working operator. `tell` hears of each.
///
/// # Errors
/// Of the API server.
pub async fn clean(client: &Client, tell: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let runtimes: Api<CocoonRuntime> = Api::all(client.clone());
    match runtimes.list(&ListParams::default()).await {
        Ok(list) => {
            for runtime in list {
                let name = runtime.name_any();
                match runtimes.delete(&name, &DeleteParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => continue,
                    other => drop(other?),
                }
                tell(&format!("CocoonRuntime {name}: nodes are being cleaned"));
                let uid = runtime.uid().unwrap_or_default();
                waited(await_condition(runtimes.clone(), &name, conditions::is_deleted(&uid)).await)?;
            }
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(e) => return Err(e.into()),
    }
    // What a Trustee knows goes while there is someone who takes it out: a definition cannot go before.
    cleared::<TrusteeReferenceValues>(client, tell).await?;
    cleared::<TrusteeReleaseRule>(client, tell).await?;
    cleared::<TrusteeSecret>(client, tell).await?;
    Ok(())
}

/// As [`clean`], and then deletes all objects, the last first. What is not there is fine.
///
/// # Errors
/// Of the API server.
pub async fn uninstall(client: &Client, objects: &[Value], tell: &mut dyn FnMut(&str)) -> Result<(), Error> {
    clean(client, tell).await?;
    for object in objects.iter().rev() {
        let (api, name) = api(client, object)?;
        match api.delete(&name, &DeleteParams::background()).await {
            Ok(_) => tell(&format!(
                "{} {name}: removed",
                object.get("kind").and_then(Value::as_str).unwrap_or_default()
            )),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
