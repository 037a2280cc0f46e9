//! `cocoon operator`: an operator for Kubernetes, and what a cluster needs for it.

use cocoon_cluster_node as node;
use cocoon_operator::manifests::{self, Shape};
use cocoon_operator::{Error, Settings, deploy};
use cocoon_stage::{Code, Failure};
use serde_json::json;

use crate::args::{
    NodeServeArgs, OperatorCommand, OperatorImageArgs, OperatorInstallArgs, OperatorManifestsArgs,
    OperatorRunArgs, OperatorShape, OperatorUninstallArgs,
};
use crate::signals::Signals;

/// Runs a subcommand.
pub async fn main(command: OperatorCommand) -> Result<(), Failure> {
    match command {
        OperatorCommand::Run(args) => run(args).await,
        OperatorCommand::Install(args) => install(args).await,
        OperatorCommand::Uninstall(args) => uninstall(args).await,
        OperatorCommand::Clean => {
            let client = client().await?;
            deploy::clean(&client, &mut |line| println!("{line}")).await.map_err(|e| failed(&e))
        }
        OperatorCommand::Manifests(args) => print(&args),
        OperatorCommand::Crds => {
            print!("{}", manifests::file(&manifests::definitions()));
            Ok(())
        }
        OperatorCommand::Image(args) => image(&args),
    }
}

/// `cocoon node serve`.
pub async fn serve(args: NodeServeArgs) -> Result<(), Failure> {
    crate::logging::set_cluster();
    let mut signals = Signals::new()?;
    let settings = node::Settings {
        node: args.node,
        revision: args.revision,
        root: args.root,
        payload: args.payload,
        // By this name the program is found where the child's file system has another one, or none.
        program: "/proc/self/exe".into(),
        arguments: vec!["node".into(), "step".into()],
    };
    let stop = async move {
        signals.next().await;
    };
    node::serve(settings, stop).await.map_err(|e| Failure::new(Code::Internal, e.to_string()))
}

fn shape(args: &OperatorShape) -> Shape {
    let default = Shape::default();
    Shape {
        image: args.image.clone().unwrap_or(default.image),
        namespace: args.namespace.clone(),
        pull_policy: args.pull_policy.clone(),
        pull_secrets: args.pull_secrets.clone(),
        replicas: args.replicas.into(),
        trustees: if args.trustees.is_empty() { vec![args.namespace.clone()] } else { args.trustees.clone() },
        webhook: args.webhook.into(),
    }
}

fn failed(e: &Error) -> Failure {
    Failure::new(Code::Internal, e.to_string())
}

async fn run(args: OperatorRunArgs) -> Result<(), Failure> {
    crate::logging::set_cluster();
    let mut signals = Signals::new()?;
    let settings = Settings {
        namespace: args.namespace,
        identity: args.identity,
        image: args.image,
        address: args.listen,
        trustees: args.trustees,
        webhook: args.webhook.then_some(args.webhook_listen),
    };
    let stop = async move {
        signals.next().await;
    };
    cocoon_operator::run(settings, stop).await.map_err(|e| failed(&e))
}

async fn client() -> Result<kube::Client, Failure> {
    kube::Client::try_default()
        .await
        .map_err(|e| Failure::new(Code::UsageInvalid, format!("kubeconfig: {e}")))
}

async fn install(args: OperatorInstallArgs) -> Result<(), Failure> {
    let shape = shape(&args.shape);
    let mut objects = manifests::objects(&shape, true);
    if !args.platforms.is_empty() {
        objects.push(json!({
            "apiVersion": "cocoon.dev/v1alpha1", "kind": "CocoonRuntime", "metadata": {"name": "cocoon"},
            "spec": {"platforms": args.platforms},
        }));
    }
    let client = client().await?;
    deploy::install(&client, &objects, &mut |line| println!("{line}")).await.map_err(|e| failed(&e))?;
    deploy::wait(&client, &shape.namespace).await.map_err(|e| failed(&e))?;
    println!("the operator runs");
    Ok(())
}

async fn uninstall(args: OperatorUninstallArgs) -> Result<(), Failure> {
    let objects = manifests::objects(&shape(&args.shape), true);
    deploy::uninstall(&client().await?, &objects, &mut |line| println!("{line}"))
        .await
        .map_err(|e| failed(&e))
}

fn print(args: &OperatorManifestsArgs) -> Result<(), Failure> {
    let shape = shape(&args.shape);
    let Some(folder) = &args.chart else {
        print!("{}", manifests::file(&manifests::objects(&shape, true)));
        return Ok(());
    };
    for file in manifests::chart(&shape) {
        let path = folder.join(&file.path);
        let written = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&path, file.content));
        written.map_err(|e| Failure::new(Code::UsageInvalid, format!("{}: {e}", path.display())))?;
        println!("{}", path.display());
    }
    Ok(())
}

fn image(args: &OperatorImageArgs) -> Result<(), Failure> {
    let own = || std::env::current_exe().unwrap_or_default();
    let program = args.program.clone().unwrap_or_else(own);
    let shim = args.shim.clone().unwrap_or_else(|| program.with_file_name(cocoon_node::pods::SHIM));
    let made = cocoon_operator::image::make(&program, &shim, &args.guest_image, &args.out, &args.tag);
    let digest = made.map_err(|e| Failure::new(Code::UsageInvalid, e.to_string()))?;
    println!("oci:{}:{} {digest}", args.out.display(), args.tag);
    Ok(())
}
