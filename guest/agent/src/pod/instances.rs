//! The life of an instance: built of image, secrets and mounts, started, signalled, removed.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use cocoon_plan::ContainerPlan;
use cocoon_plan::decide::Phase;
use cocoon_stage::{Failure, Stage};

use super::{Instance, Pod, refused};
use crate::container::{Container, HostPart, Mounts, Parts, SecretFile, Shared, Streams};
use crate::prepare::Preparation;

impl Pod {
    /// Builds an instance of a container once an image and all secrets are there. `make` makes what comes from the host by
    /// the very plan that the instance is built of, and what connects its standard streams.
    ///
    /// # Errors
    /// A refusal, also of `make`, or the coded failure of whatever kept it from being built.
    pub(crate) async fn create<F: Future<Output = Result<Streams, Failure>>>(
        self: &Arc<Self>,
        name: &str,
        make: impl FnOnce(&ContainerPlan) -> Result<(HostPart, F), Failure>,
    ) -> Result<Arc<Container>, Failure> {
        let (host, streams, plan, shared, preparation) = self.with(|running| {
            let (host, streams) = make(running.sandbox.named(name)?)?;
            let plan = running.sandbox.create(&host.id, name)?.clone();
            let instance = Instance { name: plan.name.clone(), built: None, execs: BTreeMap::new() };
            running.instances.insert(host.id.clone(), instance);
            Ok((host, streams, plan, Arc::clone(&running.shared), Arc::clone(&running.preparation)))
        })?;
        let mut host = host;
        let ready = match self.unseal_variables(&plan.name, &mut host, &preparation).await {
            Ok(()) => self.ready(&host.id, &plan, &preparation).await,
            Err(failure) => Err(failure),
        };
        let failure = match ready {
            Ok((rootfs, secrets, mounts)) => {
                let parts =
                    Parts { plan: &plan, rootfs: &rootfs, host: &host, secrets: &secrets, mounts: &mounts };
                match self.build(&shared, parts, streams).await {
                    Ok(container) => {
                        let container = Arc::new(container);
                        self.with(|running| {
                            if let Some(instance) = running.instances.get_mut(&host.id) {
                                instance.built = Some((Arc::clone(&container), rootfs));
                            }
                            Ok(())
                        })?;
                        return Ok(container);
                    }
                    Err(failure) => {
                        preparation.give_back(&plan.name, &rootfs).await;
                        failure
                    }
                }
            }
            Err(failure) => failure,
        };
        // Before the id may be asked for again: what it has then is another's.
        self.volumes.release(&host.id);
        self.with(|running| {
            running.sandbox.create_failed(&host.id);
            running.instances.remove(&host.id);
            Ok(())
        })?;
        Err(preparation.reported(failure).await)
    }

    /// Waits until all is there of which an instance is made.
    async fn ready(
        &self,
        id: &str,
        plan: &ContainerPlan,
        preparation: &Preparation,
    ) -> Result<(PathBuf, Arc<Vec<SecretFile>>, Mounts), Failure> {
        let (rootfs, secrets) = preparation.container(&plan.name).await?;
        match self.volumes.prepare(id, plan, preparation.space(), preparation).await {
            Ok(mounts) => Ok((rootfs, secrets, mounts)),
            Err(failure) => {
                preparation.give_back(&plan.name, &rootfs).await;
                self.events.fail(&failure, &plan.name);
                Err(failure)
            }
        }
    }

    async fn build(
        &self,
        shared: &Shared,
        parts: Parts<'_>,
        streams: impl Future<Output = Result<Streams, Failure>>,
    ) -> Result<Container, Failure> {
        let name = &parts.plan.name;
        self.events.begin(Stage::Start, name);
        let built = async {
            let streams = streams.await?;
            Ok(Container::create(&self.settings, shared, parts, streams).await?)
        };
        built.await.inspect_err(|failure: &Failure| self.events.fail(failure, name))
    }

    /// Starts a created instance.
    ///
    /// # Errors
    /// A refusal; `START-…`.
    pub(crate) async fn start(self: &Arc<Self>, id: &str) -> Result<Arc<Container>, Failure> {
        let (container, name) = self.with(|running| {
            // Looked for first: a start that comes too early must not move the plan's state machine.
            let found = running.built(id)?;
            running.sandbox.start(id)?;
            Ok(found)
        })?;
        if let Err(e) = container.start().await {
            let failure = Failure::from(e);
            self.events.fail(&failure, &name);
            let preparation = self.with(|running| Ok(Arc::clone(&running.preparation)))?;
            return Err(preparation.reported(failure).await);
        }
        self.events.end(Stage::Start, &name);
        self.events.begin(Stage::Serve, &name);
        let (events, watched) = (self.events.clone(), Arc::clone(&container));
        tokio::spawn(async move {
            watched.wait().await;
            events.end(Stage::Serve, &name);
        });
        Ok(container)
    }

    /// Sends a signal to an instance, where the plan lets it through now: to its own process, or to `all` of them.
    ///
    /// # Errors
    /// A refusal.
    pub(crate) fn signal(&self, id: &str, signal: u32, all: bool) -> Result<(), Failure> {
        let (container, _) = self.with(|running| {
            running.sandbox.signal(id, signal)?;
            running.built(id)
        })?;
        let sent = if all { container.signal_all(signal) } else { container.signal(signal) };
        Ok(sent?)
    }

    /// Has all processes of a running instance stand still, or go on. A host that may stop the whole VM, or send SIGSTOP,
    /// needs nobody's leave for it.
    ///
    /// # Errors
    /// A refusal; `START-…`.
    pub(crate) async fn hold(&self, id: &str, still: bool) -> Result<(), Failure> {
        let (container, _) = self.with(|running| match running.sandbox.phase(id) {
            Some(Phase::Running) => running.built(id),
            Some(_) => Err(refused(format!("pause or resume of {id:?}, which does not run"))),
            None => Err(refused(format!("pause or resume of {id:?}, which was not created"))),
        })?;
        Ok(container.hold(still).await?)
    }

    /// Removes an instance that does not run, with its files.
    ///
    /// # Errors
    /// A refusal.
    pub(crate) async fn remove(&self, id: &str) -> Result<Arc<Container>, Failure> {
        let (instance, container, rootfs, again, preparation) = self.with(|running| {
            running.built(id)?;
            running.sandbox.remove(id)?;
            let instance = running.instances.remove(id);
            let instance = instance.ok_or_else(|| refused(format!("{id:?} is not created yet")))?;
            let (container, rootfs) =
                instance.built.clone().ok_or_else(|| refused(format!("{id:?} is not created yet")))?;
            let again = running.sandbox.needs_image(&instance.name);
            Ok((instance, container, rootfs, again, Arc::clone(&running.preparation)))
        })?;
        container.destroy().await;
        for exec in instance.execs.values() {
            exec.gone();
        }
        self.volumes.release(id);
        // Space goes back to the pod in the background; nobody waits for it.
        tokio::spawn(async move { preparation.remove(&instance.name, &rootfs, again).await });
        Ok(container)
    }

    /// What an instance that ended has left in the file that the plan names.
    ///
    /// # Errors
    /// A refusal where the plan names none, or it has not ended.
    pub(crate) fn termination_message(&self, id: &str) -> Result<Vec<u8>, Failure> {
        let (container, _) = self.with(|running| match running.sandbox.phase(id) {
            Some(Phase::Ended(_)) => running.built(id),
            Some(_) => Err(refused(format!("termination message of {id:?}, which has not ended"))),
            None => Err(refused(format!("termination message of {id:?}, which was not created"))),
        })?;
        let message = container.termination_message()?;
        message.ok_or_else(|| refused(format!("termination message of {id:?}: the plan names no file")))
    }
}
